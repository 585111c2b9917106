"""Randomness of a fit without a state to keep."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch

# A new purpose goes to the end: the numbers of the others are part of every seed.
Purpose = Literal["order", "preparation", "validation", "loss", "estimate", "initialize", "batch", "windows", "sizes"]


@dataclass(frozen=True)
class Chance:
    """Generators that depend on a seed, their purpose and a count only, so that resuming needs no state."""

    seed: int

    def generator(self, purpose: Purpose, number: int) -> torch.Generator:
        """Return a new generator for a purpose and an epoch, a step, or another count."""
        entropy = self.seed, get_args(Purpose).index(purpose), number
        mixed = np.random.SeedSequence(entropy).generate_state(1)
        return torch.Generator().manual_seed(int(mixed[0]))  # torch's generator reads 32 bits
