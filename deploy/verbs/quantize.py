"""The verb quantize: a spiking network, or lava-dl's ``.net`` file, becomes integers."""

from pathlib import Path

import numpy as np

from spikeship.deploy.errors import DeployError
from spikeship.deploy.importers import IMPORTERS
from spikeship.deploy.io import network_file
from spikeship.deploy.options.quantize import QuantizeFiles, QuantizeOptions
from spikeship.deploy.options.shared import Common, MaybeSource
from spikeship.deploy.pipeline.imported import imported
from spikeship.deploy.verbs.console import DONE, Voice, check_writable
from spikeship.hw_models import chips
from spikeship.hw_models.errors import naming
from spikeship.hw_models.graph import FixedGraph, Neuron, Node, Overflow, Readout
from spikeship.hw_models.placer.place import place


def quantize(
    files: QuantizeFiles, source: MaybeSource, options: QuantizeOptions, common: Common
) -> int:
    """Quantize a spiking network and write its integers; those of a ``.net`` file as they are."""
    voice = Voice(common.json, common.quiet)
    snn, output = files.snn, files.output
    if snn.suffix in IMPORTERS:
        return _import(voice, files, options, source.data)
    # integers that are read need no torch
    from spikeship.deploy.io.sets import load_data
    from spikeship.deploy.pipeline.quantize import quantize as quantize_network
    from spikeship.training.nir_io.from_nir import from_nir, read_nir

    if options.layers is not None:
        raise DeployError(f"--layers: reads part of a .net file, not of {snn}; leave it out")
    check_writable(output)
    graph = read_nir(snn)
    dataset = None
    if source.data is not None:
        with naming(snn):
            messages = from_nir(graph).coding.encoding == "spikes"
        dataset = load_data(source.data, source.data_dir, messages=messages)
    with naming(snn):
        fixed = quantize_network(
            graph, options, dataset=dataset, limit=source.limit, seed=common.seed
        )
    network_file.save(fixed, output)
    _tell_quantized(voice, fixed, output)
    return DONE


def _import(voice: Voice, files: QuantizeFiles, options: QuantizeOptions, data: str | None) -> int:
    """Read another framework's integers and write them as ours.

    Raises:
        SpikeshipError: the file cannot be run.
        DeployError: an option that means nothing here.
    """
    check_writable(files.output)
    graph = imported(files.snn, options, has_data=data is not None)
    network_file.save(graph, files.output)
    _tell_quantized(voice, graph, files.output)
    for reason in place(graph, chips.get(options.chip)).reasons:
        voice.warn(reason)
    return DONE


def _tell_quantized(voice: Voice, graph: FixedGraph, output: Path) -> None:
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
    drain = f"drain {graph.drain}"
    if graph.timing == "staged" and graph.num_steps is not None:
        drain = f"staged, {graph.chip_steps(graph.num_steps)} chip steps"
    voice.say(f"{output}: {len(rows)} layers, T = {graph.num_steps}, {drain}")
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
