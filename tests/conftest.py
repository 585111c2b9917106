"""What tests share: checks of types, progress by no clock, Ctrl-C that arrives, and what workers run together."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from shapes import check_some_calls

check_some_calls()

# Files whose fixtures take long: run by one worker, they are made once. Files of one name share theirs.
TOGETHER = {
    "coding/test_matrix.py": "matrix",
    "coding/test_bits_back.py": "bits back",
    "coding/test_codec.py": "frozen models",
    "coding/test_frozen.py": "frozen models",
    "cli/test_cli.py": "command line",
    "cli/test_coding_commands.py": "compression",
}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Hand tests to workers one by one, and those of a name together."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = Path(nodeid.split("::")[0])
            return TOGETHER.get(f"{file.parent.name}/{file.name}", nodeid)

    return Scheduling(config, log)


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
