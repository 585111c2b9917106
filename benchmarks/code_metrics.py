"""How the library's code reads, in numbers, by package.

    python benchmarks/code_metrics.py [FOLDER] [--json]

FOLDER is a checkout, its src or the package itself, by default this checkout; another stands for comparison. Lines of
code are those with anything but blanks, comments and docstrings. Tokens are counted per line of code, a string with
fields as one; conditional expressions and calls of isinstance per 1,000 lines of code; words and semicolons per 1,000
words of docstrings. A function's length is the lines of code of its body. A repeated run is six or more lines of code
that stand elsewhere too, imports, signatures and fields of classes apart. The bar for isinstance is 10 in coding and
in jobs.
"""

import argparse
import ast
import io
import json
import re
import statistics
import tokenize
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

RUN = 6  # lines that make a repeated run
LONG = 400  # lines of a file
IGNORED = {
    *(tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.COMMENT, tokenize.ENCODING),
    *(tokenize.ENDMARKER,),
}
BARS = {
    "tokens per line": 9.5,
    "conditional expressions": 15,
    "isinstance": 6,
    "what, which, whose": 5,
    "median function": 5,
    "p90 function": 16,
    "longest function": 50,
    "longest file": LONG,
    "repeated runs": 0,
}


@dataclass
class Counts:
    """What is counted in one file, or added up over several."""

    lines: int = 0
    code: int = 0
    tokens: int = 0
    conditionals: int = 0
    isinstance: int = 0
    words: int = 0
    questions: int = 0
    semicolons: int = 0
    functions: list[tuple[int, str]] = field(default_factory=list)  # lines of the body, name
    files: list[tuple[int, str]] = field(default_factory=list)

    def add(self, other: "Counts") -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def rates(self) -> dict[str, float]:
        sizes = sorted(size for size, _ in self.functions) or [0]
        thousands, words = max(1, self.code) / 1000, max(1, self.words) / 1000
        return {
            "lines": self.lines,
            "tokens per line": self.tokens / max(1, self.code),
            "conditional expressions": self.conditionals / thousands,
            "isinstance": self.isinstance / thousands,
            "what, which, whose": self.questions / words,
            "semicolons": self.semicolons / words,
            "median function": statistics.median(sizes),
            "p90 function": sizes[int(0.9 * (len(sizes) - 1))],
            "longest function": sizes[-1],
            "longest file": max(size for size, _ in self.files) if self.files else 0,
        }


def docstrings(tree: ast.AST) -> list[ast.Constant]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                found.append(first.value)
    return found


def span(node: ast.stmt | ast.expr) -> range:
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)


def covered(nodes: list[ast.Constant]) -> set[int]:
    return {line for node in nodes for line in span(node)}


def body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef, hidden: set[int]) -> int:
    """Lines of the body without docstring and blank lines."""
    return len({line for statement in node.body for line in span(statement)} - hidden)


def tokens(text: str) -> list[int]:
    """Return the line of each token; a string with fields is one, as before Python 3.12."""
    starts, ends = getattr(tokenize, "FSTRING_START", None), getattr(tokenize, "FSTRING_END", None)
    lines, depth = [], 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        depth -= token.type == ends
        if depth == 0 and token.type not in IGNORED | {starts}:
            lines.append(token.start[0])
        depth += token.type == starts
    return lines


def measure(path: Path, name: str) -> Counts:
    text = path.read_text("utf-8")
    tree, lines = ast.parse(text), text.splitlines()
    documented = docstrings(tree)
    hidden = covered(documented)
    blank = {number for number, line in enumerate(lines, 1) if not line.strip() or line.strip().startswith("#")}
    counts = Counts(lines=len(lines), code=len(lines) - len(hidden | blank), files=[(len(lines), name)])
    counts.tokens = sum(line not in hidden for line in tokens(text))
    for node in ast.walk(tree):
        counts.conditionals += isinstance(node, ast.IfExp)
        counts.isinstance += isinstance(node, ast.Call) and getattr(node.func, "id", "") == "isinstance"
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            counts.functions.append((body_lines(node, hidden | blank), f"{name}:{node.name}"))
    for node in documented:
        words = re.findall(r"[\w’']+", str(node.value))
        counts.words += len(words)
        counts.questions += sum(word.lower() in ("what", "which", "whose") for word in words)
        counts.semicolons += str(node.value).count(";")
    return counts


def statements(path: Path) -> list[tuple[int, str]]:
    """Lines of code that may repeat: no imports, signatures, decorators, flags or docstrings."""
    text = path.read_text("utf-8")
    tree, lines = ast.parse(text), text.splitlines()
    skipped = covered(docstrings(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            skipped |= set(span(node))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            skipped |= set(range(node.lineno, node.body[0].lineno))
        if isinstance(node, ast.ClassDef):
            skipped |= {line for field in node.body if isinstance(field, ast.AnnAssign) for line in span(field)}
    kept = ((number, " ".join(line.split())) for number, line in enumerate(lines, 1) if number not in skipped)
    return [
        (number, line) for number, line in kept if line and not line.startswith("#") and line not in (")", "]", "}")
    ]


def repeats(files: list[tuple[Path, str]]) -> list[str]:
    """Places where six lines or more stand that stand elsewhere too; each run is named once."""
    places: dict[tuple[str, ...], list[tuple[str, int]]] = defaultdict(list)
    for path, name in files:
        lines = statements(path)
        for i in range(len(lines) - RUN + 1):
            window = lines[i : i + RUN]
            places[tuple(line for _, line in window)].append((name, window[0][0]))
    pairs: Counter[str] = Counter()
    for where in places.values():
        if len(where) > 1:
            pairs[" and ".join(f"{name}:{line}" for name, line in where)] += 1
    named, last = [], ("", -RUN)
    for pair in sorted(pairs, key=lambda pair: (pair.split(":")[0], int(pair.split(":")[1].split()[0]))):
        name, line = pair.split(":")[0], int(pair.split(":")[1].split()[0])
        if name != last[0] or line > last[1] + RUN:
            named.append(pair)
        last = name, line
    return named


def package(folder: Path) -> Path:
    """Return the package's folder, given that, its parent or a checkout."""
    for candidate in (folder / "src" / "likely", folder / "likely", folder):
        if (candidate / "__init__.py").is_file():
            return candidate
    raise SystemExit(f"no Python package in {folder}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", default=Path(__file__).parents[1], type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    folder = package(options.folder)
    files = [(path, str(path.relative_to(folder))) for path in sorted(folder.rglob("*.py"))]
    packages: dict[str, Counts] = defaultdict(Counts)
    for path, name in files:
        counts = measure(path, name)
        for room in (name.split("/")[0] if "/" in name else "(top)", "all"):
            packages[room].add(counts)
    whole, runs = packages["all"], repeats(files)
    result = {
        "packages": {name: counts.rates() for name, counts in packages.items()},
        "longest functions": sorted(whole.functions, reverse=True)[:5],
        f"files over {LONG} lines": sorted((f for f in whole.files if f[0] > LONG), reverse=True),
        "repeated runs": runs,
    }
    if options.json:
        print(json.dumps(result, indent=2))
        return
    show(result)


def show(result: dict) -> None:
    columns = list(next(iter(result["packages"].values())))
    print(f"{'':16}" + "".join(f"{column[:13]:>14}" for column in columns))
    for name, rates in result["packages"].items():
        print(f"{name:16}" + "".join(f"{rates[column]:>14.4g}" for column in columns))
    print(f"{'bar':16}" + "".join(f"{BARS.get(column, ''):>14}" for column in columns))
    for heading in list(result)[1:]:
        print(f"{heading}: {len(result[heading])}")
        for entry in result[heading]:
            print("   ", entry if isinstance(entry, str) else f"{entry[0]} {entry[1]}")


if __name__ == "__main__":
    main()
