"""What tests share: no line of progress appears because the machine is slow, and Ctrl-C arrives where it is tested."""

import signal
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="session")
def no_progress_by_the_clock():
    """Here and in the processes that tests start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIKELY_PROGRESS_SECONDS", "inf")
        yield


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C interrupts this process and those that it starts, also where pytest was started in the background.

    What a shell starts there ignores SIGINT, and so does every process that it starts in its turn.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
