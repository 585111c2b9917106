"""`fit`: minimise a model's loss within a budget; `resume`: go on where a fit stopped."""

import dataclasses
from pathlib import Path
from typing import Any

import torch

from likely.data import Data, Preparation, fingerprint, load, load_validation, validation
from likely.density import Density
from likely.errors import InputError, StoreError
from likely.rows import Examples
from likely.runs import store
from likely.training.batches import Batches
from likely.training.loop import Loop
from likely.training.progress import Watcher
from likely.training.recipe import Recipe
from likely.training.validation import Validation


def fit(
    model: Density,
    train: Examples | Data,
    *,
    valid: Examples | Data | None = None,
    out: str | Path | None = None,
    preparation: Preparation | None = None,
    holdout: float = 0.1,
    watch: Watcher | None = None,
    **settings: Any,
) -> Density:
    """Fit a model by maximum likelihood and return it with its best weights, in evaluation mode.

    A model with an `estimate` (closed form, EM) is estimated first, and goes on to gradient steps only if a budget is
    given. Gradient steps are AdamW on `model.loss`, clipped, with warm-up and cosine decay over the budget; a moving
    average of the weights is what is validated and kept. With `out`, the fit is a run: resumable to the bit, whatever
    stops it.

    Args:
        model: any density; it is changed in place.
        train: data (n, *event.shape), a pair with its context, or loaded `Data`.
        valid: what best weights and early stopping are judged on; None: a seeded fraction `holdout` of `train`.
        out: a new run folder; None writes nothing.
        preparation: what turns raw data into symbols, applied afresh each epoch where it is random.
        holdout: fraction of `train` held out when `valid` is None; 0 keeps the last weights unjudged.
        watch: called with the `Progress` after every step.
        settings: fields of `Recipe`: budget, batch_size, learning_rate, seed, …

    Raises:
        InputError: data, settings or folder are not as expected.
        DivergedError: the loss or a gradient is not finite, or exploded.
        WriteError: a checkpoint could not be written; the one before is good.
    """
    recipe = Recipe.of(settings)
    gradient = "budget" in settings or not model.estimates
    train, valid = _loaded(train), None if valid is None else _loaded(valid)
    _refuse_impossible(model, gradient, holdout)
    holdout = holdout if gradient else 0.0
    description = _describe(train, valid, holdout, preparation, recipe)
    if not gradient:
        description["recipe"]["budget"] = None
    if preparation is None:
        model.check(train.x)  # before some are held out: errors name the place in what was given
    if out is not None:
        store.refuse_shared(model)
    if valid is None and holdout:
        train, valid = validation(train, holdout, recipe.seed)
    loop = _loop(model, train, valid, preparation, recipe, watch)
    if out is not None:
        loop.folder = store.create(out, {"model": store.configuration(model), **description})
    try:
        return loop.begin(gradient)
    except InputError:  # what the model found in the data when it looked at them all
        if loop.folder is not None:
            store.withdraw(loop.folder)
        raise


def _refuse_impossible(model: Density, gradient: bool, holdout: float) -> None:
    if not 0 <= holdout < 1:
        raise InputError(f"holdout must be in [0, 1), found {holdout}")
    if gradient and not any(parameter.numel() for parameter in model.parameters()):
        raise InputError(f"{type(model).__name__} has no parameters to fit by gradient steps; leave the budget out")


def _loop(
    model: Density,
    train: Data,
    valid: Data | None,
    preparation: Preparation | None,
    recipe: Recipe,
    watch: Watcher | None,
) -> Loop:
    """Put a fit together.

    Raises:
        InputError: data that are not the model's, before anything is written.
    """
    batches = Batches(train.rows, preparation, recipe)
    judged = None if valid is None else Validation(valid.rows, preparation, recipe)
    for rows in filter(None, (batches.prepared(epoch=0), None if judged is None else judged.rows)):
        model.check(rows.x)
        model.check_context(rows.context, len(rows))
    return Loop(model, batches, judged, recipe, watch)


def resume(
    path: str | Path,
    train: Examples | Data | None = None,
    *,
    valid: Examples | Data | None = None,
    device: str = "cpu",
    watch: Watcher | None = None,
) -> Density:
    """Go on with an interrupted fit from its last checkpoint; the result is that of an uninterrupted one.

    That holds to the bit on one machine with as many threads.

    Args:
        path: the run.
        train, valid: the same data as before, where they were not named data that can be loaded again.
        device: where to compute.
        watch: called with the `Progress` after every step.

    Raises:
        InputError: the data are missing or not those of the run.
        StoreError: the run is damaged, or has nothing to resume.
    """
    path = Path(path)
    config = store.read_config(path)
    if "recipe" not in config:
        raise StoreError(f"{path} holds a saved model, not a fit; there is nothing to resume")
    train, valid = (None if given is None else _loaded(given) for given in (train, valid))
    with store.understood(f"{path / store.CONFIG} is damaged"):
        gradient = config["recipe"]["budget"] is not None
        recipe = Recipe.of({name: value for name, value in config["recipe"].items() if value is not None})
        preparation = None if config["preparation"] is None else Preparation.from_json(config["preparation"])
        train, valid = _data_again(path, config["data"], recipe, train, valid)
        model = store.build(config["model"]).to(device)
    loop = _loop(model, train, valid, preparation, recipe, watch)
    loop.restore(path)
    if loop.progress.done:
        return loop.finish()
    return loop.run() if loop.progress.step else loop.begin(gradient)


def _data_again(
    path: Path, described: dict[str, Any], recipe: Recipe, train: Data | None, valid: Data | None
) -> tuple[Data, Data | None]:
    """The training and validation data of a run: named data are loaded again, and what was held out is again."""
    if train is None and described["source"] is None:
        raise InputError(f"{path} was fitted to data given in Python; give the same train (and valid) to resume")
    train = load(described["source"], "train", context=described["context"]) if train is None else train
    if fingerprint(train) != described["fingerprint"]:
        raise InputError(f"the training data are not those of {path}: their fingerprint differs")
    if valid is None and described["validation"] == "given":
        raise InputError(f"{path} was validated on data given in Python; give the same valid to resume")
    if valid is None and described["validation"] == "file":
        valid = load_validation(described["source"], context=described["context"])
    elif valid is None and described["holdout"]:
        train, valid = validation(train, described["holdout"], recipe.seed)
    return train, valid


def _loaded(data: Examples | Data) -> Data:
    """Return data in any form as `Data`."""
    if isinstance(data, Data):
        return data
    x, context = data if isinstance(data, tuple) else (data, None)
    x, context = torch.as_tensor(x), None if context is None else torch.as_tensor(context)
    if context is not None and context.shape[:1] != x.shape[:1]:  # or holding out would pair rows that are not a pair
        raise InputError(f"context: {len(x)} values are expected, one per example, found shape {tuple(context.shape)}")
    return Data(x, context, None, "given in Python")


def _describe(
    train: Data, valid: Data | None, holdout: float, preparation: Preparation | None, recipe: Recipe
) -> dict[str, Any]:
    """What a run remembers beside its model."""
    if valid is None or valid.source == train.source is not None:
        judged_on = "holdout"
    else:
        judged_on = "given" if valid.source is None else "file"
    return {
        "data": {
            "source": train.source,
            "context": train.context_source,
            "fingerprint": fingerprint(train),
            "validation": judged_on,
            "holdout": holdout,
        },
        "preparation": None if preparation is None else preparation.to_json(),
        "recipe": dataclasses.asdict(recipe),
        "versions": store.versions(),
    }
