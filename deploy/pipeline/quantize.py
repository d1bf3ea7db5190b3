"""Turn a spiking network into integers."""

import nir

from spikeship.deploy.compiler.quantize import quantize as quantize_network
from spikeship.deploy.errors import DeployError
from spikeship.deploy.io.inputs import CALIBRATION, of_set
from spikeship.deploy.options.quantize import QuantizeOptions
from spikeship.hw_models.graph import FixedGraph
from spikeship.training.data.load import DataSet
from spikeship.training.nir_io.from_nir import from_nir
from spikeship.training.nir_io.to_nir import to_nir
from spikeship.training.snn.observe import observe_arrivals, observe_ranges
from spikeship.training.snn.spiking_network import SpikingNetwork


def quantize(
    snn: SpikingNetwork | nir.NIRGraph,
    options: QuantizeOptions | None = None,
    *,
    dataset: DataSet | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> FixedGraph:
    """Turn a spiking network into a chip's integers.

    Args:
        snn: the network.
        options: which.
        dataset: observe the range of each layer's sums on its training images.
        limit: so many of them; 128 by default.
        seed: of the encoding.

    Raises:
        SpikeshipError: an option, a network or a set that cannot be used.
    """
    options = options or QuantizeOptions()
    if options.layers is not None:
        raise DeployError("--layers: reads part of a .net file, not of this; leave it out")
    graph = to_nir(snn) if isinstance(snn, SpikingNetwork) else snn
    ranges = None
    if dataset is not None:
        network = from_nir(graph)
        images = of_set(
            dataset,
            split="train",
            limit=limit or CALIBRATION,
            like=network.data,
            input_shape=network.network.input_shape,
        )
        observe = observe_ranges if network.timing == "pipelined" else observe_arrivals
        ranges = observe(network, images.source(network.coding.encoding)[:], seed=seed)
    return quantize_network(
        graph, chip=options.chip, weight_bits=options.weight_bits, ranges=ranges
    )
