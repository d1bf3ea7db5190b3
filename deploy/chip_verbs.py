"""The verbs about integers: quantize, export, predict, verify, compare."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from spikeship.deploy import ann as anns
from spikeship.deploy import files
from spikeship.deploy.check import DeployError
from spikeship.deploy.compare import Stages
from spikeship.deploy.compare import compare as compare_stages
from spikeship.deploy.console import DONE, NO, Voice, check_writable
from spikeship.deploy.evaluate import Running, evaluate_graph
from spikeship.deploy.export.lava import export_lava
from spikeship.deploy.inputs import CALIBRATION, images_for, load_images, messages_of
from spikeship.deploy.net_verb import SUFFIX, quantize_net, tell_quantized
from spikeship.deploy.own_inputs import read_own
from spikeship.deploy.quantize import quantize as quantize_network
from spikeship.deploy.report import table
from spikeship.deploy.verify import Against, random_messages
from spikeship.deploy.verify import verify as verify_graph
from spikeship.training.from_nir import from_nir, read_nir
from spikeship.training.observe import observe_ranges


def quantize(
    voice: Voice,
    snn: Path,
    chip: str,
    weight_bits: int | None,
    data: str | None,
    data_dir: Path | None,
    output: Path,
    limit: int | None,
    seed: int,
    layers: int | None = None,
) -> int:
    """Quantize a spiking network and write its integers; those of a ``.net`` file as they are."""
    if snn.suffix == SUFFIX:
        return quantize_net(voice, snn, chip, weight_bits, data, output, layers)
    if layers is not None:
        raise DeployError(f"--layers: reads part of a {SUFFIX} file, not of {snn}; leave it out")
    check_writable(output)
    graph = read_nir(snn)
    ranges = None
    if data is not None:
        network = from_nir(graph)
        images = load_images(
            data,
            data_dir,
            split="train",
            limit=limit or CALIBRATION,
            like=network.data,
            input_shape=network.network.input_shape,
            encoding=network.coding.encoding,
        )
        ranges = observe_ranges(network, images.source(network.coding.encoding)[:], seed=seed)
    fixed = quantize_network(graph, chip=chip, weight_bits=weight_bits, ranges=ranges)
    files.save(fixed, output)
    tell_quantized(voice, fixed, output)
    return DONE


def export(voice: Voice, net: Path, to: str, output: Path) -> int:
    """Write a network for others."""
    if to != "lava":
        raise DeployError(f"--to: {to!r} is unknown; lava is the one there is")
    folder = export_lava(files.load(net), output)
    voice.say(f"{folder}: run it with 'python {folder}/run.py messages.npy'")
    voice.result({"output": str(folder), "to": to})
    return DONE


def predict(
    voice: Voice, net: Path, source: Path, limit: int | None, device: str, seed: int
) -> int:
    """Answer a user's own inputs."""
    graph = files.load(net)
    images = read_own(source, graph, limit)
    answers = []
    running = Running(device=device)
    for scores in evaluate_graph(graph, images, seed=seed, running=running).scores:
        best = int(scores.argmax())
        rest = np.delete(scores, best)
        margin = int(scores[best] - rest.max()) if len(rest) else int(scores[best])
        answers.append({"class": best, "margin": margin, "scores": [int(s) for s in scores]})
        voice.say(f"class {best}, margin {margin}")
    voice.result({"predictions": answers})
    return DONE


def verify(
    voice: Voice,
    net: Path,
    against: str,
    data: str | None,
    data_dir: Path | None,
    limit: int | None,
    stall: float,
    seed: int,
) -> int:
    """Compare every spike with an authority."""
    graph = files.load(net)
    messages: NDArray[Any]
    if data is None:
        messages = random_messages(graph, limit or 1, seed)
    else:
        messages = messages_of(graph, images_for(graph, data, data_dir, limit or 1), seed=seed)
    found = verify_graph(graph, messages, cast(Against, against), stall_s=stall)
    for row in found.layers:
        spikes = "" if row["spikes"] is None else f"{row['spikes']} spikes"
        voice.say(f"{'equal' if row['equal'] else 'DIFFER':7} {row['name']}  {spikes}")
    if found.first_difference is None:
        voice.say(
            f"{found.spikes_compared} spikes, {found.values_compared} values over {found.images} "
            f"images and {found.steps} chip steps each, all equal to {against}"
        )
    else:
        voice.warn(f"first difference from {against}: {found.first_difference}")
    voice.result(found.to_json())
    return DONE if found.spikes_equal else NO


@dataclass(frozen=True)
class Contest:
    """What compare was asked for."""

    ann: Path | None
    arch: str | None
    weights: Path | None
    snn: Path | None
    converted: Path | None
    net: Path
    chip: str
    lava: int
    report: Path
    int8: bool = False
    gpu_result: Path | None = None


def compare(
    voice: Voice,
    request: Contest,
    data: str,
    data_dir: Path | None,
    limit: int | None,
    seed: int,
) -> int:
    """Compare all stages and write the report."""
    check_writable(request.report)
    graph = files.load(request.net)
    images = images_for(graph, data, data_dir, limit)
    ann = anns.load(
        request.ann,
        arch=request.arch,
        weights=request.weights,
        input_shape=graph.input.shape,
    )
    calibration = None
    if request.int8:
        calibration = images_for(graph, data, data_dir, CALIBRATION, split="train")
    stages = Stages(
        ann=ann,
        graph=graph,
        converted=None if request.converted is None else from_nir(read_nir(request.converted)),
        hybrid=None if request.snn is None else from_nir(read_nir(request.snn)),
        chip=request.chip,
        lava_images=request.lava,
        calibration=calibration,
        gpu_result=request.gpu_result,
    )
    found = compare_stages(stages, images, seed=seed)
    result = found.write(request.report)
    voice.say(table(result))
    voice.say(f"report: {result['report']}")
    voice.result(result)
    equal = found.verification is None or found.verification.spikes_equal
    return DONE if equal else NO
