"""`fit`: minimise a model's loss within a budget; `resume`: go on where a fit stopped."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from likely.data import Preparation, fingerprint, load, load_validation, validation
from likely.density import Density
from likely.errors import InputError, StoreError, require_below, require_numbers, require_path
from likely.rows import Rows
from likely.runs import store
from likely.runs.configuration import configuration
from likely.runs.recipe import Recipe
from likely.runs.run import CONFIG, JudgedOn, Origin, Run, versions
from likely.training.batches import check
from likely.training.chance import Chance
from likely.training.choices import batch_size_of
from likely.training.loop import Loop
from likely.training.progress import Watcher


def fit(
    model: Density,
    train: Any,
    *,
    valid: Any = None,
    out: str | Path | None = None,
    preparation: Preparation | None = None,
    holdout: float = 0.1,
    watch: Watcher | bool | None = None,
    **settings: Any,
) -> Density:
    """Fit a model by maximum likelihood and return it with its best weights, in evaluation mode.

    A model with an `estimate` (closed form, EM) is estimated first, and goes on to gradient steps only if a budget is
    given. Gradient steps are AdamW on `model.loss`, clipped, with warm-up and cosine decay over the budget. A moving
    average of the weights is validated and kept. With `out`, the fit is a run: it can be resumed
    wherever it stops, and its result is the same to the bit.

    Args:
        model: any density; it is changed in place.
        train: data (n, *event.shape), a pair with its context, `Rows` or loaded `Data`, a frame, or a torch `Dataset`;
            where its items are pairs, the second part is the context of a conditional model.
        valid: data that judge the best weights and early stopping; None: a seeded fraction `holdout` of `train`.
        out: a new run folder; None writes nothing.
        preparation: the steps from raw data to symbols, taken afresh each epoch where they are random.
        holdout: fraction of `train` held out when `valid` is None; 0 keeps the last weights unjudged.
        watch: called after every step with a `Progress`, a new one each time; None: a bar in a terminal, a line in a
            notebook, nothing elsewhere; False: nothing.
        settings: fields of `Recipe`: budget, batch_size, learning_rate, seed, …

    Raises:
        InputError: data, settings or folder are not as expected.
        DivergedError: the loss or a gradient is not finite, or exploded.
        WriteError: a checkpoint could not be written; the one before is good.
    """
    recipe = Recipe.of(settings)
    gradient = "budget" in settings or not model.estimable
    if train is None:
        raise InputError("train: data are expected, found None")
    train, valid = _rows(train, model), _rows(valid, model)
    _refuse_settings(model, gradient, holdout)
    holdout = float(holdout) if gradient else 0.0
    if out is not None:
        store.refuse_shared(model)
    for rows in filter(None, (train, valid)):  # before some are held out: errors name the row in what was given
        check(model, rows, preparation, Chance(recipe.seed))
    given = train, valid
    if valid is None and holdout:
        train, valid = validation(train, holdout, recipe.seed)
    recipe = replace(recipe, batch_size=batch_size_of(recipe, model, len(train)))
    folder = None
    if out is not None:
        origin = _origin(*given, holdout)
        run = Run(configuration(model), origin, preparation, recipe, gradient, versions())
        folder = store.create(out, run)
    try:
        return Loop(model, train, valid, preparation, recipe, folder=folder, watch=watch).begin(gradient)
    except InputError:  # of the model, about the data, when it is estimated or initialised
        if folder is not None:
            store.withdraw(folder)
        raise


def resume(
    path: str | Path,
    train: Any = None,
    *,
    valid: Any = None,
    budget: str | None = None,
    device: str = "cpu",
    watch: Watcher | bool | None = None,
) -> Density:
    """Go on with an interrupted fit from its last checkpoint; the result is that of an uninterrupted one.

    That holds to the bit on one machine with as many threads; under a budget in time, once the number of steps is
    known. A fit that has ended goes on if it is given a budget: the learning rate warms up again and falls to zero
    over that budget, which takes the place of the one before in the run. The weights that validate best are kept.

    Args:
        path: the run.
        train, valid: the same data as before, where they were not named data that can be loaded again.
        budget: more training for a fit that has ended.
        device: where to compute.
        watch: as for `fit`.

    Raises:
        InputError: the data are missing or not those of the run; a budget for a fit that has not ended.
        StoreError: the run is damaged, or has nothing to resume.
    """
    path = require_path(path=path)
    run = Run.read(path)
    data, recipe = _of_fit(run, path)
    model = store.built_again(path, run.model).to(device)
    train, valid = _data_again(path, run, data, recipe, _rows(train, model), _rows(valid, model))
    if budget is None:
        return Loop(model, train, valid, run.preparation, recipe, folder=path, watch=watch).resume(run.gradient)
    recipe = replace(recipe, budget=budget)
    loop = Loop(model, train, valid, run.preparation, recipe, folder=path, watch=watch)
    loop.begin_again()
    replace(run, recipe=recipe, gradient=True).write(path)
    loop.checkpoints.save(loop.state)
    return loop.resume(True)


def _of_fit(run: Run, path: Path) -> tuple[Origin, Recipe]:
    """Return the data and the settings of a run that is a fit.

    Raises:
        StoreError: it is a model that was saved, or a fit with settings that are unknown here.
    """
    if run.data is None or run.recipe is None:
        raise StoreError(f"{path} holds a saved model, not a fit; there is nothing to resume")
    if run.unknown_settings:
        raise StoreError(f"{path / CONFIG}: recipe: unknown settings: {', '.join(run.unknown_settings)}")
    return run.data, run.recipe


def _data_again(
    path: Path, run: Run, data: Origin, recipe: Recipe, train: Rows | None, valid: Rows | None
) -> tuple[Rows, Rows | None]:
    """Return the training and validation data of a run: data with a name are loaded, and the same rows held out."""
    if data.source is None and (train is None or data.validation == "file"):
        raise InputError(f"{path} was fitted to data given in Python; give the same train (and valid) to resume")
    reading = None if run.preparation is None else run.preparation.how
    if train is None:
        train = load(str(data.source), "train", context=data.context, reading=reading)
    if fingerprint(train) != data.fingerprint:
        raise InputError(f"the training data are not those of {path}: their fingerprint differs")
    if valid is None and data.validation == "given":
        raise InputError(f"{path} was validated on data given in Python; give the same valid to resume")
    if valid is None and data.validation == "file":
        valid = load_validation(str(data.source), context=data.context, reading=reading)
    elif valid is None and data.holdout:
        train, valid = validation(train, data.holdout, recipe.seed)
    return train, valid


def _rows(data: Any, model: Density) -> Any:
    if data is None:
        return None
    return Rows.of(data, conditional=model.context is not None)


def _refuse_settings(model: Density, gradient: bool, holdout: float) -> None:
    require_numbers(0.0, holdout=holdout)
    require_below(1.0, holdout=holdout)
    if gradient and not any(parameter.numel() for parameter in model.parameters()):
        raise InputError(f"{type(model).__name__} has no parameters to fit by gradient steps; leave the budget out")


def _origin(train: Rows, valid: Rows | None, holdout: float) -> Origin:
    """Return the origin of data, to be kept with their run."""
    judged_on: JudgedOn = "file"
    if valid is None or valid.source == train.source is not None:
        judged_on = "holdout"
    elif valid.source is None:
        judged_on = "given"
    return Origin(train.source, train.context_source, fingerprint(train), judged_on, holdout)
