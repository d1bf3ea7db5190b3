"""Read integers that another framework wrote."""

from dataclasses import replace
from pathlib import Path

from spikeship.deploy.errors import DeployError
from spikeship.deploy.importers import IMPORTERS
from spikeship.deploy.options.quantize import QuantizeOptions
from spikeship.deploy.tables import resolved
from spikeship.hw_models.graph import FixedGraph


def imported(path: Path, options: QuantizeOptions, *, has_data: bool = False) -> FixedGraph:
    """Read another framework's integers.

    Args:
        path: a file of a suffix in ``IMPORTERS``.
        options: the chip they are for, and how many layers are read.
        has_data: whether data to calibrate on was given.

    Raises:
        SpikeshipError: the file cannot be run, or an option that means nothing here.
    """
    for option, given in (
        ("--weight-bits", options.weight_bits is not None),
        ("--data", has_data),
    ):
        if given:
            raise DeployError(f"{option}: {path} holds integers already; leave it out")
    read: FixedGraph = resolved(IMPORTERS[path.suffix])(path, layers=options.layers)
    width = max(synapse.num_weight_bits for synapse in read.synapses)
    return replace(read, metadata={**read.metadata, "chip": options.chip, "weight_bits": width})
