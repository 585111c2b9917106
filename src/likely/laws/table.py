"""What a check of the laws returns: one row per law."""

import math
from dataclasses import asdict, dataclass
from typing import Literal, NamedTuple

from likely.errors import Error


class Measured(NamedTuple):
    """What a law found: a value to hold against its limit, and a remark."""

    value: float
    remark: str = ""


class NotApplicable(Exception):  # noqa: N818 - a verdict, not an error
    """Raised by a law that does not apply, with the reason."""


@dataclass(frozen=True)
class LawRow:
    """One law and what became of it.

    Attributes:
        name: of the law.
        value: what was measured, where a number was reached.
        limit: what the value is held against.
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
        remark = f": {self.remark}" if self.remark else ""
        if self.verdict == "not applicable":
            return f"{self.name:<26} {'':>21}   {self.verdict}{remark}"
        value = "-" if self.value is None else f"{self.value:.3g}"
        return f"{self.name:<26} {value:>9} {'≥' if self.at_least else '≤'} {self.limit:<9.3g}   {self.verdict}{remark}"


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
        return "\n".join([f"{self.model}: {len(self.ran)} laws apply, {len(self.broken)} broken", *map(str, self.rows)])

    __repr__ = __str__

    def to_json(self) -> dict:
        """The table as JSON values; a number that JSON lacks (inf, nan) as text."""

        def plain(value: object) -> object:
            return str(value) if isinstance(value, float) and not math.isfinite(value) else value

        return {"model": self.model, "laws": [{k: plain(v) for k, v in asdict(row).items()} for row in self.rows]}


class LawsBroken(Error):  # noqa: N818 - what the field calls it
    """A model breaks a law; `table` has every measured value."""

    exit_code = 1

    def __init__(self, table: LawTable) -> None:
        self.table = table
        found = "; ".join(" ".join(str(row).split()) for row in table.broken)
        super().__init__(f"{table.model} breaks {len(table.broken)} of {len(table.ran)} laws: {found}")
