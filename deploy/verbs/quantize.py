"""The verb quantize."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from spikeship.deploy.compiler.quantize import quantize as quantize_network
from spikeship.deploy.errors import DeployError
from spikeship.deploy.importers.netx import read_netx
from spikeship.deploy.io import network_file as files
from spikeship.deploy.io.inputs import CALIBRATION, load_images
from spikeship.deploy.verbs.console import DONE, Voice, check_writable
from spikeship.hw_models import chips
from spikeship.hw_models.graph import FixedGraph, Neuron, Node, Overflow, Readout
from spikeship.hw_models.placer.place import place
from spikeship.training.nir_io.from_nir import from_nir, read_nir
from spikeship.training.snn.observe import observe_ranges


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


SUFFIX = ".net"


def quantize_net(
    voice: Voice,
    path: Path,
    chip: str,
    weight_bits: int | None,
    data: str | None,
    output: Path,
    layers: int | None,
) -> int:
    """Read a ``.net`` file and write its integers as ours.

    Args:
        voice: where words go.
        path: the file.
        chip: what the integers are for; where they do not fit it, that is a warning.
        weight_bits: refused: the file has its own.
        data: refused: there is nothing to calibrate.
        output: file to write.
        layers: read only the first so many.

    Raises:
        NetxError: the file cannot be run. DeployError: an option that means nothing here.
    """
    for option, value in (("--weight-bits", weight_bits), ("--data", data)):
        if value is not None:
            raise DeployError(f"{option}: {path} holds integers already; leave it out")
    check_writable(output)
    read = read_netx(path, layers=layers)
    width = max(synapse.num_weight_bits for synapse in read.synapses)
    graph = replace(read, metadata={**read.metadata, "chip": chip, "weight_bits": width})
    files.save(graph, output)
    tell_quantized(voice, graph, output)
    for reason in place(graph, chips.get(chip)).reasons:
        voice.warn(reason)
    return DONE


def tell_quantized(voice: Voice, graph: FixedGraph, output: Path) -> None:
    """Say what was written: notes, layers, and which of them nothing proves to stay in range."""
    notes = graph.metadata["notes"]
    for note in notes:
        voice.say(note)
    rows = [
        {
            "name": node.name,
            "neurons": int(np.prod(node.shape)),
            "overflow": _overflow(graph, node),
            "depth": graph.depths[node.name],
        }
        for node in graph.nodes
    ]
    voice.say(f"{output}: {len(rows)} layers, T = {graph.num_steps}, drain {graph.drain}")
    unchecked = [repr(row["name"]) for row in rows if row["overflow"] == "unchecked"]
    if unchecked:
        fix = "give --data to observe it" if graph.gated else "a run that leaves 24 bits says so"
        voice.warn(f"layer {', '.join(unchecked)}: overflow is unchecked; {fix}")
    voice.result(
        {
            "output": str(output),
            "chip": graph.metadata["chip"],
            "weight_bits": graph.metadata["weight_bits"],
            "num_steps": graph.num_steps,
            "layers": rows,
            "notes": notes,
        }
    )


def _overflow(graph: FixedGraph, node: Node) -> Overflow:
    if isinstance(node, Neuron):
        return node.overflow
    return "proved" if isinstance(node, Readout) and graph.bounded(node.name) else "unchecked"
