"""Every architecture from its first weights to the chip's integers, one row each.

``python benchmarks/every_model.py [--only NAME] [--width W] [--lava] [--json PATH|-]``

Each network is built, its batch norm shown some images, traced, converted for direct input,
fine-tuned for one step, written to a NIR file and read back, quantized, and run by the simulator
and by the reference, which must agree in every spike and every readout. The paper's variant and
that with batch norm; T = 4 for 32 x 32 and 1 for 224 x 224. Images are Fashion-MNIST's, grown to
the network's shape, where $SPIKESHIP_DATA names a folder that holds it, else scikit-learn's digits.
``--lava`` runs VGG5 and ResNet8 on Lava instead, one image each.
"""

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import common
import torch
from torch import Tensor, nn
from torch.nn import functional

from spikeship.deploy.compiler.quantize import quantize
from spikeship.deploy.io.inputs import Images, messages_of
from spikeship.deploy.run.verify import Against, verify
from spikeship.hw_models import chips
from spikeship.hw_models.estimate import estimate
from spikeship.hw_models.events.counts import count_events
from spikeship.hw_models.graph import Neuron
from spikeship.training.ann.zoo import ARCHITECTURES, build
from spikeship.training.conversion.convert import convert
from spikeship.training.data import load as datasets
from spikeship.training.finetuning.stdb import finetune, stdb_config
from spikeship.training.frontends.trace import trace
from spikeship.training.nir_io.from_nir import read_nir
from spikeship.training.nir_io.to_nir import to_nir, write_nir

LARGE = ("vgg16", "resnet34")
ON_LAVA = ("vgg5", "resnet8")
CHIP = "loihi2"


@dataclass(frozen=True)
class Case:
    """One network: its architecture, variant, input and T."""

    arch: str
    batch_norm: bool
    side: int = 32
    classes: int = 10
    num_steps: int = 4
    width: float = 1.0

    @property
    def name(self) -> str:
        """Architecture, side where it is not 32, and ``bn`` where it has batch norm."""
        large = f"-{self.side}" if self.side != 32 else ""
        return f"{self.arch}{large}{'-bn' if self.batch_norm else ''}"


@dataclass
class Row:
    """What one network did.

    ``cores`` are the placement's, ``energy_j`` joules per inference; both are estimates.
    ``least_spikes`` is the fewest spikes of any layer, ``peak_gib`` the process's so far.
    """

    name: str
    against: Against
    num_steps: int
    chip_steps: int = 0
    weights: int = 0
    neurons: int = 0
    spikes: int = 0
    least_spikes: int = 0
    equal: bool = False
    cores: int = 0
    energy_j: tuple[float, float] | None = None
    peak_gib: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time one stage."""
        begin = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - begin, 2)

    def line(self) -> str:
        """One line of the table."""
        times = " ".join(f"{name} {seconds:.1f}" for name, seconds in self.seconds.items())
        cost = "no estimate" if self.energy_j is None else f"{1e3 * self.energy_j[1]:.3g} mJ"
        return (
            f"{self.name:21s} {'equal' if self.equal else 'DIFFERS':7s} T={self.num_steps} "
            f"{self.spikes:>9,} spikes (least {self.least_spikes:,}) {self.cores:>6,} cores "
            f"{cost:>11s} {self.peak_gib:5.1f} GiB  s: {times}"
        )


def cases() -> list[Case]:
    """All of them: paper's and batch-norm variants, then the large ones."""
    small = [
        Case(arch, norm, classes=100 if arch == "vgg11-cifar100" else 10)
        for arch in ARCHITECTURES
        for norm in (False, True)
    ]
    large = [
        Case(arch, norm, side=224, classes=1000, num_steps=1)
        for arch in LARGE
        for norm in (False, True)
    ]
    return small + large


def pictures(side: int, count: int = 2) -> tuple[Tensor, Tensor]:
    """Normalised images (count, 3, side, side) and their classes."""
    try:
        found = datasets.load("fashion-mnist")
    except datasets.DataError:
        found = datasets.load("digits")
    images, labels = found.normalised("train", slice(0, count)), found.split("train").labels
    assert labels is not None
    grown = functional.interpolate(images, size=(side, side), mode="bilinear")
    return grown.repeat(1, 3, 1, 1), labels[:count]


def run(case: Case, images: Tensor, labels: Tensor, against: Against = "reference") -> Row:
    """Take one network through the chain; the first image is the one that is compared.

    Args:
        case: the network.
        images: normalised, of the network's shape.
        labels: their classes, int64.
        against: what the simulator is held against.
    """
    row = Row(case.name, against, case.num_steps)
    torch.manual_seed(0)
    with row.stage("build"):
        model = build(
            case.arch,
            tuple(images.shape[1:]),
            case.classes,
            batch_norm=case.batch_norm,
            width=case.width,
        )
        _show(model, images)
    with row.stage("trace"):
        ann = trace(model.eval(), tuple(images.shape[1:]))
    row.weights = sum(value.numel() for value in model.parameters() if value.ndim > 1)
    del model
    with row.stage("convert"):
        # with thresholds that fit T, spikes reach the last layer of the deepest network
        snn = convert(
            ann,
            images,
            num_steps=case.num_steps,
            encoding="direct",
            balance="mse",
            balance_steps=case.num_steps,
            v0="half",
        )
        del ann
    with row.stage("finetune"):
        shape = tuple(images.shape[1:])
        config = stdb_config(shape, epochs=1, batch_size=len(images), device="cpu")
        snn, _ = finetune(snn, lambda places: images[places], labels, config, quiet=True)
    with row.stage("nir"), tempfile.TemporaryDirectory() as folder:
        write_nir(Path(folder) / "snn.nir", to_nir(snn))
        del snn
        nir = read_nir(Path(folder) / "snn.nir")
    with row.stage("quantize"):
        graph = quantize(nir, chip=CHIP)
        del nir
    compared = Images(images[:1], None, torch.arange(1), {})
    messages = messages_of(graph, compared, seed=0)
    with row.stage("verify"):
        found = verify(graph, messages, against)
    with row.stage("estimate"):
        counts = count_events(graph, found.recording.nodes, messages)
        cost = estimate(graph, counts, chips.get(CHIP), sensitivity=False)
    sent = [int(layer["spikes"]) for layer in found.layers if layer["spikes"] is not None]
    row.chip_steps, row.equal = found.steps, found.spikes_equal
    row.spikes, row.least_spikes = sum(sent), min(sent)
    row.neurons = sum(values[0, 0].size for values in found.recording.nodes.values())
    row.neurons -= sum(
        found.recording.nodes[node.name][0, 0].size
        for node in graph.nodes
        if not isinstance(node, Neuron)
    )
    row.cores = cost.placement.cores
    row.energy_j = (cost.energy.low, cost.energy.high)
    row.peak_gib = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)
    return row


@torch.no_grad()
def _show(model: nn.Module, images: Tensor) -> None:
    """Let batch norm see images, so that what is folded is not the identity."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    model.train()(images)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the networks asked for; 1 where one of them differs."""
    parser = common.parser(__doc__)
    parser.add_argument("--only", metavar="NAME", help="one of the rows, or 'small'")
    parser.add_argument("--width", type=float, default=1.0, help="factor on hidden units")
    parser.add_argument("--lava", action="store_true", help="VGG5 and ResNet8 on Lava")
    options = parser.parse_args(arguments)
    wanted = [
        case
        for case in cases()
        if options.only in (None, case.name) or (options.only == "small" and case.side == 32)
    ]
    if options.lava:
        wanted = [case for case in wanted if case.arch in ON_LAVA and not case.batch_norm]
    if not wanted:
        parser.error(f"no such row; use one of {', '.join(case.name for case in cases())}")
    return common.conclude("every_model", options.json, lambda say: _every(wanted, options, say))


def _every(
    wanted: Sequence[Case], options: argparse.Namespace, say: common.Say
) -> tuple[list[dict[str, Any]], int]:
    rows = []
    for case in wanted:
        narrow = Case(**(asdict(case) | {"width": options.width}))
        images, labels = pictures(case.side)
        rows.append(run(narrow, images, labels, "lava" if options.lava else "reference"))
        say(rows[-1].line())
    equal = all(row.equal for row in rows)
    return [asdict(row) for row in rows], common.DONE if equal else common.NO


if __name__ == "__main__":
    sys.exit(main())
