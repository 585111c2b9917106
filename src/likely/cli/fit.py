"""`likely fit`: a command per model; its flags are the constructor's arguments, with help from the docstring."""

import dataclasses
import inspect
import re
import typing
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, count
from pathlib import Path
from typing import Annotated, Any, Literal

import docstring_parser
from cyclopts import App, Parameter
from cyclopts.config import Toml

from likely.catalogue import find, hyphenated, models
from likely.cli.common import Context, Device, Json, Threads, conclude, use
from likely.cli.output import Console
from likely.cli.warned import warnings_as_lines
from likely.data import Reading, load, load_validation
from likely.data.formats.columns import names_of
from likely.density import Density
from likely.errors import InputError
from likely.event import Event
from likely.runs.recipe import Recipe
from likely.training import fit, plan

Binarize = Annotated[str | None, Parameter(help='Threshold such as 0.5 of the peak, or "stochastic".')]
Levels = Annotated[
    int | None, Parameter(help="Size of the alphabet; unset: 256 for 8-bit images, else the largest value + 1.")
]
OWN = {"event", "context", "seed"}  # of the constructor: not flags, or shared with the recipe


def fit_app(arguments: Sequence[str]) -> App:
    """Return the command `fit`, and below it that of the named model, or of every one."""
    app = App(
        name="likely fit",
        help="Fit a model to data: `likely fit MODEL --help` shows its flags.",
        suppress_keyboard_interrupt=False,  # main says where it stopped
    )
    given = [(i, argument) for i, argument in enumerate(arguments) if argument.partition("=")[0] == "--config"]
    if given:
        place, argument = given[-1]
        app.config = _Settings(argument.partition("=")[2] or "".join(arguments[place + 1 : place + 2]))
    for argument in arguments:
        if argument.partition("=")[0] in ("--epochs", "--steps"):
            unit = argument.partition("=")[0][2:]
            raise InputError(f'--{unit}: a number of {unit} is a budget: --budget "3 {unit}"')
    named = [argument for argument in arguments[1:2] if not argument.startswith("-")]
    for model in map(find, named) if named else models().values():
        app.command(command_for(model), name=hyphenated(model))
    return app


def with_command_name(arguments: list[str]) -> list[str]:
    """Return arguments with the model's name as that of its command: GatedPixelCNN, gated_pixelcnn → gated-pixelcnn."""
    if not arguments or arguments[0].startswith("-"):
        return arguments
    return [hyphenated(find(arguments[0])), *arguments[1:]]


class _Settings(Toml):
    """Flags from a TOML file, for those that the command line leaves out."""

    def __init__(self, path: str) -> None:
        if not Path(path).is_file():
            raise InputError(f'--config: expected a TOML file, found "{path}"')
        super().__init__(path, must_exist=True, use_commands_as_keys=False)


def command_for(model: type[Density]) -> Callable[..., None]:
    """Return the function behind `likely fit MODEL`."""

    def command(data: str, **flags: Any) -> None:
        recipe = {name: flags.pop(name) for name in _fields(Recipe) if name in flags}
        own = {name: flags.pop(name) for name in _arguments(model) if name in flags}
        _fit(model, data, own, recipe, **flags)

    own = [_parameter(*argument) for argument in _arguments(model).values()]
    recipe = [_parameter(*argument) for argument in _fields(Recipe).values()]
    parameters = [_data_parameter(), *own, *recipe, *_shared_parameters()]
    setattr(command, "__signature__", inspect.Signature(parameters))  # noqa: B010  (unknown to type checkers)
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command.__doc__ = (inspect.getdoc(model) or "").split("\n\nArgs:")[0]
    return command


def _data_parameter() -> inspect.Parameter:
    text = (inspect.getdoc(load) or "\n\n").split("\n\n")[1].replace("\n", " ")
    annotation = Annotated[str, Parameter(help=text)]
    return inspect.Parameter("data", inspect.Parameter.POSITIONAL_ONLY, annotation=annotation)


def _shared_parameters() -> list[inspect.Parameter]:
    """Return the parameters of `_fit` that are flags of every model."""
    hints = typing.get_type_hints(_fit, include_extras=True)
    flags = [p for p in inspect.signature(_fit).parameters.values() if p.kind is p.KEYWORD_ONLY]
    return [flag.replace(annotation=hints[flag.name]) for flag in flags]


def _fit(
    model: type[Density],
    data: str,
    own: dict[str, Any],
    recipe: dict[str, Any],
    *,
    out: Annotated[
        Path | None, Parameter(name=["--out", "-o"], help="New folder for the run; unset: runs/MODEL, numbered.")
    ] = None,
    context: Context = None,
    binarize: Binarize = None,
    levels: Levels = None,
    real: Annotated[
        bool, Parameter(help="Take whole numbers as measurements (real values), not as symbols.", negative="")
    ] = False,
    columns: Annotated[
        str | None, Parameter(help="Names of the columns of a table that are taken, with commas between them.")
    ] = None,
    drop: Annotated[
        str | None, Parameter(help="Names of the columns of a table that are left out, with commas between them.")
    ] = None,
    convert: Annotated[
        Literal["1", "L", "RGB"] | None,
        Parameter(help="Bring pictures into one bit, grey or RGB, though something may be lost."),
    ] = None,
    resize: Annotated[
        str | None, Parameter(help="HEIGHT,WIDTH that pictures are scaled to cover; their middle is taken.")
    ] = None,
    holdout: Annotated[
        float, Parameter(help="Fraction of the training data to validate on, where DATA has no such split.")
    ] = 0.1,
    config: Annotated[Path | None, Parameter(help="TOML file with flags.")] = None,
    device: Device = "cpu",
    threads: Threads = None,
    json: Json = False,
) -> None:
    console = Console(json)
    use(device, threads)
    reading = Reading(
        columns=None if columns is None else tuple(names_of(columns)),
        drop=() if drop is None else tuple(names_of(drop)),
        convert=convert,
        resize=_sizes(resize),
        crop=_middle(model, recipe),
    )
    train = load(data, "train", context=context, reading=reading)
    valid = load_validation(data, context=context, reading=reading)
    with _flags_named():
        planned = plan(
            model,
            train,
            levels=levels,
            binarize=_threshold(binarize),
            real=real,
            any_size=bool(recipe.get("crop")),
            seed=recipe.get("seed"),
            **own,
        )
    built = planned.model.to(device)
    if out is None:
        out = _free_folder(model)
    said = f"{train.note}; {_said(planned.event)}"
    if valid:
        said += f"; validation: {valid.note}"
    elif not built.estimable or "budget" in recipe:
        said += f"; a seeded {holdout:.0%} held out"
    console.say(said)
    with console.progress() as watch, warnings_as_lines():
        fit(built, train, valid=valid, out=out, preparation=planned.preparation, holdout=holdout, watch=watch, **recipe)
    conclude(console, out, built)


def _said(event: Event) -> str:
    shape = "×".join("any" if size is None else str(size) for size in event.shape) or "1"
    if event.discrete:
        return f"{shape} with {event.levels} levels"
    return f"{shape} real value" if shape == "1" else f"{shape} real values"


@contextmanager
def _flags_named() -> Iterator[None]:
    """Name the flags in errors about arguments of `plan`."""
    try:
        yield
    except InputError as error:
        said = re.sub("^(context|binarize|levels): ", r"--\1: ", str(error))
        said = said.replace(
            "(real=True), or some of the columns", "(--real), or some of the columns (--columns, --drop)"
        )
        raise InputError(said.replace("(real=True)", "(--real)")) from error


def _sizes(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    height, comma, width = text.partition(",")
    if not (text.isascii() and height.isdigit() and (width.isdigit() or not comma) and len(text) < 20):
        raise InputError(f"--resize: HEIGHT,WIDTH is expected, as 32,48, found {text}")
    return int(height), int(width or height)


def _middle(model: type[Density], recipe: dict[str, Any]) -> tuple[int, ...] | None:
    """Take --crop out of the settings of a fit if the model is of one size: then it is the middle of each picture."""
    if model.varies or not recipe.get("crop"):
        return None
    height, *width = recipe.pop("crop")
    return (height, *width) if width else (height, height)


def _threshold(binarize: str | None) -> Any:
    if binarize is None or binarize == "stochastic":
        return binarize
    try:
        return float(binarize)
    except ValueError:
        raise InputError(f'--binarize: expected a threshold such as 0.5, or "stochastic", found "{binarize}"') from None


def _free_folder(model: type[Density]) -> Path:
    """Return runs/MODEL, or the first of runs/MODEL-2, … that does not exist."""
    first = Path("runs") / hyphenated(model)
    numbered = (first.with_name(f"{first.name}-{k}") for k in count(2))
    return next(path for path in chain([first], numbered) if not path.exists())


# Signatures → flags


def _arguments(model: type[Density]) -> dict[str, tuple[str, Any, Any]]:
    """Return a constructor's own arguments that have a type: name → (name, annotation with help, default)."""
    hints, help_of = typing.get_type_hints(model.__init__), _help(model)
    return {
        name: (name, _flag(hints[name], help_of.get(name, "")), parameter.default)
        for name, parameter in inspect.signature(model).parameters.items()
        if name not in OWN and name in hints
    }


def _fields(recipe: type[Recipe]) -> dict[str, tuple[str, Any, Any]]:
    """Return the recipe's fields, in the same form."""
    hints, help_of = typing.get_type_hints(recipe), _help(recipe)
    return {f.name: (f.name, _flag(hints[f.name], help_of[f.name]), f.default) for f in dataclasses.fields(recipe)}


def _help(cls: type) -> dict[str, str]:
    documented = docstring_parser.parse(inspect.getdoc(cls) or "")
    return {name.strip(): (p.description or "") for p in documented.params for name in p.arg_name.split(",")}


def _flag(annotation: Any, text: str) -> Any:
    """Return an annotation with its help; tuples of numbers are written with commas: --hidden 512,512."""
    if typing.get_origin(annotation) is tuple:
        kind = typing.get_args(annotation)[0]
        return Annotated[annotation, Parameter(help=text, converter=_split(kind), n_tokens=1, negative="")]
    negative = None if annotation is bool else ""
    return Annotated[annotation, Parameter(help=text, negative=negative)]


def _split(kind: type) -> Callable[[Any, Any], tuple]:
    def convert(_: Any, tokens: Sequence[Any]) -> tuple:
        try:
            return tuple(kind(part) for part in tokens[0].value.split(",") if part)
        except ValueError:
            raise InputError(
                f"expected numbers with commas between them, as 512,512; found {tokens[0].value}"
            ) from None

    return convert


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
