"""The interval between lines of progress where standard error is no terminal."""

import os
import time
from collections.abc import Callable

from likely.errors import InputError

VARIABLE = "LIKELY_PROGRESS_SECONDS"
SECONDS = "10"


class Interval:
    """Says when it is time for a line: every ten seconds, or as LIKELY_PROGRESS_SECONDS says ("inf": never).

    Args:
        clock: seconds, from any beginning.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock, self.seconds, self.last = clock, interval(), clock()

    def over(self) -> bool:
        """Return whether the interval is over; if so, the next one begins."""
        now = self.clock()
        if now - self.last < self.seconds:
            return False
        self.last = now
        return True


def interval() -> float:
    """Return the seconds between two lines, 10 or as the environment says."""
    text = os.environ.get(VARIABLE, SECONDS)
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not seconds >= 0:
        raise InputError(f"{VARIABLE}: seconds of at least 0 (inf: never) are expected, found {text!r}")
    return seconds
