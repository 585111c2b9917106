"""`--import`: modules of one's own, imported before a command runs."""

import importlib
import importlib.util
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

from likely.errors import InputError

FLAG = "--import"


def import_first(arguments: list[str]) -> list[str]:
    """Import every FILE.py and every dotted name given by --import, and return the other arguments.

    Raises:
        InputError: there is no such module, it raises an error, or its name is that of another one.
    """
    others: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.partition("=")
        if name != FLAG:
            others.append(argument)
            continue
        _imported(value if equals else next(rest, ""))
    return others


def _imported(name: str) -> None:
    if not name:
        raise InputError(f"{FLAG}: a file such as mine.py, or a module's dotted name, is expected")
    try:
        if name.endswith(".py"):
            _of_file(Path(name))
        else:
            importlib.import_module(name)
    except InputError:
        raise
    except Exception as error:
        cause = " ".join(str(error).split())[:300]
        raise InputError(f"{FLAG} {name}: {type(error).__name__}: {cause}") from error


def _of_file(path: Path) -> None:
    """Import a file under its name; once."""
    if not path.is_file():
        raise InputError(f"{FLAG} {path}: no such file")
    found = _spec(path.stem)
    if found is not None and not _is_at(found, path):
        raise InputError(f"{FLAG} {path}: there is another module named {path.stem}; rename the file")
    if path.stem in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        raise


def _spec(name: str) -> ModuleSpec | None:
    if name in sys.modules:
        return sys.modules[name].__spec__
    return importlib.util.find_spec(name)


def _is_at(spec: ModuleSpec, path: Path) -> bool:
    return spec.origin is not None and Path(spec.origin).resolve() == path.resolve()
