"""A chip, a data set, an exporter, a surrogate and a verb, each one row added from outside."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import pytest
import torch
from torch import Tensor

import spikeship as ss
from spikeship.deploy.cli.app import main
from spikeship.deploy.cli.verbs import VERBS, Verb
from spikeship.deploy.export import EXPORTERS, Exporter
from spikeship.deploy.options.declare import argument
from spikeship.deploy.options.shared import Common
from spikeship.hw_models.chips import CHIPS
from spikeship.hw_models.graph import FixedGraph
from spikeship.training.data.load import SETS, DataSet, Split
from spikeship.training.snn.surrogates import SURROGATES, PotentialSurrogate


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Take what a test adds away again."""
    tables: list[dict[str, Any]] = [CHIPS, EXPORTERS, SETS, SURROGATES]  # type: ignore[list-item]
    kept, verbs = [dict(table) for table in tables], list(VERBS)
    yield
    for table, before in zip(tables, kept, strict=True):
        table.clear()
        table.update(before)
    VERBS[:] = verbs


@pytest.fixture(scope="module")
def net() -> FixedGraph:
    ann = ss.train("vgg5", "digits", width=0.25, epochs=1)
    return ss.quantize(ss.convert(ann, "digits", num_steps=3))


def test_a_chip(net: FixedGraph, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    CHIPS["mine"] = replace(CHIPS["loihi2"], name="mine")
    assert ss.estimate(net, "digits", limit=2, chip="mine").chip == "mine"
    path = str(ss.save(net, tmp_path / "n.safetensors"))
    words = ["estimate", path, "--data", "digits", "-n", "2", "--chip", "mine"]
    assert main(words) == 0
    assert capsys.readouterr().out.startswith("mine, estimated per inference")


def test_an_exporter(net: FixedGraph, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def write(graph: FixedGraph, path: Path) -> Path:
        path.write_text(" ".join(node.name for node in graph.nodes))
        return path

    EXPORTERS["names"] = Exporter(write, "read {path}")
    assert ss.export(net, tmp_path / "a.txt", to="names").read_text().startswith("features.")
    path = str(ss.save(net, tmp_path / "n.safetensors"))
    assert main(["export", path, "--to", "names", "-o", str(tmp_path / "b.txt")]) == 0
    assert f"read {tmp_path / 'b.txt'}" in capsys.readouterr().out


def test_a_data_set(net: FixedGraph) -> None:
    def read(name: str, folder: Path) -> DataSet:
        labels = torch.arange(4)
        split = Split(torch.rand(4, 1, 8, 8), labels)
        return DataSet(name, split, split, 10, (0.5,), (0.25,))

    SETS["four"] = read
    assert ss.simulate(net, ss.load_data("four", ".")).result["images"] == 4


def test_a_surrogate(tmp_path: Path) -> None:
    seen = []

    def box(z: Tensor) -> Tensor:
        seen.append(len(z))
        return (z.abs() < 1).to(z) / 2

    SURROGATES["box"] = PotentialSurrogate(box)
    ann = ss.train("vgg5", "digits", width=0.25, epochs=1)
    snn = ss.convert(ann, "digits", num_steps=3)
    ss.finetune(snn, ss.load_data("digits", limit=64), surrogate="box", epochs=1)
    assert seen
    path = str(ss.save(snn, tmp_path / "s.nir"))
    words = ["finetune", path, "--data", "digits", "-n", "64", "--epochs", "1", "--quiet"]
    assert main([*words, "--surrogate", "box", "-o", str(tmp_path / "t.nir")]) == 0


@dataclass(frozen=True, kw_only=True)
class _Greeting:
    whom: Annotated[str, argument(help="Whom to greet.")]


def test_a_verb(capsys: pytest.CaptureFixture[str]) -> None:
    def greet(options: _Greeting, common: Common) -> int:
        print(f"hello {options.whom}, seed {common.seed}")
        return 1

    VERBS.append(Verb("greet", greet, (_Greeting, Common), "Greet.", "spikeship greet you"))
    assert main(["greet", "you", "--seed", "3"]) == 1
    assert capsys.readouterr().out == "hello you, seed 3\n"
    assert main(["-h"]) == 0
    assert "greet" in capsys.readouterr().out
