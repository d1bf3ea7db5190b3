"""The verbs about integers: quantize, export, simulate, predict, verify, estimate, compare."""

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
from spikeship.deploy.evaluate import evaluate_graph
from spikeship.deploy.export.lava import export_lava
from spikeship.deploy.inputs import CALIBRATION, Images, load_images, messages_of
from spikeship.deploy.own_inputs import read_own
from spikeship.deploy.quantize import quantize as quantize_network
from spikeship.deploy.report import table
from spikeship.deploy.verify import Against, random_messages
from spikeship.deploy.verify import verify as verify_graph
from spikeship.hw_models import chips
from spikeship.hw_models.atomic import replacing
from spikeship.hw_models.counts import EventCounts, count_events
from spikeship.hw_models.energy import estimate as estimate_cost
from spikeship.hw_models.graph import FixedGraph, Neuron
from spikeship.hw_models.lava import runner
from spikeship.hw_models.recording import Recording
from spikeship.training.from_nir import from_nir, read_nir
from spikeship.training.observe import observe_ranges

RECORD_BYTES = 4 * 2**30


def _images(graph: FixedGraph, data: str, data_dir: Path | None, limit: int | None) -> Images:
    like = dict(graph.metadata.get("data") or {})
    return load_images(
        data,
        data_dir,
        limit=limit,
        like=like,
        input_shape=graph.input.shape,
        encoding=graph.input.encoding,
    )


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
) -> int:
    """Quantize a spiking network and write its integers."""
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
    for note in fixed.metadata["notes"]:
        voice.say(note)
    layers = [
        {
            "name": node.name,
            "neurons": int(np.prod(node.shape)),
            "overflow": node.overflow if isinstance(node, Neuron) else "proved",
            "depth": fixed.depths[node.name],
        }
        for node in fixed.nodes
    ]
    voice.say(f"{output}: {len(layers)} layers, T = {fixed.num_steps}, drain {fixed.drain}")
    for row in layers:
        if row["overflow"] == "unchecked":
            voice.warn(f"layer {row['name']!r}: overflow is unchecked; give --data to observe it")
    voice.result(
        {
            "output": str(output),
            "chip": chip,
            "weight_bits": fixed.metadata["weight_bits"],
            "num_steps": fixed.num_steps,
            "layers": layers,
            "notes": fixed.metadata["notes"],
        }
    )
    return DONE


def export(voice: Voice, net: Path, to: str, output: Path) -> int:
    """Write a network for others."""
    if to != "lava":
        raise DeployError(f"--to: {to!r} is unknown; lava is the one there is")
    folder = export_lava(files.load(net), output)
    voice.say(f"{folder}: run it with 'python {folder}/run.py messages.npy'")
    voice.result({"output": str(folder), "to": to})
    return DONE


def simulate(
    voice: Voice,
    net: Path,
    data: str,
    data_dir: Path | None,
    on: str,
    record: Path | None,
    num_steps: int | None,
    limit: int | None,
    seed: int,
) -> int:
    """Run a network over a data set: accuracy and counts."""
    if record is not None:
        check_writable(record)
    graph = files.load(net)
    images = _images(graph, data, data_dir, limit)
    if record is not None:
        _check_recordable(graph, len(images.values), num_steps)
    recording: Recording | None
    if on == "lava":
        messages = messages_of(graph, images, seed=seed, num_steps=num_steps)
        recording = runner.run(graph, messages).recording
        counts = count_events(graph, recording.nodes, messages)
        predictions = recording.scores(graph).argmax(axis=1)
    else:
        found = evaluate_graph(
            graph, images, seed=seed, num_steps=num_steps, record=record is not None
        )
        assert found.counts is not None  # the simulator always counts
        counts, predictions, recording = found.counts, found.predictions, found.recording
    if record is not None:
        assert recording is not None  # asked for above
        _write_recording(record, recording)
    correct = images.correct(predictions)
    result = _simulated(counts, correct)
    if correct is not None:
        voice.say(f"{correct} of {counts.images} right ({correct / counts.images:.2%}), on {on}")
    voice.say(
        f"per inference: {result['spikes']:.0f} spikes, "
        f"{result['synops']['effective']:.0f} synaptic operations, {counts.chip_steps} chip steps"
    )
    voice.result(result)
    return DONE


def _check_recordable(graph: FixedGraph, images: int, num_steps: int | None) -> None:
    """Refuse a recording that memory would not hold, and say how many images it would."""
    neurons = sum(int(np.prod(node.shape)) for node in graph.nodes)
    each = 2 * neurons * graph.chip_steps(num_steps or graph.num_steps or 1)
    if images * each > RECORD_BYTES:
        raise DeployError(
            f"--record: {images} images would take {images * each / 2**30:.1f} GiB; "
            f"use -n {max(1, RECORD_BYTES // each)} or fewer"
        )


def _simulated(counts: EventCounts, correct: int | None) -> dict[str, Any]:
    rates = counts.per_inference()
    return {
        "images": counts.images,
        "accuracy": None if correct is None else correct / counts.images,
        "correct": correct,
        "num_steps": counts.num_steps,
        "chip_steps": counts.chip_steps,
        "spikes": rates["spikes"],
        "synops": dict(rates["synops"]),
        "neuron_updates": rates["neuron_updates"],
        "layers": [dict(row) for row in rates["layers"]],
    }


def _write_recording(path: Path, recording: Recording) -> None:
    arrays = {"input": recording.input, **recording.nodes}
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def predict(voice: Voice, net: Path, source: Path, limit: int | None, seed: int) -> int:
    """Answer a user's own inputs."""
    graph = files.load(net)
    images = read_own(source, graph, limit)
    answers = []
    for scores in evaluate_graph(graph, images, seed=seed).scores:
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
        messages = messages_of(graph, _images(graph, data, data_dir, limit or 1), seed=seed)
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


def estimate(
    voice: Voice,
    net: Path,
    chip: str,
    data: str,
    data_dir: Path | None,
    limit: int | None,
    seed: int,
) -> int:
    """Estimate cost on a chip."""
    graph = files.load(net)
    found = evaluate_graph(graph, _images(graph, data, data_dir, limit), seed=seed)
    assert found.counts is not None  # the simulator always counts
    result = estimate_cost(graph, found.counts, chips.get(chip)).to_json()
    energy = result["energy_j"]
    total = energy["dynamic"] + energy["static"]
    voice.say(
        f"{chip}, estimated per inference: {total:.3g} J ({energy['low']:.3g} to "
        f"{energy['high']:.3g}), {result['latency_s']:.3g} s, "
        f"{result['synops']['effective']:.0f} synaptic operations, {result['cores']} cores"
        + ("" if result["fits"] else ", DOES NOT FIT")
    )
    for line in result["assumptions"]:
        voice.say(f"- {line}")
    voice.result(result)
    return DONE if result["fits"] else NO


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
    images = _images(graph, data, data_dir, limit)
    ann = anns.load(
        request.ann,
        arch=request.arch,
        weights=request.weights,
        input_shape=graph.input.shape,
    )
    stages = Stages(
        ann=ann,
        graph=graph,
        converted=None if request.converted is None else from_nir(read_nir(request.converted)),
        hybrid=None if request.snn is None else from_nir(read_nir(request.snn)),
        chip=request.chip,
        lava_images=request.lava,
    )
    found = compare_stages(stages, images, seed=seed)
    result = found.write(request.report)
    voice.say(table(result))
    voice.say(f"report: {result['report']}")
    voice.result(result)
    equal = found.verification is None or found.verification.spikes_equal
    return DONE if equal else NO
