"""`fit`: minimise a model's loss within a budget; `resume`: go on where a fit stopped."""

import dataclasses
import json
import math
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from likely.coding.frozen import EXAMPLES, freeze
from likely.data import Data, Preparation, fingerprint, load, load_validation, validation
from likely.density import Array, Density
from likely.errors import DivergedError, ExactnessError, InputError, StoreError
from likely.jobs.evaluate import evaluate
from likely.runs import store
from likely.training.averaging import Average
from likely.training.recipe import Budget, Recipe

Pair = tuple[Array, Array | None]
TIMED_STEPS, TIMED_SECONDS = 10, 3.0
INITIAL = 4096  # examples that a model is initialised from


@dataclass
class Progress:
    """Where a fit stands; saved with every checkpoint.

    Attributes:
        step: steps done.
        total: steps in all; None until a budget in time has been turned into steps.
        loss: moving average of the training loss, nats/dim.
        lowest: lowest loss average so far; a loss far above it is a divergence.
        norm: moving average of the clipped norm of the gradient.
        bits_per_dim: of the latest validation.
        best: lowest validation bits/dim, reached at `best_step`.
        stale: validations since then.
        seconds: spent so far.
        done: whether the fit has ended.
    """

    step: int = 0
    total: int | None = None
    loss: float = math.nan
    lowest: float = math.inf
    norm: float = math.nan
    bits_per_dim: float = math.nan
    best: float = math.inf
    best_step: int = 0
    stale: int = 0
    seconds: float = 0.0
    done: bool = False

    @property
    def seconds_left(self) -> float:
        """Estimate from the pace so far."""
        return math.nan if not self.step or self.total is None else self.seconds / self.step * (self.total - self.step)


Watcher = Callable[[Progress], None]


def fit(
    model: Density,
    train: Array | Pair | Data,
    *,
    valid: Array | Pair | Data | None = None,
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
    gradient = "budget" in settings or not hasattr(model, "estimate")
    train, valid = _loaded(train), None if valid is None else _loaded(valid)
    if not 0 <= holdout < 1:
        raise InputError(f"holdout must be in [0, 1), found {holdout}")
    if gradient and not any(parameter.numel() for parameter in model.parameters()):
        raise InputError(f"{type(model).__name__} has no parameters to fit by gradient steps; leave the budget out")
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
    job = _Fit(model, train, valid, preparation, recipe, watch)
    job.check()
    if out is not None:
        job.folder = store.create(out, {"model": store.configuration(model), **description})
    try:
        return job.begin(gradient)
    except InputError:  # what the model found in the data when it looked at them all
        if job.folder is not None:
            store.withdraw(job.folder)
        raise


def resume(
    path: str | Path,
    train: Array | Pair | Data | None = None,
    *,
    valid: Array | Pair | Data | None = None,
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
    job = _Fit(model, train, valid, preparation, recipe, watch)
    job.restore(path)
    if job.progress.done:
        return job.finish()
    return job.run() if job.progress.step else job.begin(gradient)


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


class _Fit:
    """One fit: the model, its data, and everything that a checkpoint has to hold."""

    def __init__(
        self,
        model: Density,
        train: Data,
        valid: Data | None,
        preparation: Preparation | None,
        recipe: Recipe,
        watch: Watcher | None,
    ) -> None:
        self.model, self.train, self.valid = model, train, valid
        self.preparation, self.recipe, self.watch = preparation, recipe, watch
        self.folder: Path | None = None
        self.progress = Progress()
        self.average = Average(model, recipe.average)
        weights = list(model.parameters()) or [torch.zeros(0, requires_grad=True)]  # models in closed form have none
        self.optimizer = torch.optim.AdamW(
            weights, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
        )
        self.kept: dict[str, Tensor] | None = None
        self.epoch_data: tuple[int, Tensor, Tensor | None, Tensor] | None = None
        self.validation_data = None if valid is None else self._validation_set(valid)

    # data

    def generator(self, purpose: str, number: int) -> torch.Generator:
        """A generator that depends on the seed, what it is for and a count only, so that resuming needs no state."""
        purposes = ("order", "preparation", "validation", "loss", "estimate", "initialize")
        mixed = np.random.SeedSequence((self.recipe.seed, purposes.index(purpose), number)).generate_state(1)
        return torch.Generator().manual_seed(int(mixed[0]))  # torch's generator reads 32 bits

    def prepared(self, data: Data, epoch: int) -> tuple[Tensor, Tensor | None]:
        """Symbols and context of the whole training data in one epoch."""
        x = data.x if self.preparation is None else self.preparation.apply(data.x, self.generator("preparation", epoch))
        return x, data.context

    def batch(self, step: int) -> tuple[Tensor, Tensor | None]:
        """The examples of one step; every epoch goes through all of them in an order of its own."""
        size, n = self.recipe.batch_size, len(self.train.x)
        epoch, place = divmod(step, self.steps_per_epoch)
        if self.epoch_data is None or self.epoch_data[0] != epoch:
            redraw = self.preparation is not None and self.preparation.random
            x, context = self.prepared(self.train, epoch) if self.epoch_data is None or redraw else self.epoch_data[1:3]
            self.epoch_data = epoch, x, context, torch.randperm(n, generator=self.generator("order", epoch))
        _, x, context, order = self.epoch_data
        rows = order[place * size : (place + 1) * size]
        return x[rows], None if context is None else context[rows]

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self.train.x) // self.recipe.batch_size)

    def _validation_set(self, valid: Data) -> tuple[Tensor, Tensor | None]:
        n = len(valid.x)
        rows = torch.randperm(n, generator=self.generator("validation", 0))[: self.recipe.validation_size].sort()[0]
        x, context = valid.x[rows], None if valid.context is None else valid.context[rows]
        return x if self.preparation is None else self.preparation.apply(x, self.generator("validation", 1)), context

    def check(self) -> None:
        """Refuse bad data before anything is written."""
        for x, context in filter(None, (self.prepared(self.train, 0), self.validation_data)):
            self.model.check(x)
            self.model.check_context(context, len(x))

    # the loop

    def begin(self, gradient: bool) -> Density:
        """Fit in closed form, where the model has one; then by gradient steps, if so."""
        estimate: Callable[..., None] | None = getattr(self.model, "estimate", None)
        x, context = self.prepared(self.train, epoch=0)
        if estimate is not None:
            estimate((x, context), generator=self.generator("estimate", 0))
        generator = self.generator("initialize", 0)
        rows = torch.randperm(len(x), generator=generator)[:INITIAL]
        self.model.initialize(x[rows], None if context is None else context[rows], generator=generator)
        self.average = Average(self.model, self.recipe.average)
        return self.run() if gradient else self.finish()

    def run(self) -> Density:
        """Take steps until the budget is spent or validation stops improving."""
        progress, started = self.progress, time.monotonic()
        spent, checkpointed = progress.seconds, time.monotonic()
        budget = Budget.parse(self.recipe.budget)
        if progress.total is None and budget.unit != "seconds":
            progress.total = math.ceil(budget.amount * (self.steps_per_epoch if budget.unit == "epochs" else 1))
        with _interruptible() as interrupted:
            if progress.step == 0:
                self.evaluate()
            evaluation_seconds, durations = time.monotonic() - started, []
            while progress.total is None or progress.step < progress.total:
                before = time.monotonic()
                self.take_step()
                progress.seconds = spent + time.monotonic() - started
                if progress.total is None:
                    durations.append(time.monotonic() - before)
                    progress.total = self._steps_within(budget.amount, evaluation_seconds, durations)
                if self.watch is not None:
                    self.watch(progress)
                if self._due(progress.step):
                    self.evaluate()
                    if progress.stale >= self.recipe.patience:
                        break
                if self._checkpoint_due(time.monotonic() - checkpointed):
                    self.save_checkpoint()
                    checkpointed = time.monotonic()
                if interrupted.is_set():
                    self.save_checkpoint()
                    raise KeyboardInterrupt(self._farewell())
        return self.finish()

    def _farewell(self) -> str:
        at = f"stopped at step {self.progress.step}"
        return at if self.folder is None else f"{at}; go on with `likely resume {self.folder}`"

    def take_step(self) -> None:
        """One gradient step and its share of the moving average."""
        progress, recipe = self.progress, self.recipe
        x, context = self.batch(progress.step)
        rate = recipe.learning_rate_at(progress.step, progress.total)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.model.train()
        self.model.advance(progress.step / progress.total if progress.total else 0.0)
        with torch.autocast(self.model.device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
            loss = self.model.loss(x, context, generator=self.generator("loss", progress.step))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        loss, norm = loss.item(), self._clip()
        self._refuse_divergence(loss, norm, rate)
        self.optimizer.step()
        self.average.update(progress.step)
        progress.loss = loss if progress.step == 0 else progress.loss + 0.05 * (loss - progress.loss)
        progress.lowest = min(progress.lowest, progress.loss)
        progress.step += 1

    def _clip(self) -> float:
        """Shorten a gradient that is longer than usual; returns its norm before."""
        usual = self.progress.norm if self.progress.norm > 0 else math.inf  # NaN before the first step
        limit = self.recipe.clip * usual
        norm = torch.nn.utils.clip_grad_norm_(self.average.parameters, limit).item()
        clipped = min(norm, limit)
        self.progress.norm = clipped if math.isinf(usual) else usual + 0.01 * (clipped - usual)
        return norm

    def _refuse_divergence(self, loss: float, norm: float, rate: float) -> None:
        progress = self.progress
        exploded = progress.step > 0 and loss > progress.lowest + 20 * (abs(progress.lowest) + 1)
        if math.isfinite(loss) and math.isfinite(norm) and not exploded:
            return
        kept = "" if self.folder is None else f"; the weights of step {progress.best_step} are kept in {self.folder}"
        raise DivergedError(
            f"training diverged at step {progress.step + 1}: loss {loss:.4g}, gradient norm {norm:.4g} "
            f"at learning rate {rate:.3g}{kept}; try a smaller learning rate"
        )

    def _steps_within(self, seconds: float, evaluation_seconds: float, durations: list[float]) -> int | None:
        """Turn a budget in time into steps, once the first ones have been timed; their median minds no hiccup."""
        progress, timed = self.progress, sum(durations)
        if len(durations) <= TIMED_STEPS or (timed < TIMED_SECONDS and progress.seconds < 0.1 * seconds):
            return None
        left = seconds - progress.seconds - self.recipe.evaluations * evaluation_seconds
        return progress.step + max(1, int(max(left, 0.25 * seconds) / statistics.median(durations)))

    def _due(self, step: int) -> bool:
        total = self.progress.total
        return total is not None and (step % max(1, total // self.recipe.evaluations) == 0 or step == total)

    def evaluate(self) -> None:
        """Validate the averaged weights, and keep them where they are the best so far."""
        progress = self.progress
        self.model.eval()
        with self.average.applied():
            if self.validation_data is not None:
                size = max(64, self.recipe.batch_size)
                report = evaluate(
                    self.model,
                    self.validation_data,
                    batch_size=size,
                    importance_samples=self.model.validation_draws,
                    proposal=self.model.validation_proposal,
                    terms=False,
                )
                progress.bits_per_dim = report.bits_per_dim
            if self.validation_data is None or progress.bits_per_dim < progress.best:
                progress.best, progress.best_step, progress.stale = progress.bits_per_dim, progress.step, 0
                self.keep()
            else:
                progress.stale += 1
        self._log()

    def keep(self) -> dict[str, Tensor]:
        """Take the model's present weights as the ones to end with."""
        self.kept = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        if self.folder is not None:
            store.write_weights(self.folder / store.WEIGHTS, self.kept)
        return self.kept

    def finish(self) -> Density:
        """Put the kept weights into the model, and freeze it."""
        self.progress.done = True
        self.model.load_state_dict(self.keep() if self.kept is None else self.kept)
        self.save_checkpoint()
        self.model.eval()
        if self.folder is not None:
            self.freeze(self.folder)
        return self.model

    def freeze(self, folder: Path) -> None:
        """Bring the model into exact arithmetic for compression, if it can be (`likely freeze` says why not)."""
        x, context = self.train.x[:EXAMPLES], self.train.context
        if self.preparation is not None:
            x = self.preparation.apply(x, self.generator("preparation", 0))
        context = None if context is None else context[:EXAMPLES]
        with suppress(InputError, ExactnessError):
            freeze(self.model, (x, context), preparation=self.preparation).save(folder)

    def _log(self) -> None:
        progress = self.progress
        line = {
            "step": progress.step,
            "epoch": progress.step / self.steps_per_epoch,
            "loss_nats_per_dim": None if math.isnan(progress.loss) else progress.loss,
            "valid_bits_per_dim": None if math.isnan(progress.bits_per_dim) else progress.bits_per_dim,
            "learning_rate": self.recipe.learning_rate_at(progress.step, progress.total),
            "seconds": round(progress.seconds, 2),
        }
        if self.folder is not None:
            store.append_line(self.folder / store.METRICS, json.dumps(line))

    # checkpoints

    def _checkpoint_due(self, seconds: float) -> bool:
        if self.folder is None:
            return False
        every = self.recipe.checkpoint_every
        return seconds >= 30 if every is None else self.progress.step % every == 0

    def save_checkpoint(self) -> None:
        """Write everything that resumption needs, as one file in one step."""
        if self.folder is None:
            return
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors |= {f"average.{name}": tensor for name, tensor in self.average.state().items()}
        tensors |= {f"kept.{name}": tensor for name, tensor in (self.kept or {}).items()}
        for i, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{i}.{name}": tensor for name, tensor in state.items()}
        metadata = {"progress": json.dumps(dataclasses.asdict(self.progress))}
        store.write_weights(self.folder / store.CHECKPOINT, tensors, metadata)

    def restore(self, folder: Path) -> None:
        """Take up the last checkpoint of a run; without one, start it from the beginning."""
        self.folder = folder
        if not (folder / store.CHECKPOINT).exists():
            store.write_atomic(folder / store.METRICS, b"")
            return
        tensors, metadata = store.read_weights(folder / store.CHECKPOINT)
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "average": {}, "kept": {}, "optimizer": {}}
        try:
            for name, tensor in tensors.items():
                part, _, rest = name.partition(".")
                parts[part][rest] = tensor
            for part in ("model", "average", "kept"):
                parts[part] = store.renamed(self.model, parts[part])
            self.progress = Progress(**json.loads(metadata["progress"]))
            self.model.load_state_dict(parts["model"])
            self.average.restore(parts["average"])
            self._restore_optimizer(parts["optimizer"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise StoreError(f"{folder / store.CHECKPOINT} is damaged or foreign: {error}") from error
        self.kept = parts["kept"] or None
        self._truncate_metrics(folder / store.METRICS)

    def _restore_optimizer(self, tensors: dict[str, Tensor]) -> None:
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            i, _, entry = name.partition(".")
            state.setdefault(int(i), {})[entry] = tensor
        self.optimizer.load_state_dict({"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]})

    def _truncate_metrics(self, file: Path) -> None:
        """Forget what was logged after the checkpoint: it will be logged again."""
        lines = file.read_text("utf-8", "replace").splitlines() if file.exists() else []
        kept = [line for line in lines if _step_of(line) <= self.progress.step]
        store.write_atomic(file, "".join(line + "\n" for line in kept).encode())


def _step_of(line: str) -> int | float:
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return math.inf  # a line cut short when the process was killed


def _loaded(data: Array | Pair | Data) -> Data:
    """Any form of data as `Data`."""
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


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C inside the block into a flag, so that no step is cut in half; a second one is immediate."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def handle(number: int, frame: Any) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()

    previous = signal.signal(signal.SIGINT, handle)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, previous)
