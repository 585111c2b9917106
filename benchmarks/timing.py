"""How training steps are timed side by side, and how ratios are printed."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def stepper(module: nn.Module, loss: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[], float]:
    """A training step by fused AdamW, which returns its processor time in seconds."""
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-4, fused=True)

    def step() -> float:
        start = time.process_time()
        optimizer.zero_grad(set_to_none=True)
        loss(x).backward()
        optimizer.step()
        return time.process_time() - start

    return step


def in_turns(repeats: int, tasks: dict[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Seconds of each task at each repeat, the tasks taking turns, after two rounds that are not counted."""
    rounds = [{name: task() for name, task in tasks.items()} for _ in range(repeats + 2)][2:]
    return {name: [found[name] for found in rounds] for name in tasks}


def ratio(above: list[float], below: list[float], bar: float | None) -> dict[str, Any]:
    """Median of the ratios of each turn, with quartiles."""
    first, middle, third = statistics.quantiles([a / b for a, b in zip(above, below, strict=True)], n=4)
    return {"ratio": middle, "quartiles": (first, third), "bar": bar}


def show(title: str, found: dict[str, Any]) -> None:
    """For people."""
    print(title)
    for name, value in found.items():
        if isinstance(value, dict) and "quartiles" in value:
            low, high = value["quartiles"]
            bar = "" if value["bar"] is None else f", bar {value['bar']}"
            text = f"{value['ratio']:.3g} ({low:.3g} to {high:.3g}{bar})"
        elif isinstance(value, dict):
            text = ", ".join(f"{key} {number:.4g}" for key, number in value.items())
        else:
            text = f"{value:.2g}"
        print(f"    {name:<28}{text}", flush=True)
