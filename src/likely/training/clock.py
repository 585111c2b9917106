"""Time as a fit sees it."""

from collections.abc import Callable

Clock = Callable[[], float]  # seconds, from any beginning
