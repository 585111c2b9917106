"""Flows on generated sources of known density: what they miss, in nats per dimension.

    python benchmarks/sources.py [--only NAME] [--json]

Each flow is fitted on one thread to 200,000 points, and both densities are taken at 20,000 fresh ones: printed is the
paired mean of ln p_source(x) − ln p(x), an estimate of the KL from the source to the flow, ± one standard error, and
the processor's seconds of the fit. A flow with a bar that is above it, or any that is better than the truth by more
than three standard errors, ends the run with an error.
"""

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

import likely
from likely.data import source_of
from likely.jobs.evaluate import negative_log_likelihood

TRAIN, TEST = 200_000, 20_000


@dataclass(frozen=True)
class Flow:
    """A class, its arguments, how it is fitted, and the nats/dim not to exceed on a source."""

    model: str
    arguments: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    bars: dict[str, float] = field(default_factory=dict)


ROUND = ("moons", "smiley", "eight-gaussians", "checkerboard")
GAUSSIAN = ("stretched-gaussian", "turned-gaussian")
STATED = {"batch_size": 64, "learning_rate": 2e-3, "warmup": 100, "evaluations": 40}  # unless a flow says otherwise
BARS = {"moons": 0.02, "smiley": 0.02, "eight-gaussians": 0.02}
FLOWS = (
    Flow("AutoregressiveMixtureCDF", settings={"budget": "5000 steps", "batch_size": 512}, bars=BARS),
    Flow("NeuralSplineFlow", {"hidden": (64, 64)}, {"budget": "3000 steps", "batch_size": 512}, BARS),
    Flow("NeuralSplineCoupling", {"layers": 4, "hidden": (64, 64)}, {"budget": "3000 steps", "batch_size": 512}),
    Flow("RealNVP", settings={"budget": "6000 steps", "batch_size": 512}),
    Flow("FFJORD", {"tolerance": 1e-3}, {"budget": "1000 steps", "batch_size": 256, "learning_rate": 1e-2}),
)
JOBS = [(source, flow) for source in ROUND for flow in FLOWS]
JOBS += [(source, Flow("AffineFlow", bars=dict.fromkeys(GAUSSIAN, 0.002))) for source in GAUSSIAN]


@dataclass(frozen=True)
class Result:
    """Of one flow on one source: nats per dimension above the source, and seconds of the processor."""

    source: str
    model: str
    gap: float
    standard_error: float
    bar: float | None
    seconds: float

    @property
    def fault(self) -> str:
        """What is wrong, if anything is."""
        if self.gap < -3 * self.standard_error:
            return "better than the truth"
        return "above the bar" if self.bar is not None and not self.gap <= self.bar else ""

    def __str__(self) -> str:
        bar = "" if self.bar is None else f" (bar {self.bar})"
        line = f"{self.source}, {self.model}: {self.gap:.5f} ± {self.standard_error:.5f} nats/dim{bar}"
        return f"{line}, {self.seconds:.0f} s{f'; {self.fault.upper()}' if self.fault else ''}"


def result(name: str, flow: Flow) -> Result:
    """Fit and compare."""
    source = source_of(name)
    assert source is not None
    train, test = (source.sample(n, generator=torch.Generator().manual_seed(k)) for k, n in enumerate((TRAIN, TEST)))
    model = getattr(likely, flow.model)(source.event, **flow.arguments)
    start = time.process_time()
    likely.fit(model, train, holdout=0.05, **(STATED | flow.settings))
    seconds = time.process_time() - start
    nats = [negative_log_likelihood(density, test, batch_size=2000) for density in (model, source)]
    gap = (nats[0] - nats[1]) / source.event.dims
    error = float(gap.std()) / len(gap) ** 0.5
    return Result(name, flow.model, float(gap.mean()), error, flow.bars.get(name), seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="lines whose source or flow contains this")
    parser.add_argument("--json", action="store_true", help="one JSON list on stdout, nothing else")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = []
    for source, flow in JOBS:
        if options.only in f"{source} {flow.model}":
            results.append(result(source, flow))
            if not options.json:
                print(results[-1], flush=True)
    if options.json:
        print(json.dumps([asdict(found) for found in results], indent=1))
    sys.exit(1 if any(found.fault for found in results) else 0)


if __name__ == "__main__":
    main()
