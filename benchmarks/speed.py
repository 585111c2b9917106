"""Speed of the causal networks: drawing against one parallel pass, and the training step.

    python benchmarks/speed.py [--quick] [--json]

One thread. Absolute times drift, so whatever is compared is timed in turns; a ratio is that of the medians, its spread
runs from the smallest to the largest ratio of one turn. Beside every speed stands its exactness: x, drawn with the
cache from the uniform numbers u, is what one parallel pass per symbol would draw from u exactly if a single pass over
x, with the same u, gives x again. Symbols where it does not are counted, and the logits of both views are compared.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from likely import MADE, Event, GatedPixelCNN
from likely.density import Autoregressive, run

IMAGE = Event((1, 28, 28), levels=2)
MODELS = {
    "MADE 784-1024-1024": lambda: MADE(IMAGE, hidden=(1024, 1024)),
    "Gated PixelCNN, 64 channels, 6 layers": lambda: GatedPixelCNN(IMAGE, channels=64, layers=6, kernel=3),
}
BATCHES = (1, 16, 64)
BARS = {"MADE": (9, 6, 3.4), "GatedPixelCNN": (16, 3, 1.5)}  # drawing ÷ pass at each batch
PASSES = {1: 9, 16: 3, 64: 1}  # timed as one, so that short ones are not drowned in noise
STEP_BAR, COST_BAR, LOGITS_BAR = 0.75, 1.15, 1e-5


def seconds(task: Callable[[], Any], times: int = 1) -> float:
    start = time.perf_counter()
    for _ in range(times):
        task()
    return (time.perf_counter() - start) / times


def in_turns(repeats: int, **tasks: Callable[[], float]) -> dict[str, list[float]]:
    """Seconds of each task at each repeat, the tasks taking turns, after a round that is not counted."""
    for task in tasks.values():
        task()
    rounds = [{name: task() for name, task in tasks.items()} for _ in range(repeats)]
    return {name: [found[name] for found in rounds] for name in tasks}


def ratio(above: list[float], below: list[float], bar: float | None = None) -> dict[str, Any]:
    each = [a / b for a, b in zip(above, below, strict=True)]
    middle = statistics.median(above) / statistics.median(below)
    return {"ratio": middle, "smallest": min(each), "largest": max(each), "bar": bar}


def macs(task: Callable[[], Any]) -> int:
    with FlopCounterMode(display=False) as counter:
        task()
    return counter.get_total_flops() // 2


@torch.no_grad()
def drawing(model: Autoregressive, batch: int, repeats: int) -> dict[str, Any]:
    """Drawing ÷ the fastest pass; for a Gated PixelCNN also ÷ the pass in contiguous format, which its bar is about."""
    x = model.sample(batch)
    tasks = {
        "draw": lambda: seconds(lambda: model.sample(batch)),
        "pass": lambda: seconds(lambda: model.conditionals(x), PASSES[batch]),
    }
    bar = BARS[type(model).__name__][BATCHES.index(batch)]
    if isinstance(model, GatedPixelCNN):
        torch.testing.assert_close(contiguous_pass(model, x), model.conditionals(x).logit[..., 0], rtol=1e-4, atol=1e-4)
        tasks["contiguous pass"] = lambda: seconds(lambda: contiguous_pass(model, x), PASSES[batch])
    times = in_turns(repeats, **tasks)
    milliseconds = {name: 1000 * statistics.median(found) for name, found in times.items()}
    found = {"milliseconds": milliseconds} | {
        f"draw ÷ {name}": ratio(times["draw"], times[name], None if name == "pass" and len(times) == 3 else bar)
        for name in times
        if name != "draw"
    }
    cost = {"ratio": macs(lambda: model.sample(batch)) / macs(lambda: model.conditionals(x)), "bar": COST_BAR}
    return found | {"multiply-accumulates, draw ÷ pass": cost} | exactness(model, batch)


def exactness(model: Autoregressive, batch: int) -> dict[str, Any]:
    u = torch.rand(batch, *model.event.shape, generator=torch.Generator().manual_seed(0))
    logits = torch.empty_like(u)

    def choose(where: Any, p: Any) -> Tensor:
        logits[where] = p.logit[..., 0]
        return p.quantile(u[where])

    x = run(model.steps(batch), choose)
    parallel = model.conditionals(x)
    difference = float((parallel.logit[..., 0] - logits).abs().max())
    differing = {"count": int((parallel.quantile(u) != x).sum()), "of": x.numel()}
    return {"symbols that differ": differing, "logits differ by": {"most": difference, "bar": LOGITS_BAR}}


def gate(x: Tensor) -> Tensor:
    a, b = x.chunk(2, 1)
    return a.tanh() * b.sigmoid()


def contiguous_pass(model: GatedPixelCNN, x: Tensor) -> Tensor:
    """Logits of a one-channel model from its own weights, as is the custom: (n, channels, h, w), F.pad, conv2d."""
    v = h = model.symbols(x.movedim(1, -1)).movedim(-1, 1).contiguous()
    stack, rows = model.above.stack, [model.first, *model.rest]
    for i, (vertical, link, row) in enumerate(zip(stack.layers, stack.links, rows, strict=True)):
        side, across = vertical.side, row.convolution
        y = F.conv2d(F.pad(v, (side, side, side, 0)), vertical.weight, vertical.bias)
        above = F.pad(F.conv2d(y, link.weight[..., None, None], link.bias)[:, :, :-1], (0, 0, 1, 0))
        v = v + gate(y) if i else gate(y)
        y = F.conv2d(F.pad(h, (across.side, 0)), (across.weight * across.mask)[..., : across.taps], across.bias)
        y = F.conv2d(gate(y[..., : x.shape[3]] + above), row.mix.weight, row.mix.bias)
        h = h + y if i else y
    h = F.conv2d(h.relu(), model.mix.weight, model.mix.bias)
    return F.conv2d(h.relu(), model.output.weight, model.output.bias)


def dense_loss(model: MADE, x: Tensor) -> Tensor:
    """The loss of the same network with dense weights times masks, as is the custom."""
    x = x.flatten(1)
    h = model.symbols(x)
    for layer in model.layers:
        h = F.linear(h, layer.weight * layer.mask, layer.bias).relu()
    logits = F.linear(h, model.output.weight * model.output.mask, model.output.bias)
    return F.binary_cross_entropy_with_logits(logits, x.float())


def step(model: Autoregressive, loss: Callable[[Tensor], Tensor], batch: int) -> Callable[[], float]:
    x = torch.randint(2, (batch, *IMAGE.shape))
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)

    def train() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss(x).backward()
        optimizer.step()

    return lambda: seconds(train)


def training(repeats: int) -> dict[str, Any]:
    made, dense = MADE(IMAGE, hidden=(1024, 1024)), MADE(IMAGE, hidden=(1024, 1024))
    x = torch.randint(2, (100, *IMAGE.shape))
    torch.testing.assert_close(made.loss(x), dense_loss(dense, x))
    pixels = GatedPixelCNN(IMAGE, channels=32, layers=6, kernel=3)
    times = in_turns(
        5 * repeats,
        made=step(made, made.loss, 100),
        dense=step(dense, lambda x: dense_loss(dense, x), 100),
    ) | in_turns(repeats, pixels=step(pixels, pixels.loss, 16))
    middle = {name: 1000 * statistics.median(found) for name, found in times.items()}
    return {
        "MADE 784-1024-1024, batch 100": {
            "milliseconds": {"step": middle["made"], "dense": middle["dense"]},
            "step ÷ the same with dense masked weights": ratio(times["made"], times["dense"], STEP_BAR),
        },
        "Gated PixelCNN, 32 channels, 6 layers, batch 16": {"milliseconds": {"step, per image": middle["pixels"] / 16}},
    }


def show(title: str, found: dict[str, Any]) -> None:
    print(title)
    for name, value in found.items():
        parts = {key: format(v, ".3g" if isinstance(v, float) else "") for key, v in value.items() if v is not None}
        if "smallest" in parts:
            parts = {"": f"{parts['ratio']} ({parts['smallest']} to {parts['largest']})"} | (
                {"bar": parts["bar"]} if "bar" in parts else {}
            )
        print(f"    {name:<42}" + ", ".join(f"{key} {part}".strip() for key, part in parts.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three repeats instead of seven, no batch of 64")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout, nothing else")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    repeats, batches = (3, BATCHES[:2]) if arguments.quick else (7, BATCHES)
    results: dict[str, Any] = {"threads": 1, "torch": torch.__version__, "repeats": repeats, "drawing": {}}
    if not arguments.json:
        print(
            f"one thread, torch {torch.__version__}, {repeats} repeats in turns: medians (smallest to largest ratio)\n"
        )
    for name, build in MODELS.items():
        model = build().eval()
        for batch in batches:
            title = f"{name}, batch {batch}"
            found = results["drawing"][title] = drawing(model, batch, repeats)
            if not arguments.json:
                show(title, found)
    results["training"] = training(repeats)
    if arguments.json:
        print(json.dumps(results, indent=1))
    else:
        for name, found in results["training"].items():
            show(f"training step, {name}", found)


if __name__ == "__main__":
    main()
