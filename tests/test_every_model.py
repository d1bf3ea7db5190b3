"""Every architecture, narrow, from its first weights to integers that two engines agree on."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from spikeship.training.ann.zoo import ARCHITECTURES

PATH = Path(__file__).resolve().parent.parent / "benchmarks" / "every_model.py"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    """The benchmark, whose chain is also the test's."""
    spec = importlib.util.spec_from_file_location("every_model", PATH)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


# steps until the readout has all: one a weighted layer, one more for a pool before the dense ones
DELAYS = {
    "vgg5": 7,
    "vgg9": 10,
    "vgg11": 11,
    "vgg11-cifar100": 12,
    "vgg13": 13,
    "vgg16": 16,
    "vgg19": 19,
    "resnet8": 8,
    "resnet12": 12,
    "resnet20": 20,
    "resnet34": 34,
    "resnet34-standard": 36,
    # the global pool takes a step of its own
    "resnet20-small": 21,
    "fast9": 10,
}


def test_all_are_here(bench: ModuleType) -> None:
    assert DELAYS.keys() == ARCHITECTURES.keys()
    assert {case.arch for case in bench.cases() if case.side == 32} == DELAYS.keys()
    assert {case.name for case in bench.cases() if case.side == 224} == {
        "vgg16-224",
        "vgg16-224-bn",
        "resnet34-224",
        "resnet34-224-bn",
    }


@pytest.mark.parametrize(
    ("arch", "batch_norm"),
    [
        *((arch, False) for arch in DELAYS),
        *((arch, True) for arch in ("vgg16", "resnet12", "resnet20-small", "fast9")),
    ],
)
def test_a_network_goes_all_the_way(bench: ModuleType, arch: str, batch_norm: bool) -> None:
    case = bench.Case(arch, batch_norm, num_steps=2, width=1 / 32)
    row = bench.run(case, *bench.pictures(32, 1))
    assert row.equal
    assert row.chip_steps == 2 + DELAYS[arch]
    assert row.least_spikes > 0  # what is silent agrees whatever is wrong
    assert row.cores >= DELAYS[arch] - 1


@pytest.mark.parametrize("arch", ["vgg5", "resnet8"])
def test_a_network_is_the_same_on_lava(bench: ModuleType, arch: str) -> None:
    case = bench.Case(arch, False, num_steps=3, width=1 / 8)
    row = bench.run(case, *bench.pictures(32, 1), against="lava")
    assert row.equal
    assert row.chip_steps == 3 + DELAYS[arch]
    assert row.least_spikes > 0
