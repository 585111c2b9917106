"""Wrong inputs, made from signatures and flags: each must end in one of the library's errors, of one line.

python wrong_inputs.py FOLDER prints one JSON object: how many were tried, and those that went wrong. It is a process of
its own because types are not checked in it, as they are in the tests, and because an empty folder must stay empty.
"""

import contextlib
import inspect
import io
import json
import math
import os
import resource
import sys
import typing
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import likely
from likely.catalogue import models
from likely.cli.app import app, main
from likely.errors import Error
from likely.event import Event
from likely.runs.recipe import Recipe

LONGEST = 600  # characters of an error
MEMORY = 8 << 30
STORED = {"no rows", "a symbol too large", "a symbol below zero", "halves", "NaN", "infinity"}  # a file holds any array
EVENTS = [Event((1, 4, 4), levels=2), Event((1, 4, 4), levels=4), Event((3,), levels=4), Event((2,))]
WRONG: dict[Any, list[Any]] = {
    int: ["8", 2.5, -1, None, math.nan, [3], 10**30],
    float: ["a", math.nan, -math.inf, [0.1], {}, None],
    tuple: ["8", (0,), (2.5,), ("a",), (-3,), 10**30, {}],
    str: ["nonsense", 3, "", [], b"raw"],
    bool: ["yes", 7, [], "no"],
}
Case = tuple[str, Callable[[], Any]]


def kind_of(annotation: Any) -> Any:
    """The kind of wrong values that an argument of some type can be given."""
    origin = typing.get_origin(annotation) or annotation
    if origin is typing.Literal:
        return str
    if origin in WRONG:
        return origin
    kinds = [kind_of(part) for part in typing.get_args(annotation)]
    return next((kind for kind in kinds if kind is not None), None)


def right(value: Any, annotation: Any) -> bool:
    """Whether a value is not wrong at all."""
    if value is None:
        return type(None) in typing.get_args(annotation)
    if isinstance(value, str):
        return str in (annotation, *typing.get_args(annotation))
    return False


def constructors() -> Iterator[Case]:
    """Every model of the catalogue with one argument that is wrong."""
    for name, model in models().items():
        event = next(event for event in EVENTS if takes(model, event))
        hints = typing.get_type_hints(model.__init__)
        for argument in inspect.signature(model).parameters:
            if argument in ("event", "context"):
                continue
            for value in WRONG.get(kind_of(hints[argument]), []):
                if not right(value, hints[argument]):
                    yield f"{name}({argument}={value!r})", lambda m=model, e=event, a=argument, v=value: m(e, **{a: v})
        for value in (None, 3, (3,), "digits", torch.zeros(2, 2)):
            yield f"{name}({value!r})", lambda m=model, v=value: m(v)


def takes(model: type, event: Event) -> bool:
    with contextlib.suppress(Error):
        model(event)
        return True
    return False


def settings() -> Iterator[Case]:
    """A fit with one setting that is wrong, which must not leave a folder."""
    x, hints = torch.randint(2, (20, 3)), typing.get_type_hints(Recipe)
    for name in (*hints, "holdout", "nonsense"):
        annotation = hints.get(name, float)
        for value in WRONG.get(kind_of(annotation), WRONG[float]):
            if value != 10**30 and not right(value, annotation):  # more steps than there is time for are none too many
                given = {"budget": "2 steps", name: value}
                model = likely.MADE(Event((3,), levels=2), hidden=(2,))
                yield f"fit({name}={value!r})", lambda m=model, g=given: likely.fit(m, x, out="run", **g)


def data() -> Iterator[Case]:
    """Every job with data that are not of the event."""
    model = likely.MADE(Event((3,), levels=2), hidden=(2,)).eval()
    frozen = likely.freeze(model, torch.randint(2, (20, 3)))
    wrong = {
        "a word": "digits?",
        "a number": 3,
        "None": None,
        "no rows": np.zeros((0, 3), int),
        "another width": np.zeros((4, 2), int),
        "another rank": np.zeros((4, 3, 1), int),
        "a symbol too large": np.full((4, 3), 2),
        "a symbol below zero": np.full((4, 3), -1),
        "halves": np.full((4, 3), 0.5),
        "NaN": np.full((4, 3), np.nan),
        "infinity": np.full((4, 3), np.inf),
        "text": np.array([["a", "b", "c"]] * 4),
        "objects": np.array([[object()] * 3] * 4),
        "complex numbers": np.zeros((4, 3), complex),
        "dates": np.zeros((4, 3), "datetime64[s]"),
        "a set": {1, 2, 3},
        "a scalar": np.float64(1.0),
    }
    jobs: dict[str, Callable[[Any], Any]] = {
        "log_prob": model.log_prob,
        "evaluate": lambda x: likely.evaluate(model, x),
        "fit": lambda x: likely.fit(likely.MADE(Event((3,), levels=2), hidden=(2,)), x, budget="1 steps", out="run"),
        "infill": lambda x: likely.infill(model, x, np.ones(3, bool)),
        "compress": lambda x: likely.compress(frozen, x, "file.lk"),
        "freeze": lambda x: likely.freeze(model, x),
        "check_model": lambda x: likely.check_model(model, np.array("none") if x is None else x),
        "compare": lambda x: likely.compare({"a": model}, x),
        "sample": lambda x: model.sample(2, np.zeros(1) if x is None else x),
    }
    for job, call in jobs.items():
        for name, x in wrong.items():
            if job == "compress" and name in STORED:
                continue
            yield f"{job} of {name}", lambda c=call, x=x: c(x)
    for n in (0, -1, 2.5, "2", None, True, 10**19, math.nan):
        yield f"sample({n!r})", lambda n=n: model.sample(n)
    for path in ("nowhere", 3, None, "", "/dev/null", "."):
        yield f"load({path!r})", lambda p=path: likely.load(p)
        yield f"decompress({path!r})", lambda p=path: likely.decompress(p, frozen)
        yield f"resume({path!r})", lambda p=path: likely.resume(p)
        yield f"data.load({path!r})", lambda p=path: likely.data.load(p, "train")


def commands() -> Iterator[Case]:
    """Every command without arguments, with a flag that it does not have, with files that are not there or are none."""
    names = [name for name in app if not name.startswith("-")]
    Path("../not-a-file.bin").write_bytes(bytes(range(256)))
    Path("../words.csv").write_text("a,b\n1,two\n")
    Path("../empty.npy").write_bytes(b"")
    for name in names:
        for arguments in (["--nonsense"], ["nowhere", "nowhere"], ["", ""], ["../not-a-file.bin", "../words.csv"]):
            yield f"likely {name} {' '.join(arguments)}", lambda n=name, a=arguments: command(n, *a)
    for source in ("nowhere.npy", "../not-a-file.bin", "../words.csv", "../empty.npy", "digitz", "digits:nothing"):
        yield f"likely fit made {source}", lambda s=source: command("fit", "made", s)
    for flag, value in [
        *[("--budget", value) for value in ("", "5", "5 parsecs", "-3s", "nan s", "0 steps", "1e999s")],
        *[("--hidden", value) for value in ("a", "0", "1,,x", "2.5", "-1")],
        *[("--seed", value) for value in ("-1", "a", "1e30")],
        *[("--batch-size", value) for value in ("0", "-2", "a")],
        *[("--learning-rate", value) for value in ("0", "-1", "nan", "a")],
        *[("--threads", value) for value in ("0", "a", "100000")],
        *[("--device", value) for value in ("", "abacus", "meta")],
        *[("--binarize", value) for value in ("2", "-1", "a", "nan")],
        *[("--levels", value) for value in ("0", "-3", "a", "1e9")],
        *[("--holdout", value) for value in ("1", "-1", "nan", "a")],
        *[("--context", value) for value in ("nowhere", "digits:nothing")],
        *[("--config", value) for value in ("nowhere.toml", "../words.csv")],
        *[("--out", value) for value in ("", "/dev/null/run", "../words.csv/run")],
    ]:
        yield f"likely fit made digits {flag} {value!r}", lambda f=flag, v=value: command("fit", "made", "digits", f, v)


def command(*arguments: str) -> None:
    """Run a command; anything but one line on standard error and an exit code of 1 or 2 is an error of ours."""
    out, err = io.StringIO(), io.StringIO()
    code: Any = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(list(arguments))
        except SystemExit as ended:
            code = ended.code
    said = err.getvalue()
    if code in (1, 2) and said.startswith("likely: ") and said.count("\n") == 1:
        raise Error(said.removeprefix("likely: ").rstrip())
    if code != 0:
        raise AssertionError(f"exit {code}, {said!r}")


def fault(call: Callable[[], Any]) -> str | None:
    """What is wrong with the end of a call; None: it ended in one of the library's errors."""
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            call()
    except Error as error:
        said = str(error)
        if "\n" in said or not 10 <= len(said) <= LONGEST:
            return f"{len(said)} characters: {said!r}"
        return None
    except BaseException as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    return "accepted"


def found() -> tuple[int, dict[str, str]]:
    tried, faults = 0, {}
    for cases in (constructors, settings, data, commands):
        for name, call in cases():
            tried += 1
            if "-v" in sys.argv:
                print(name, file=sys.stderr, flush=True)
            wrong = fault(call)
            left = os.listdir()
            if wrong is None and left:
                wrong = f"left {left}"
            for path in left:
                os.rename(path, f"../left-{tried}-{path}")
            if wrong is not None:
                faults[name] = wrong
    return tried, faults


if __name__ == "__main__":
    os.chdir(sys.argv[1])
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    tried, faults = found()
    print(json.dumps({"tried": tried, "faults": faults}, indent=1))
