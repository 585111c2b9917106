"""Limits to work that is counted, in place of seconds, which depend on the machine and on what else it does."""

import io
import sys
from types import FrameType


class TooMuchWorkError(AssertionError):
    """More calls than a test allows."""


class calls_below:  # noqa: N801
    """Nothing inside makes more calls of functions, Python's or C's; what would, is stopped.

    Attributes:
        made: how many calls there were.
    """

    def __init__(self, most: int) -> None:
        self.most, self.made = most, 0

    def __enter__(self) -> "calls_below":
        self.before = sys.getprofile()
        sys.setprofile(self._count)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(self.before)
        if self.made > self.most:  # also where the error was taken for another one inside
            raise TooMuchWorkError(f"more than {self.most:,} calls")

    def _count(self, frame: FrameType, event: str, argument: object) -> None:
        self.made += event.endswith("call")
        if self.made > self.most:
            raise TooMuchWorkError(f"more than {self.most:,} calls")


class Counted(io.BytesIO):
    """Bytes in memory that count what is read of them."""

    taken = 0

    def read(self, n: int | None = -1, /) -> bytes:
        """Read, and count."""
        found = super().read(n)
        self.taken += len(found)
        return found
