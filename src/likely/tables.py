"""Tables as text and as HTML, for consoles and notebooks; and models that show their arguments."""

import inspect
from collections.abc import Sequence
from html import escape
from typing import Any


def text_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return rows with the same columns as lines of text; numbers stand to the right."""
    if not rows:
        return ""
    cells = [list(rows[0]), *([cell(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    right = [type(value) in (int, float) for value in rows[0].values()]
    return "\n".join(_line(line, widths, right) for line in cells)


def _line(line: list[str], widths: list[int], right: list[bool]) -> str:
    parts = [
        text.rjust(width) if number else text.ljust(width)
        for text, width, number in zip(line, widths, right, strict=True)
    ]
    return "  ".join(parts).rstrip()


def html_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return rows with the same columns as an HTML table."""
    if not rows:
        return "<table></table>"
    head = "".join(f"<th>{escape(name)}</th>" for name in rows[0])
    body = ["".join(f"<td>{escape(cell(value))}</td>" for value in row.values()) for row in rows]
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{line}</tr>' for line in body)}</table>"


def cell(value: Any) -> str:
    """Return a value as the text of a table's cell."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4f}"
    return str(value)


class Shown:
    """A base of modules that are built from arguments: they are shown in print and, in a notebook, as a table."""

    _modules: dict[str, Any]

    def extra_repr(self) -> str:
        """Return the arguments of the constructor, but for the parts that torch prints below."""
        return ", ".join(f"{name}={value}" for name, value in self._arguments().items())

    def _repr_html_(self) -> str:
        count = sum(parameter.numel() for parameter in getattr(self, "parameters")())  # noqa: B009  (of the module)
        return html_table([{"": type(self).__name__, **self._arguments(), "parameters": f"{count:,}"}])

    def _arguments(self) -> dict[str, Any]:
        """Return the constructor's arguments that are no modules, by name."""
        values = {name: getattr(self, name, None) for name in inspect.signature(type(self)).parameters}
        return {name: value for name, value in values.items() if name not in self._modules}
