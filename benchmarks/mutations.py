"""Put deliberate faults into a copy of the code, one at a time, and see which of them the tests catch.

    python benchmarks/mutations.py [--source TREE] [--only WORDS …] [--limit SECONDS] [--control] [--json FILE]

Prints a line for each of the forty faults of `faults.py`: caught, by which test; not caught; not applied, where the
text that is to be replaced is not there; or unknown, where its tests are not there or took too long. The tree itself is
never touched. With --control nothing is changed, and every selection of tests must pass.
"""

import argparse
import json
import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from faults import FAULTS, Fault

ROOT = Path(__file__).parents[1]
PASSED, FAILED, STOPPED = 0, 1, 2  # pytest's exit statuses; others say that no test was run, or it was killed
MEMORY = 6 << 30  # bytes, for what a fault makes endless
FAILURE = re.compile(r"^(?:FAILED|ERROR) (\S+\.py(?:::.*?)?)(?: - .*)?$", re.MULTILINE)


@dataclass
class Outcome:
    """What became of a fault.

    Attributes:
        name: the fault's.
        verdict: "caught", "not caught", "not applied" or "unknown".
        file: where it was put in.
        test: the first test that failed.
        seconds: that its tests took.
    """

    name: str
    verdict: str
    file: str = ""
    test: str = ""
    seconds: float = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, default=ROOT, help="a checkout; the default is this one")
    parser.add_argument("--only", nargs="+", default=[""], help="words, one of which is in a fault's name")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds for a selection of tests")
    parser.add_argument("--control", action="store_true", help="run the selections without a fault")
    parser.add_argument("--json", type=Path, help="where outcomes are written, as they come")
    given = parser.parse_args()
    chosen = [fault for fault in FAULTS if any(word in fault.name for word in given.only)]
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as temporary:
        tree = copied(given.source, Path(temporary) / "tree")
        for fault in chosen:
            outcomes.append(controlled(tree, fault, given.limit) if given.control else tried(tree, fault, given.limit))
            print(line(outcomes[-1]), flush=True)
            if given.json is not None:
                given.json.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1) + "\n")
    verdicts = [outcome.verdict for outcome in outcomes]
    print(", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in sorted(set(verdicts))))


def line(outcome: Outcome) -> str:
    where = outcome.test or outcome.file
    return f"{outcome.verdict:12} {outcome.name:72} {outcome.seconds:5.0f} s  {where}"


def copied(source: Path, tree: Path) -> Path:
    """The files of a checkout, those that are not committed too."""
    command = ["git", "-C", str(source), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, capture_output=True, check=True, text=True).stdout.split("\0")
    for name in filter(None, names):
        if (source / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, tree / name)
    return tree


def tried(tree: Path, fault: Fault, limit: float) -> Outcome:
    """Put a fault in, run its tests, and take it out again."""
    place = found(tree, fault)
    if place is None:
        return Outcome(fault.name, "not applied")
    file, text, wrong = place
    name = str(file.relative_to(tree))
    file.write_text(wrong, "utf-8")
    try:
        verdict, test, seconds = verdict_of(tree, fault, limit)
    finally:
        file.write_text(text, "utf-8")
    return Outcome(fault.name, verdict, name, test, seconds)


def found(tree: Path, fault: Fault) -> tuple[Path, str, str] | None:
    """The file that a fault is put into, and its text without and with it."""
    texts = {file: file.read_text("utf-8") for file in (tree / "src").rglob("*.py")}
    for right, wrong in fault.texts:
        files = [file for file, text in texts.items() if right in text]
        if len(files) == 1 and texts[files[0]].count(right) == 1:
            return files[0], texts[files[0]], texts[files[0]].replace(right, wrong)
    return None


def verdict_of(tree: Path, fault: Fault, limit: float) -> tuple[str, str, float]:
    """The verdict, the first test that failed, and the seconds that it took."""
    started, verdict = time.monotonic(), "unknown"
    for selection in fault.tests:
        status, test = run(tree, selection, limit)
        if status in (FAILED, STOPPED):
            return "caught", test, time.monotonic() - started
        if status == PASSED:
            verdict = "not caught"
    return verdict, "", time.monotonic() - started


def controlled(tree: Path, fault: Fault, limit: float) -> Outcome:
    """Run a fault's tests without it: "passed", or the first test that fails."""
    started = time.monotonic()
    for selection in fault.tests:
        status, test = run(tree, selection, limit)
        if status in (FAILED, STOPPED):
            return Outcome(fault.name, "fails", "", test or selection, time.monotonic() - started)
    return Outcome(fault.name, "passed", "", "", time.monotonic() - started)


def run(tree: Path, selection: str, limit: float) -> tuple[int | None, str]:
    """pytest's exit status (None: too long) and the first test that failed."""
    arguments = [located(tree, word) for word in shlex.split(selection)]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *arguments]
    own = {"PYTHONPATH": str(tree / "src"), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    try:
        ended = subprocess.run(
            command,
            cwd=tree,
            env=os.environ | own,
            capture_output=True,
            text=True,
            timeout=limit,
            check=False,
            preexec_fn=bounded,
        )
    except subprocess.TimeoutExpired:
        return None, ""
    failure = FAILURE.search(ended.stdout)
    return ended.returncode, failure[1] if failure else ""


def bounded() -> None:
    """Hold the process to so much memory."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))


def located(tree: Path, word: str) -> str:
    """A test file by its path, which a selection gives by its name alone."""
    name, separator, rest = word.partition("::")
    files = sorted((tree / "tests").rglob(name)) if name.endswith(".py") else []
    return f"{files[0].relative_to(tree)}{separator}{rest}" if files else word


if __name__ == "__main__":
    main()
