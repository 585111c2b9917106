"""`Run`: the contents of a run's config.json, read and checked in one place."""

import dataclasses
import importlib.metadata
import json
import platform
import re
import reprlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from likely.data import Preparation
from likely.errors import InputError, StoreError
from likely.runs.files import write_json
from likely.runs.recipe import Recipe

FORMAT = "likely-run/1"
CONFIG = "config.json"
JudgedOn = Literal["holdout", "file", "given"]


@dataclass(frozen=True)
class Origin:
    """Where the data of a fit come from.

    Attributes:
        source, context: name or path of the training data, and of their context; None: given in Python, or no context.
        fingerprint: of both, 64 hexadecimal digits.
        validation: the data that judge the fit: a fraction held out of the training data, a split of the same file,
            or data given in Python.
        holdout: that fraction.
    """

    source: str | None
    context: str | None
    fingerprint: str
    validation: JudgedOn
    holdout: float


@dataclass(frozen=True)
class Run:
    """A model that was saved, or a fit: its model, and how to go on with it.

    Attributes:
        model: class and arguments, as `configuration` returns them.
        data: where the data of a fit come from; None: a model that was saved.
        preparation: of the data; None: they are taken as they are.
        recipe: settings of the fit; None: a model that was saved.
        gradient: whether the fit takes gradient steps; else the model is estimated in closed form.
        versions: of the libraries that computed it.
        refusal: why the model cannot be frozen; None: it can, or nobody has tried.
        stored: config.json as it was read; its other fields are written again.
    """

    model: dict[str, Any]
    data: Origin | None = None
    preparation: Preparation | None = None
    recipe: Recipe | None = None
    gradient: bool = True
    versions: dict[str, str] = field(default_factory=dict)
    refusal: str | None = None
    stored: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def read(cls, path: str | Path) -> "Run":
        """Read the configuration of a run folder.

        Raises:
            StoreError: there is no run at the path, or a field is missing or not as expected; names file and field.
        """
        stored = _read_object(Path(path))
        try:
            return cls.from_json(stored)
        except InputError as error:
            raise StoreError(f"{Path(path) / CONFIG}: {error}") from error

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> "Run":
        """Build a run from the result of `to_json`.

        Raises:
            InputError: a field is missing or not as expected; names it.
        """
        _refuse_missing(stored)
        recipe, gradient = _recipe_of(stored)
        refusal = None
        if "frozen" in stored:
            refusal = _object(stored, "frozen", FROZEN)["refused"]
        return cls(
            model=_object(stored, "model", MODEL),
            data=_origin_of(stored),
            preparation=_preparation_of(stored),
            recipe=recipe,
            gradient=gradient,
            versions=_versions_of(stored),
            refusal=refusal,
            stored=stored,
        )

    def write(self, path: str | Path) -> None:
        """Write the configuration into a run folder, atomically.

        Raises:
            WriteError: it could not be written.
        """
        write_json(Path(path) / CONFIG, self.to_json())

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values: the fields that are known here, and others as they were read."""
        known: dict[str, Any] = {"format": FORMAT, "model": self.model}
        if self.data is not None and self.recipe is not None:
            known["data"] = self.stored.get("data", {}) | dataclasses.asdict(self.data)
            known["preparation"] = None if self.preparation is None else self.preparation.to_json()
            known["recipe"] = self._settings(self.recipe)
            known["versions"] = self.versions
        if self.refusal is not None:
            known["frozen"] = {"refused": self.refusal}
        others = {name: value for name, value in self.stored.items() if name != "frozen"}
        return others | known

    def _settings(self, recipe: Recipe) -> dict[str, Any]:
        """Return the recipe as JSON; of one that was read, settings newer than it only if they are no defaults."""
        settings: dict[str, Any] = dataclasses.asdict(recipe)
        if not self.gradient:
            settings["budget"] = None
        before = self.stored.get("recipe", settings)
        default = dataclasses.asdict(Recipe())
        changed = {name: value for name, value in settings.items() if name in before or value != default[name]}
        return before | changed

    @property
    def model_name(self) -> str:
        """The class of the model, without its package."""
        return self.model["class"].rpartition(".")[2]

    @property
    def source(self) -> str | None:
        """Name or path of the training data, None where there is none."""
        return None if self.data is None else self.data.source

    @property
    def context_source(self) -> str | None:
        """Name or path of the context of the training data, None where there is none."""
        return None if self.data is None else self.data.context

    @property
    def unknown_settings(self) -> list[str]:
        """Settings in the stored recipe that are unknown here; they change how a fit goes on, and no model."""
        return sorted(set(self.stored.get("recipe", {})) - SETTINGS)


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that compute a run."""
    libraries = {name: importlib.metadata.version(name) for name in ("likely", "torch", "numpy")}
    return {"python": platform.python_version(), **libraries}


# JSON → fields


class _Field(NamedTuple):
    """A field of a JSON object: words for the values that it may have, and a test of a value."""

    expected: str
    holds: Callable[[Any], bool]


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_text_or_null(value: Any) -> bool:
    return value is None or _is_text(value)


def _is_fingerprint(value: Any) -> bool:
    return _is_text(value) and re.fullmatch("[0-9a-f]{64}", value) is not None


def _is_fraction(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < 1


SETTINGS = {setting.name for setting in dataclasses.fields(Recipe)}
MODEL = {"class": _Field("the name of a class", _is_text)}
FROZEN = {"refused": _Field("a reason", _is_text)}
RECIPE = {"budget": _Field('an amount such as "5m", or null', _is_text_or_null)}
ORIGIN = {
    "source": _Field("a name, a path or null", _is_text_or_null),
    "context": _Field("a name, a path or null", _is_text_or_null),
    "fingerprint": _Field("64 hexadecimal digits", _is_fingerprint),
    "validation": _Field('"holdout", "file" or "given"', get_args(JudgedOn).__contains__),
    "holdout": _Field("a fraction from 0 to below 1", _is_fraction),
}


def _refuse_missing(stored: dict[str, Any]) -> None:
    if "recipe" not in stored:
        return
    for name in ("data", "preparation", "versions"):
        if name not in stored:
            raise InputError(f"{name} is missing, which a fit has")


def _object(stored: dict[str, Any], name: str, fields: dict[str, _Field]) -> dict[str, Any]:
    """Return a field that is an object, after a check of its own fields."""
    found = stored[name]
    if not _is_object(found):
        raise InputError(f"{name}: an object is expected, found {reprlib.repr(found)}")
    for key, one in fields.items():
        if key not in found:
            raise InputError(f"{name}.{key} is missing: {one.expected} is expected")
        if not one.holds(found[key]):
            raise InputError(f"{name}.{key}: {one.expected} is expected, found {reprlib.repr(found[key])}")
    return found


def _origin_of(stored: dict[str, Any]) -> Origin | None:
    if "data" not in stored:
        return None
    found = _object(stored, "data", ORIGIN)
    return Origin(**{name: found[name] for name in ORIGIN} | {"holdout": float(found["holdout"])})


def _preparation_of(stored: dict[str, Any]) -> Preparation | None:
    if stored.get("preparation") is None:
        return None
    with _named("preparation"):
        return Preparation.from_json(_object(stored, "preparation", {}))


def _recipe_of(stored: dict[str, Any]) -> tuple[Recipe | None, bool]:
    """Return the recipe, and whether it has a budget for gradient steps."""
    if "recipe" not in stored:
        return None, True
    found = _object(stored, "recipe", RECIPE)
    gradient = found["budget"] is not None
    known = SETTINGS if gradient else SETTINGS - {"budget"}
    with _named("recipe"):
        return Recipe.of({name: value for name, value in found.items() if name in known}), gradient


def _versions_of(stored: dict[str, Any]) -> dict[str, str]:
    found = stored.get("versions", {})
    if not _is_object(found) or not all(map(_is_text, found.values())):
        raise InputError(f"versions: an object of names and versions is expected, found {reprlib.repr(found)}")
    return found


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Turn any error inside, where something is made of a field, into one that names the field."""
    try:
        yield
    except Exception as error:
        said = " ".join(str(error).split())[:300].removeprefix(f"{name}: ")
        raise InputError(f"{name}: {said}") from error


def _read_object(path: Path) -> dict[str, Any]:
    """Read the JSON object of a run's configuration, and check its format."""
    file = path / CONFIG
    try:
        stored = json.loads(file.read_text("utf-8"))
    except FileNotFoundError as error:
        raise StoreError(
            f"{path} is not a run: {CONFIG} is missing (make one with `likely fit … --out {path}`)"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"{file} cannot be read as JSON: {error}") from error
    if not _is_object(stored) or stored.get("format") != FORMAT or "model" not in stored:
        raise StoreError(f'{file} is not the configuration of a run: "format": "{FORMAT}" and a model are expected')
    return stored
