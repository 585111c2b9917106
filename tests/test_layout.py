"""The direction of imports, and the public names."""

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import likely
from likely.catalogue import FAMILIES, flat, hyphenated, is_model, models

SOURCE = Path(likely.__file__).parent
LAYERS = [  # a part imports from itself and from lines above its own, never sideways and never from below
    {"errors", "tables"},
    {"arguments"},
    {"distributions"},
    {"event"},
    {"rows"},
    {"scoring"},
    {"density"},
    {"nn"},
    {"densities"},
    {"autoregressive", "classical", "flows"},
    {"latent"},
    {"catalogue"},
    {"data"},
    {"runs"},
    {"jobs", "pictures"},
    {"coding"},
    {"training"},
    {"laws"},
    {"cli"},
]
RANK = {part: rank for rank, parts in enumerate(LAYERS) for part in parts}
FILES = sorted(SOURCE.rglob("*.py"))


def imported(file: Path) -> set[str]:
    """The parts of the library that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names |= {f"likely.{alias.name}" for alias in node.names} if node.module == "likely" else {node.module}
    return {name.split(".")[1] for name in names if name.startswith("likely.")}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_imports_point_one_way(file: Path) -> None:
    part = file.relative_to(SOURCE).parts[0].removesuffix(".py")
    if part == "__init__":  # the public names are imported when they are used
        assert not imported(file)
        return
    wrong = {other for other in imported(file) - {part} if RANK[other] >= RANK[part]}
    assert not wrong, f"{part} must not import {', '.join(sorted(wrong))}"


@pytest.mark.parametrize("name", sorted(likely._homes()))
def test_public_name_resolves(name: str) -> None:
    value = getattr(likely, name)
    assert value.__name__ in (name, f"likely.{name}")


def test_public_names_are_listed() -> None:
    listed = dir(likely)
    assert len(listed) == len(set(listed))
    assert set(likely._homes()) <= set(listed)
    with pytest.raises(AttributeError, match="GatedPixelRNN"):
        likely.GatedPixelRNN  # noqa: B018


def test_lists_files_and_catalogue_agree() -> None:
    """Every model of a family's files is in the family's list, in the catalogue and among the public names."""
    for family in FAMILIES:
        defined = models_defined_in(family)
        listed = {name: value for name, value in models().items() if getattr(family, name, None) is value}
        assert defined == listed, family.__name__
    assert {name: getattr(likely, name) for name in models()} == models()
    assert {name for name, home in likely._homes().items() if home in HOMES} == set(models())


HOMES = {family.__name__ for family in FAMILIES}


def models_defined_in(family: ModuleType) -> dict[str, type]:
    found = {}
    for info in pkgutil.walk_packages(family.__path__, f"{family.__name__}."):
        module = importlib.import_module(info.name)
        own = {name: value for name, value in vars(module).items() if getattr(value, "__module__", "") == info.name}
        found |= {name: value for name, value in own.items() if name[0] != "_" and is_model(value)}
    return found


@pytest.mark.parametrize("name", sorted(likely.MOVED))
def test_names_of_the_release_before_work_with_a_warning(name: str) -> None:
    with pytest.warns(DeprecationWarning, match=f"likely.{name} is likely"):
        assert getattr(likely, name).__name__ == likely.MOVED[name]


@pytest.mark.parametrize("module", ["likely", "likely.cli"])
def test_import_is_light(module: str) -> None:
    code = f"import sys, {module}; print([name for name in ('torch', 'numpy', 'pydantic') if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_model_has_a_file_of_its_name():
    """The command line takes a model's name from it."""
    assert all(flat(hyphenated(model)) == flat(name) for name, model in models().items())
