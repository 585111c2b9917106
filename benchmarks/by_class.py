"""What a class-conditional model knows of its classes, on the held-out digits.

    python benchmarks/by_class.py [--runs FOLDER]

Needs the runs `digits` and `digits-by-class` of benchmarks/results.py. Prints: how often the model's own p(label | x),
by Bayes' rule with equal priors, is right; how often a support vector machine, trained on the same training digits,
sees the label that was asked for in samples; and the paired difference of the conditional and the unconditional model.
"""

import argparse
import math
from pathlib import Path

import torch
from sklearn.svm import SVC

import likely
from likely.data import load
from likely.jobs.evaluate import negative_log_likelihood


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("../likely-runs"))
    runs = parser.parse_args().runs
    model, plain = likely.load(runs / "digits-by-class"), likely.load(runs / "digits")
    train, test = (load(f"digits:{split}", "test", context="digits:labels") for split in ("train", "test"))
    x, labels = test.x[:, None], test.context
    by_label = torch.stack([negative_log_likelihood(model, (x, torch.full_like(labels, y))) for y in range(10)], 1)
    right = (by_label.argmin(1) == labels).double().mean()
    print(f"p(label | x) is right on {right:.1%} of {len(x)} digits")
    classifier = SVC(gamma=0.001).fit(train.x.flatten(1), train.context)
    asked = torch.arange(10).repeat_interleave(100)
    drawn = likely.sample(model, len(asked), asked, generator=torch.Generator().manual_seed(0))
    seen = torch.from_numpy(classifier.predict(drawn.flatten(1)))
    own = (torch.from_numpy(classifier.predict(test.x.flatten(1))) == labels).double().mean()
    print(
        f"a classifier sees the label asked for in {(seen == asked).double().mean():.1%} of {len(asked)} samples",
        end="",
    )
    print(f" (it is right on {own:.1%} of the held-out digits)")
    bits = 1 / (model.event.dims * math.log(2))
    difference = (negative_log_likelihood(model, (x, labels)) - negative_log_likelihood(plain, x)) * bits
    error = difference.std() / len(x) ** 0.5
    print(f"conditional − unconditional: {difference.mean():+.4f} ± {error:.4f} bits/dim, paired")


if __name__ == "__main__":
    main()
