"""Seconds an image of one spiking network on four engines, and whether their spikes are the same.

``python benchmarks/simulator.py [--json PATH|-] [--full]``

The paper's VGG5 at full width, trained on CIFAR-10 or Fashion-MNIST (whichever $SPIKESHIP_DATA
holds) and converted for Poisson input, T = 75, on 2 cores. Measured in turn, in one run: lava-nc on
one image (its T + D steps alone, without start and compilation), the reference on one image,
SpikingJelly's float network on a batch, and the simulator on the same batch with its counts, after
one turn that warms up; medians. ``spikes_equal`` says that Lava, the reference, the simulator and
SpikingJelly with the integer weights agree in every spike of every node on one image, and that the
batch that was timed has SpikingJelly's numbers of spikes and its readouts, step by step. ``--full``
goes on with 10,000 images, and with VGG16 at T = 100 on 1,000.
"""

import argparse
import math
import sys
from pathlib import Path
from typing import Any

import common
import machine

THREADS = 2
SEED = 0
JELLY_AT_ONCE = 8  # images that SpikingJelly's integers take when spikes are compared


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = common.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="turns that are timed")
    parser.add_argument("--batch", type=int, default=32, help="images of a timed batch")
    parser.add_argument("--threads", type=int, default=THREADS, help="cores and threads")
    parser.add_argument("--data", help="cifar10 or fashion-mnist; by default the one at hand")
    parser.add_argument("--cache", type=Path, help="folder where the trained network is kept")
    parser.add_argument("--full", action="store_true", help="also whole test sets, and VGG16")
    given = parser.parse_args()
    for name in ("rounds", "batch", "threads"):
        if getattr(given, name) < 1:
            parser.error(f"--{name} must be at least 1, got {getattr(given, name)}")
    return given


def main() -> int:
    """Measure and print."""
    given = arguments()
    threads = machine.hold_to(given.threads)
    return common.conclude(
        "simulator", given.json, lambda say: (everything(given, threads, say), common.DONE)
    )


def everything(given: argparse.Namespace, threads: int, say: common.Say) -> dict[str, Any]:
    """Find or train the network and measure what was asked for.

    Raises:
        DataError: there are no images. LavaError: Lava did not run. ImportError: a peer is not
            installed.
    """
    # what counts the cores is imported after they were held
    import torch
    from speed import full
    from speed.trained import default_cache, find_set, trained

    torch.set_num_threads(threads)
    network = trained(find_set(given.data), given.cache or default_cache(), say)
    result = measured(network, given.batch, given.rounds, threads, say)
    if given.full:
        result["full"] = full.measured(network, threads, say)
    return result


def measured(
    network: Any, batch: int, rounds: int, threads: int, say: common.Say
) -> dict[str, Any]:
    """Time all engines, compare their spikes, and say what came of it.

    Args:
        network: a ``trained.Trained``.
        batch: images of a timed batch.
        rounds: turns that are timed.
        threads: how many each engine uses.
        say: told what was measured.
    """
    from speed import spikes
    from speed.engines import Engines, medians, timed

    from spikeship.deploy.io.inputs import messages_of

    graph, images = network.graph, network.held_out.first(batch)
    messages = messages_of(graph, images, seed=SEED)
    engines = Engines(graph, network.snn, network.ann.network, messages, images.values, threads)
    seconds = timed(engines.calls(), rounds, say)
    middle = medians(seconds)
    say("compare the spikes of all engines")
    compared = spikes.agreement(
        graph,
        messages,
        engines.expected,
        engines.lava,
        engines.simulation,
        at_once=JELLY_AT_ONCE,
    )
    steps, simulation = messages.shape[1], engines.simulation
    correct = images.correct(simulation.predictions)
    assert correct is not None  # the sets are labelled
    result = {
        "seconds_per_image": {
            name: middle[name] for name in ("lava", "reference", "spikingjelly", "spikeship")
        },
        "dense_f32_forward_s": middle["dense"],
        "num_steps": steps,
        "spikes_equal": all(compared.values()),
        "activity": spikes.activity(graph, simulation.counts),
        "ratios": ratios(middle, steps),
        "compared": compared,
        "spikingjelly_bfloat16_s": middle["spikingjelly_bfloat16"],
        "turns": seconds,
        "chip_steps": graph.chip_steps(steps),
        "network": {
            "arch": "vgg5",
            "data": network.held_out.data["name"],
            "ann_accuracy": network.accuracy,
            "accuracy": correct / len(messages),
        },
        "neurons": {node.name: math.prod(node.shape) for node in graph.nodes},
        "rails": {name: list(met) for name, met in simulation.rails.items()},
        "images": len(messages),
        "batch": len(messages),
        "threads": threads,
        "machine": machine.described(threads),
    }
    for name, ratio in result["ratios"].items():
        say(f"{name:32} {ratio:10.2f}")
    say(f"equal: {compared}")
    return result


def ratios(middle: dict[str, float], steps: int) -> dict[str, float]:
    """How many times as long as the simulator the others take for an image."""
    times = {f"{name}_vs_spikeship": spent for name, spent in middle.items() if name != "spikeship"}
    # a spiking network of T steps against T forward passes of the classifier
    times["T_dense_forwards_vs_spikeship"] = steps * times.pop("dense_vs_spikeship")
    return {name: spent / middle["spikeship"] for name, spent in times.items()}


if __name__ == "__main__":
    sys.exit(main())
