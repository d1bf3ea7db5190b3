"""Whole test sets through the simulator: VGG5 on 10,000 images, VGG16 at T = 100 on 1,000.

Each runs in a process of its own, so that its peak memory is its own too: the interpreter, torch,
the network, the images and the simulation.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import machine

BENCHMARKS = Path(__file__).parents[1]
SEED = 0
VGG16_STEPS = 100
BALANCED_ON = 16  # training images


def measured(network: Any, threads: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Run both, one after the other.

    Args:
        network: a ``trained.Trained``.
        threads: how many to use.
        say: told what was measured.

    Returns:
        By name: images, num_steps, seconds (encoding included), peak_bytes, accuracy, activity.
    """
    from speed.untrained import untrained
    from spikeship.deploy.io import network_file as files

    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="spikeship-benchmark-") as folder:
        for name, images in (("vgg5", 10_000), ("vgg16", 1_000)):
            graph = network.graph
            if name == "vgg16":
                like = network.calibration.first(BALANCED_ON)
                graph = untrained(name, like.values, num_steps=VGG16_STEPS, data=dict(like.data))
            path = Path(folder) / f"{name}.safetensors"
            files.save(graph, path)
            results[name] = found = _in_a_process(path, graph, images, threads)
            say(
                f"{name}: {found['images']} images at T = {found['num_steps']} in "
                f"{found['seconds']:.0f} s, {found['accuracy']:.2%} right, "
                f"peak {found['peak_bytes'] / 1e9:.2f} GB"
            )
    results["vgg16"]["weights"] = f"initial, balanced on {BALANCED_ON} training images"
    return results


def _in_a_process(path: Path, graph: Any, images: int, threads: int) -> dict[str, Any]:
    job = [str(path), graph.metadata["data"]["name"], str(images), str(threads)]
    command = [sys.executable, "-P", "-m", "speed.full", *job]
    path_to = [str(BENCHMARKS), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path_to))}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def evaluated(path: Path, data: str, limit: int, threads: int) -> dict[str, Any]:
    """Run a network over the first test images in this process, as ``spikeship simulate`` does."""
    import torch

    from speed import spikes
    from spikeship.deploy.io import network_file as files
    from spikeship.deploy.io.inputs import load_images
    from spikeship.deploy.run.evaluate import Running, evaluate_graph

    torch.set_num_threads(threads)
    graph = files.load(path)
    like = dict(graph.metadata["data"])
    images = load_images(data, None, limit=limit, like=like, input_shape=graph.input.shape)
    began = time.perf_counter()
    found = evaluate_graph(graph, images, seed=SEED, running=Running(threads=threads))
    seconds = time.perf_counter() - began
    assert found.counts is not None  # the simulator always counts
    count, correct = len(images.values), images.correct(found.predictions)
    assert correct is not None  # the sets are labelled
    return {
        "images": count,
        "num_steps": found.counts.num_steps,
        "seconds": seconds,
        "peak_bytes": machine.peak_bytes(),
        "accuracy": correct / count,
        "correct": correct,
        "activity": spikes.activity(graph, found.counts),
    }


if __name__ == "__main__":
    threads = machine.hold_to(int(sys.argv[4]))
    print(json.dumps(evaluated(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), threads)))
