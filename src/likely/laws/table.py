"""The result of a check of the laws: one row per law."""

import math
from dataclasses import asdict, dataclass
from typing import Literal, NamedTuple

from likely.errors import Error


class Measured(NamedTuple):
    """The result of a law: a value to compare with its limit, and a remark."""

    value: float
    remark: str = ""


class NotApplicable(Exception):  # noqa: N818 - a verdict, not an error
    """Raised by a law that does not apply, with the reason."""


@dataclass(frozen=True)
class LawRow:
    """One law and its verdict.

    Attributes:
        name: of the law.
        value: the measured value, if the measurement came to an end.
        limit: the smallest or largest allowed value.
        at_least: whether the limit is the smallest allowed value (else the largest).
        verdict: "kept", "broken" or "not applicable".
        remark: the reason, the worst case or the error.
    """

    name: str
    value: float | None
    limit: float
    at_least: bool
    verdict: Literal["kept", "broken", "not applicable"]
    remark: str = ""

    def __str__(self) -> str:
        verdict: str = self.verdict
        if self.remark:
            verdict += f": {self.remark}"
        if self.verdict == "not applicable":
            return f"{self.name:<26} {'':>21}   {verdict}"
        value = "-" if self.value is None else f"{self.value:.3g}"
        sign = "≥" if self.at_least else "≤"
        return f"{self.name:<26} {value:>9} {sign} {self.limit:<9.3g}   {verdict}"


@dataclass(frozen=True, repr=False)
class LawTable:
    """The laws as one model keeps them; prints as a table."""

    model: str
    rows: tuple[LawRow, ...]

    @property
    def broken(self) -> tuple[LawRow, ...]:
        """The laws that are not kept."""
        return tuple(row for row in self.rows if row.verdict == "broken")

    @property
    def ran(self) -> tuple[str, ...]:
        """Names of the laws that applied."""
        return tuple(row.name for row in self.rows if row.verdict != "not applicable")

    def __getitem__(self, name: str) -> LawRow:
        return {row.name: row for row in self.rows}[name]

    def __str__(self) -> str:
        heading = f"{self.model}: {len(self.ran)} laws apply, {len(self.broken)} broken"
        return "\n".join([heading, *map(str, self.rows)])

    __repr__ = __str__

    def to_json(self) -> dict:
        """Return the table as JSON values; a number that JSON lacks (inf, nan) as text."""
        laws = [{name: _plain(value) for name, value in asdict(row).items()} for row in self.rows]
        return {"model": self.model, "laws": laws}


def _plain(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


class LawsBroken(Error):  # noqa: N818 - what the field calls it
    """A model breaks a law; `table` has every measured value."""

    exit_code = 1

    def __init__(self, table: LawTable) -> None:
        self.table = table
        found = "; ".join(" ".join(str(row).split()) for row in table.broken)
        super().__init__(f"{table.model} breaks {len(table.broken)} of {len(table.ran)} laws: {found}")
