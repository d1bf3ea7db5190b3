"""Time and memory of training steps and of threshold balancing, beside their alternatives.

``python benchmarks/training.py [--json PATH|-] [--rounds N] [--only steps|memory|balancing|share]``

VGG5 of the paper at full width on 32 x 32 images: one training step (forward, cross-entropy,
backward, without the optimizer) by this toolkit, by a plain loop over time steps, and by
SpikingJelly's multi-step neurons, each in float32 and under bfloat16 autocast, all in turn in one
run; the ratio is between the better precisions of each. Memory is the peak resident size of a
process of its own that does one such step. Balancing is 100 steps on 64 images, against running
every prefix of the network again for every layer. Share is the part of a classifier's training
that the bare network's forward and backward pass take: the rest is images, loss, optimizer,
averaged weights and the loop.
"""

import argparse
import copy
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

# large blocks of memory in huge pages, for all who are measured here alike
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

import common
import torch
from peers.jelly import Jelly
from peers.plain_loop import PlainLoop
from sequential_balancing import sequential_thresholds
from torch import Tensor, nn

from spikeship.training.ann.zoo import build
from spikeship.training.conversion.convert import convert
from spikeship.training.data.load import DataError, DataSet, Split, load
from spikeship.training.fit.classifier import train_ann
from spikeship.training.fit.recipe import recipe_for
from spikeship.training.frontends.trace import trace
from spikeship.training.snn.encoding import encode
from spikeship.training.snn.neurons import HeldDropout
from spikeship.training.snn.spiking_network import SpikingNetwork

SHAPE, CLASSES = (3, 32, 32), 10
STEPS, BATCHES = (75, 10), (16, 4, 64)
# whose classifiers' training is looked into: architecture, options, batch
SHARED: tuple[tuple[str, dict[str, Any], int], ...] = (
    ("resnet20-small", {}, 256),
    ("vgg16", {"batch_norm": True}, 128),
)
SHARED_STEPS = 12
PRECISIONS = ("float32", "bfloat16")
MAKERS: dict[str, Callable[[SpikingNetwork], nn.Module]] = {
    "spikeship": lambda snn: snn,
    "plain_loop": PlainLoop,
    "spikingjelly": Jelly,
}


def pictures(count: int) -> tuple[Tensor, Tensor, str]:
    """Normalised images, labels, and what they are: CIFAR-10 where it is at hand."""
    try:
        data = load("cifar10")
        labels = data.split("train").labels
        assert labels is not None
        return data.normalised("train", slice(0, count)), labels[:count], "CIFAR-10"
    except DataError:
        return *smooth(count), "smooth random images"


def smooth(count: int) -> tuple[Tensor, Tensor]:
    """Random images as smooth as real ones, and labels."""
    draw = torch.Generator().manual_seed(0)
    noise = torch.randn(count, *SHAPE, generator=draw)
    labels = torch.randint(0, CLASSES, (count,), generator=draw)
    return nn.functional.avg_pool2d(noise, 5, 1, 2) * 5, labels


def network(arch: str, images: Tensor) -> SpikingNetwork:
    """The paper's network with its initial weights, thresholds balanced on a few images."""
    torch.manual_seed(0)
    ann = trace(build(arch, SHAPE, CLASSES), SHAPE)
    return convert(ann, images[:8], num_steps=75, balance_steps=75, factor=0.7)


def step(model: nn.Module, messages: Tensor, labels: Tensor, precision: str) -> float:
    """One training step's seconds."""
    for parameter in model.parameters():
        parameter.grad = None
    began = time.perf_counter()
    cast = torch.autocast("cpu", torch.bfloat16) if precision == "bfloat16" else nullcontext()
    with cast:
        scores = model(messages) / messages.shape[1]
        loss = nn.functional.cross_entropy(scores, labels)
    loss.backward()
    return time.perf_counter() - began


def prepared(name: str, snn: SpikingNetwork) -> nn.Module:
    """A library's model of a network, with STDB's slope where it has it, in training mode."""
    for neuron in snn.neurons.values():
        neuron.surrogate_name = "stdb"
    return MAKERS[name](snn.train())


def timed(images: Tensor, labels: Tensor, rounds: int, say: common.Say) -> dict[str, Any]:
    """Milliseconds an image of every library, precision, T and batch, interleaved."""
    snn = network("vgg5", images)
    models = {name: prepared(name, copy.deepcopy(snn)) for name in MAKERS}
    activity = _activity(snn, images)
    say(f"VGG5, {images.shape[0]} images at hand, activity {activity:.1%} of neuron-steps")
    results: dict[str, Any] = {"activity": activity}
    for steps in STEPS:
        for batch in BATCHES:
            x, y = images[:batch], labels[:batch]
            messages = encode(x, snn.coding, steps)
            turns = rounds if batch <= 16 else 1
            seconds: dict[tuple[str, str], list[float]] = {}
            for turn in range(turns + (batch <= 16)):
                for precision in PRECISIONS:
                    for name, model in models.items():
                        spent = step(model, messages, y, precision)
                        # the first turn warms up
                        if turn or batch > 16:
                            seconds.setdefault((name, precision), []).append(spent)
            cell: dict[str, Any] = {}
            for name in models:
                times = {p: statistics.median(seconds[name, p]) for p in PRECISIONS}
                best = min(times, key=lambda p: times[p])
                cell[name] = {
                    "ms_per_image": {p: 1000 * value / batch for p, value in times.items()},
                    "best": best,
                }
                say(
                    f"T={steps:3} batch {batch:2} {name:12}"
                    + "".join(f"  {p} {1000 * times[p] / batch:8.1f} ms/image" for p in times)
                )
            ours = _best(cell["spikeship"])
            cell["vs_plain_loop"] = _best(cell["plain_loop"]) / ours
            cell["vs_spikingjelly"] = _best(cell["spikingjelly"]) / ours
            say(
                f"T={steps:3} batch {batch:2} plain loop / ours {cell['vs_plain_loop']:.2f}, "
                f"SpikingJelly / ours {cell['vs_spikingjelly']:.2f}"
            )
            results[f"T{steps}_batch{batch}"] = cell
    return results


def _best(entry: dict[str, Any]) -> float:
    return float(entry["ms_per_image"][entry["best"]])


@torch.no_grad()
def _activity(snn: SpikingNetwork, images: Tensor) -> float:
    spikes = values = 0.0
    for part in snn.eval().walk(encode(images[:16], snn.coding, 75)):
        if part.spikes is not None:
            spikes += float(part.spikes.sum())
            values += part.spikes.numel()
    snn.train()
    return spikes / values


def gradient_error(images: Tensor, labels: Tensor) -> float:
    """Largest difference of a gradient to the plain loop's in float32, relative to its largest."""
    snn = network("vgg5", images)
    ours, plain = (prepared(name, copy.deepcopy(snn)) for name in ("spikeship", "plain_loop"))
    messages = encode(images[:4], snn.coding, 10)
    for model in (ours, plain):
        for module in model.modules():
            if isinstance(module, HeldDropout):
                module.p = 0.0  # each would draw its own masks
        step(model, messages, labels[:4], "float32")
    worst = 0.0
    for mine, theirs in zip(ours.parameters(), plain.parameters(), strict=True):
        assert mine.grad is not None and theirs.grad is not None
        scale = float(theirs.grad.abs().max())
        worst = max(worst, float((mine.grad - theirs.grad).abs().max()) / scale)
    return worst


def peak_bytes(name: str, precision: str, steps: int, batch: int) -> int:
    """Peak resident size of this process in one training step, all it holds included."""
    # reading a set takes memory too
    images, labels = smooth(max(batch, 8))
    snn = network("vgg5", images)
    model = prepared(name, snn)
    messages = encode(images[:batch], snn.coding, steps)
    # what making the network took is over; forget that peak (Linux)
    Path("/proc/self/clear_refs").write_text("5")
    step(model, messages, labels[:batch], precision)
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def memory(say: common.Say) -> dict[str, Any]:
    """Peak bytes of every library at batch 16, each in a process of its own."""
    results: dict[str, Any] = {}
    for steps in STEPS:
        cell: dict[str, Any] = {}
        for name in MAKERS:
            cell[name] = {}
            for precision in PRECISIONS:
                command = [sys.executable, __file__, "--peak", f"{name},{precision},{steps},16"]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                cell[name][precision] = int(done.stdout)
            say(
                f"T={steps:3} batch 16 {name:12}"
                + "".join(f"  {p} {cell[name][p] / 1e9:6.2f} GB" for p in PRECISIONS)
            )
        results[f"T{steps}"] = cell
    return results


def balancing(images: Tensor, rounds: int, say: common.Say) -> dict[str, Any]:
    """Seconds to balance over 100 steps on 64 images, and by the sequential algorithm."""
    results: dict[str, Any] = {}
    for arch in ("vgg5", "vgg16"):
        torch.manual_seed(0)
        # no dropout while balancing
        ann = trace(build(arch, SHAPE, CLASSES), SHAPE).eval()
        ours: list[float] = []
        theirs: list[float] = []
        for _ in range(rounds if arch == "vgg5" else 1):
            began = time.perf_counter()
            # all of a conversion but for what depends on its T: encoding, balancing, units
            snn = convert(ann, images[:64], num_steps=1, balance_steps=100, factor=1.0)
            between = time.perf_counter()
            messages = encode(images[:64], snn.coding, 100)
            expected = sequential_thresholds(ann, messages, snn.coding.scale)
            theirs.append(time.perf_counter() - between)
            ours.append(between - began)
            found = {name: float(neuron.threshold) for name, neuron in snn.neurons.items()}
        error = max(abs(found[name] / expected[name] - 1) for name in expected)
        results[arch] = {
            "ours_s": statistics.median(ours),
            "sequential_s": statistics.median(theirs),
            "relative_error": error,
        }
        say(
            f"balancing {arch}: ours {results[arch]['ours_s']:.1f} s, sequential "
            f"{results[arch]['sequential_s']:.1f} s, thresholds differ by {error:.1e}"
        )
    return results


def shares(rounds: int, say: common.Say) -> dict[str, Any]:
    """Part of an epoch of ``train`` that the bare network takes, of the rounds the median."""
    results: dict[str, Any] = {}
    for arch, options, batch in SHARED:
        dataset = some(batch * SHARED_STEPS)
        found, spent, bare = [], [], []
        for _ in range(rounds):
            torch.manual_seed(0)
            model = build(arch, SHAPE, CLASSES, **options)
            # two epochs, of which the first warms up
            recipe = recipe_for(model, dataset, settings={"epochs": 2, "batch_size": batch})
            history = train_ann(
                model,
                dataset,
                recipe.config,
                variation=recipe.variation,
                label_smoothing=recipe.label_smoothing,
                quiet=True,
            )
            spent.append(history[-1].seconds)
            bare.append(bare_epoch(model, dataset, batch, recipe.config.precision))
            found.append(bare[-1] / spent[-1])
        images = len(dataset.split("train").images)
        results[arch] = {
            "share": statistics.median(found),
            "shares": found,
            "ms_per_image": 1000 * statistics.median(spent) / images,
            "bare_ms_per_image": 1000 * statistics.median(bare) / images,
            "batch": batch,
            "precision": recipe.config.precision,
        }
        say(
            f"{arch:15} batch {batch}: the bare network takes {results[arch]['share']:.1%} of a "
            f"step, {results[arch]['bare_ms_per_image']:.3f} of "
            f"{results[arch]['ms_per_image']:.3f} ms an image"
        )
    return results


def some(images: int) -> DataSet:
    """Training images of CIFAR-10 where it is at hand, else random ones in its form."""
    try:
        dataset = load("cifar10")
    except DataError:
        draw = torch.Generator().manual_seed(0)
        pixels = torch.randint(0, 256, (images, *SHAPE), generator=draw, dtype=torch.uint8)
        labels = torch.randint(0, CLASSES, (images,), generator=draw)
        third = (0.5,) * 3
        split = Split(pixels, labels)
        return DataSet("noise", split, None, CLASSES, third, third, augmentation="shift-flip")
    return replace(dataset, train=dataset.split("train").take(slice(images)))


def bare_epoch(model: nn.Module, dataset: DataSet, batch: int, precision: str) -> float:
    """Seconds of forward, backward and nothing else, on images that are ready."""
    model.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = dataset.normalised("train").contiguous(memory_format=torch.channels_last)
    seconds = 0.0
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
        for x in torch.split(images, batch):
            for parameter in model.parameters():
                parameter.grad = None
            began = time.perf_counter()
            scores = model(x)
            scores.backward(torch.ones_like(scores))
            seconds += time.perf_counter() - began
    return seconds


def main() -> int:
    """Run what is asked for and print it."""
    parser = common.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("steps", "memory", "balancing", "share"))
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        name, precision, steps, batch = arguments.peak.split(",")
        print(peak_bytes(name, precision, int(steps), int(batch)))
        return 0
    return common.conclude(
        "training", arguments.json, lambda say: (everything(arguments, say), common.DONE)
    )


def everything(arguments: argparse.Namespace, say: common.Say) -> dict[str, Any]:
    """Measure what was asked for."""
    images, labels, source = pictures(64)
    result: dict[str, Any] = {"images": source, "threads": torch.get_num_threads()}
    if arguments.only in (None, "steps"):
        result["steps"] = cells = timed(images, labels, arguments.rounds, say)
        for peer in ("plain_loop", "spikingjelly"):
            result[f"vs_{peer}"] = {f"T{t}": cells[f"T{t}_batch16"][f"vs_{peer}"] for t in STEPS}
        result["gradient_error"] = gradient_error(images, labels)
        say(f"float32 gradients differ from the plain loop's by {result['gradient_error']:.1e}")
    if arguments.only in (None, "memory"):
        result["memory"] = peaks = memory(say)
        # like with like: the paper's precision for both, and half of it for both
        for key, precision in (("", "float32"), ("_bfloat16", "bfloat16")):
            result[f"memory_vs_plain_loop{key}"] = {
                cell: libraries["spikeship"][precision] / libraries["plain_loop"][precision]
                for cell, libraries in peaks.items()
            }
    if arguments.only in (None, "balancing"):
        result["balancing"] = balanced = balancing(images, arguments.rounds, say)
        result["balancing_vs_sequential"] = {
            arch: cell["sequential_s"] / cell["ours_s"] for arch, cell in balanced.items()
        }
    if arguments.only in (None, "share"):
        result["shares"] = shares(arguments.rounds, say)
    return result


if __name__ == "__main__":
    sys.exit(main())
