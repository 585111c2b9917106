"""How to train: the settings of a fit, and the units of a budget."""

import re
from dataclasses import dataclass, fields
from typing import Literal

from likely.arguments import plain
from likely.errors import InputError, suggestion

CHOSEN = ("batch_size", "warmup", "evaluations", "checkpoint_every")  # of the whole numbers, those that may be None
UNITS = ("epochs", "steps")


@dataclass(frozen=True)
class Budget:
    """An amount of training: seconds, epochs or steps."""

    amount: float
    unit: Literal["seconds", "epochs", "steps"]

    @classmethod
    def parse(cls, text: str) -> "Budget":
        """Read "90s", "5m", "1.5h", "20 epochs" or "2000 steps".

        Raises:
            InputError: anything else, or nothing at all.
        """
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*", str(text).lower())
        seconds = {"s": 1, "m": 60, "h": 3600}
        if match and 0 < float(match[1]) < 1e15:  # beyond, a number of steps is no longer exact, nor finite
            amount, unit = float(match[1]), match[2]
            if unit in seconds:
                return cls(amount * seconds[unit], "seconds")
            if unit in ("epoch", "epochs"):
                return cls(amount, "epochs")
            if unit in ("step", "steps"):
                return cls(amount, "steps")
        raise InputError(f'budget "{text}": expected an amount such as "90s", "5m", "1h", "20 epochs" or "2000 steps"')


@dataclass(frozen=True)
class Recipe:
    """Settings of a fit.

    Attributes:
        budget: how long to train: "90s", "5m", "1h", "20 epochs" or "2000 steps"; models with a closed form take
            gradient steps only if it is given.
        batch_size: examples per step; None: as many as suit the number of examples and their size.
        learning_rate: its peak; it warms up over the first steps and decays to zero along a cosine. None: as suits the
            model and the number of steps.
        warmup: steps until the peak; None: a tenth of the fit.
        weight_decay: of AdamW.
        clip: largest norm of the gradient, in multiples of the moving average of the clipped norms, so that it does
            not depend on the loss's scale (AdaGC, https://arxiv.org/abs/2502.11034, of the whole gradient).
        average: decay of the moving average of the weights; this average is the model that is kept.
        patience: the fit stops after so many evaluations without a better one.
        evaluations: how often to evaluate over the whole budget; None: 40 times, or less often so that it takes about a
            tenth of the work.
        crop: size of the windows that are taken where the sizes of examples vary: one for all dimensions, or one each;
            (): about a thousand places. A model of one size takes the middle of each picture.
        validation_size: most validation examples per evaluation; fewer where a budget in time has no room for them.
        checkpoint_every: steps between checkpoints; None: 30 seconds.
        precision: of the network's products in training; "bfloat16" halves a step where the processor has it
            (AVX512-BF16, a recent GPU). Weights, validation and every likelihood stay in float32.
        seed: of data order and of all randomness in training.
    """

    budget: str = "5m"
    batch_size: int | None = None
    learning_rate: float | None = None
    warmup: int | None = None
    weight_decay: float = 0.01
    clip: float = 1.5
    average: float = 0.999
    patience: int = 15
    evaluations: int | None = None
    crop: tuple[int, ...] = ()
    validation_size: int = 1000
    checkpoint_every: int | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        Budget.parse(self.budget)
        if not all(type(size) is int and size >= 1 for size in self.crop):
            raise InputError(f"crop: whole numbers of at least 1 are expected, found {self.crop}")
        for name in ("patience", "validation_size", *CHOSEN):
            value = getattr(self, name)
            if (type(value) is not int or value < 1) and not (name in CHOSEN and value is None):
                raise InputError(f"{name} must be a whole number of at least 1, found {value!r}")
        if type(self.seed) is not int or not 0 <= self.seed < 2**63:
            raise InputError(f"seed must be from 0 to 2^63 − 1, found {self.seed!r}")
        if self.precision not in ("float32", "bfloat16"):
            raise InputError(f'precision must be "float32" or "bfloat16", found {self.precision!r}')
        self._refuse_rates()

    def _refuse_rates(self) -> None:
        rate = 1.0 if self.learning_rate is None else self.learning_rate
        rates = rate, self.clip, self.weight_decay, self.average
        if not all(isinstance(rate, int | float) for rate in rates) or not (
            rate > 0 and self.clip > 0 and self.weight_decay >= 0 and 0 <= self.average < 1
        ):
            raise InputError(
                "learning_rate and clip must be positive, weight_decay at least 0 and average in [0, 1), found "
                f"{', '.join(map(str, rates))}"
            )

    @classmethod
    def of(cls, settings: dict) -> "Recipe":
        """Build from keyword arguments, refusing unknown ones with a suggestion."""
        known = {field.name for field in fields(cls)}
        for name in settings:
            if name in UNITS:
                raise InputError(f'unknown setting "{name}"; say budget="{settings[name]} {name}"')
            if name not in known:
                raise InputError(f'unknown setting "{name}"{suggestion(name, known)}')
        plainly = {name: plain(value) for name, value in settings.items()}
        crop = plainly.get("crop", ())
        return cls(**plainly | {"crop": tuple(crop) if isinstance(crop, list | tuple) else (crop,)})
