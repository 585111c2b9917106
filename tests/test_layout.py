"""The direction of imports, and the public names."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import likely
from likely.catalogue import flat, hyphenated, models

SOURCE = Path(likely.__file__).parent
LAYERS = [  # a part imports from itself and from lines above its own, never sideways and never from below
    {"errors"},
    {"distributions"},
    {"event"},
    {"density"},
    {"nn", "bases"},
    {"conditional"},
    {"discovery"},
    {"autoregressive", "classical", "flows"},
    {"latent"},
    {"catalogue"},
    {"store", "data"},
    {"jobs", "pictures", "index"},
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
    if part == "__init__":  # the public names, imported when they are used; the models' names come from the catalogue
        assert imported(file) <= {"catalogue"}
        return
    wrong = {other for other in imported(file) - {part} if RANK[other] >= RANK[part]}
    assert not wrong, f"{part} must not import {', '.join(sorted(wrong))}"


@pytest.mark.parametrize("name", sorted(likely._HOME))
def test_public_name_resolves(name: str) -> None:
    assert getattr(likely, name).__name__ == name


def test_public_names_and_models_are_listed() -> None:
    listed = dir(likely)
    assert len(listed) == len(set(listed))
    assert {*likely._HOME, *models()} <= set(listed)
    assert all(getattr(likely, name) is model for name, model in models().items())
    with pytest.raises(AttributeError, match="GatedPixelRNN"):
        likely.GatedPixelRNN  # noqa: B018


@pytest.mark.parametrize("module", ["likely", "likely.cli"])
def test_import_is_light(module: str) -> None:
    code = f"import sys, {module}; print([name for name in ('torch', 'numpy', 'pydantic') if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_model_has_a_file_of_its_name():
    """The command line takes a model's name from it."""
    assert all(flat(hyphenated(name)) == flat(name) for name in models())
