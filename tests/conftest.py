"""What all tests share: no line of progress appears because the machine is slow."""

import pytest


@pytest.fixture(autouse=True, scope="session")
def no_progress_by_the_clock():
    """Here and in the processes that tests start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIKELY_PROGRESS_SECONDS", "inf")
        yield
