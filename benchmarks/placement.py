"""Places the paper's networks on both chips: cores, chips, seconds, what decides, what fits.

Run from the repository's root::

    python benchmarks/placement.py [--axons single] [--kernels unshared] [--rate R] [--large]
        [--json PATH|-]

Weights are initial ones: a placement depends on their shapes and widths alone. CIFAR-10 networks
take Poisson input over 10 steps, ResNet34 direct input of 224 x 224 pixels over 4. With ``--rate``
every source neuron sends so often in each of its steps, and spare cores are given away by the time
of all steps, as they are for a network that was run; the time of a sample is printed. ``--large``
adds VGG16 at 224 x 224, whose 138 million weights take minutes and 7 GB to make.
"""

import argparse
import sys
import time
from typing import Any

import common
import torch
from speed.untrained import untrained

from spikeship.hw_models import chips
from spikeship.hw_models.chips.spec import ChipSpec
from spikeship.hw_models.cost.core_work import core_work
from spikeship.hw_models.cost.step_time import step_times
from spikeship.hw_models.events.traffic import Traffic
from spikeship.hw_models.graph import FixedGraph
from spikeship.hw_models.placement.layer import core_limits
from spikeship.hw_models.placement.placement import PlacedLayer, Rules
from spikeship.hw_models.placer.place import place

# architecture, side of an image, classes, T
NETWORKS = (
    ("vgg5", 32, 10, 10),
    ("vgg16", 32, 10, 10),
    ("resnet20", 32, 10, 10),
    ("resnet34", 224, 1000, 4),
)
LARGE = ("vgg16", 224, 1000, 4)


def network(arch: str, side: int, classes: int, num_steps: int) -> FixedGraph:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(1, 3, side, side, generator=generator)
    return untrained(arch, images, num_steps=num_steps, classes=classes)


def row_of(
    graph: FixedGraph, chip: ChipSpec, rules: Rules, traffic: Traffic | None = None
) -> dict[str, Any]:
    """A placement as a row, with the seconds that it took."""
    begin = time.perf_counter()
    placed = place(graph, chip, rules=rules, traffic=traffic)
    seconds = time.perf_counter() - begin
    latency = None
    if traffic is not None:
        steps = len(traffic.messages[graph.input.name])
        latency = step_times(core_work(graph, placed, chip, traffic, steps), chip).total
    return {
        "chip": chip.name,
        "cores": placed.cores,
        "chips": placed.chips,
        "fits": placed.fits,
        "seconds": seconds,
        "latency_s": latency,
        "misfits": list(placed.reasons),
        "assumptions": list(placed.assumptions),
        "injected": list(placed.injected),
        "layers": [layer_row(layer, chip) for layer in placed.layers],
    }


def layer_row(layer: PlacedLayer, chip: ChipSpec) -> dict[str, Any]:
    """Split, what decided it, and how full its fullest core is, by limit."""
    fullest = {
        name: max(core.loads[name] for core in layer.cores) / limit.value
        for name, limit in core_limits(chip).items()
    }
    return {
        "name": layer.name,
        "cores": len(layer.cores),
        "split": [layer.channel_groups, layer.row_tiles, layer.column_tiles],
        "limit": layer.limit,
        "fullest": fullest,
    }


def tell(arch: str, side: int, row: dict[str, Any], say: common.Say) -> None:
    fits = "fits" if row["fits"] else "does not fit"
    say(
        f"{arch} {side}x{side} on {row['chip']}: {row['cores']:,} cores, {row['chips']} "
        f"chip{'s' * (row['chips'] > 1)}, {fits}; placed in {row['seconds']:.2f} s"
        + ("" if row["latency_s"] is None else f", {row['latency_s'] * 1e3:.4g} ms a sample")
    )
    for line in row["misfits"]:
        say(f"  {line}")
    for layer in row["layers"]:
        groups, rows, columns = layer["split"]
        shares = ", ".join(f"{name} {share:.0%}" for name, share in layer["fullest"].items())
        say(
            f"  {layer['name']:<32} {layer['cores']:>5} = {groups} groups x {rows} x {columns}"
            f"  {layer['limit']:<16} {shares}"
        )


def main(argv: list[str] | None = None) -> int:
    parser = common.parser(__doc__)
    parser.add_argument("--axons", choices=("population", "single"), default="population")
    parser.add_argument("--kernels", choices=("shared", "unshared"), default="shared")
    parser.add_argument("--rate", type=float, help="messages a source neuron and step")
    parser.add_argument("--large", action="store_true", help="VGG16 at 224 x 224 as well")
    options = parser.parse_args(argv)
    return common.conclude(
        "placement", options.json, lambda say: (everything(options, say), common.DONE)
    )


def everything(options: argparse.Namespace, say: common.Say) -> dict[str, Any]:
    rules = Rules(options.axons, options.kernels)
    rows = []
    for arch, side, classes, num_steps in (*NETWORKS, *([LARGE] if options.large else [])):
        graph = network(arch, side, classes, num_steps)
        traffic = None if options.rate is None else Traffic.uniform(graph, options.rate, num_steps)
        for chip in chips.CHIPS.values():
            row = row_of(graph, chip, rules, traffic)
            tell(arch, side, row, say)
            rows.append({"network": arch, "side": side, "num_steps": num_steps, **row})
    return {"rules": vars(rules), "rows": rows}


if __name__ == "__main__":
    sys.exit(main())
