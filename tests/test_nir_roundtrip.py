"""A spiking network written as NIR, through a file and back, and damage on the way."""

import copy
import json
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spiking import chain, images, residual
from torch import nn

from spikeship.training.ann.network import INPUT, Add, Layer, Network
from spikeship.training.conversion.convert import convert
from spikeship.training.nir_io.from_nir import FromNirError, from_nir, read_nir
from spikeship.training.nir_io.metadata import KEY, MetadataError, NetworkMetadata
from spikeship.training.nir_io.to_nir import ToNirError, to_nir, write_nir
from spikeship.training.snn.encoding import InputCoding, encode
from spikeship.training.snn.neurons import HeldDropout, Scale, SpikingNeuron
from spikeship.training.snn.spiking_network import SpikingNetwork


def everything() -> SpikingNetwork:
    """What conversion does not make: groups, oblong kernels, three branches, odd names."""
    torch.manual_seed(0)
    oblong = nn.Conv2d(4, 4, (3, 5), padding=(1, 2), dilation=1, groups=2)
    layers = [
        Layer("in/put", nn.Conv2d(2, 4, 3, padding="same"), (INPUT,)),
        Layer("100%", SpikingNeuron(0.3, leak=0.9, v0=0.1), ("in/put",)),
        Layer("größe", nn.AvgPool2d(2), ("100%",)),
        Layer("größe.dropout", HeldDropout(0.2), ("größe",)),
        Layer("a.b.c", oblong, ("größe.dropout",)),
        Layer("skip", Scale(torch.tensor(0.7)), ("größe.dropout",)),
        Layer(".", nn.Conv2d(4, 4, 1, bias=False), ("größe.dropout",)),
        Layer("any", Add(), ("a.b.c", "skip", ".")),
        Layer(
            "per channel",
            SpikingNeuron(
                torch.tensor([0.2, 0.3, 0.4, 0.5]).reshape(4, 1, 1),
                leak=torch.tensor([0.75, 1.0, 0.0, 0.9]).reshape(4, 1, 1),
                v0=torch.tensor([0.1, -0.3, 0.0, 0.2]).reshape(4, 1, 1),
            ),
            ("any",),
        ),
        Layer("strided", nn.Conv2d(4, 3, 2, stride=(2, 1), dilation=(1, 2)), ("per channel",)),
        Layer(
            "per neuron",
            SpikingNeuron(torch.rand(3, 2, 2) + 0.1, v0=torch.rand(3, 2, 2) - 0.5),
            ("strided",),
        ),
        Layer("flat", nn.Flatten(), ("per neuron",)),
        Layer("fc", nn.Linear(12, 5), ("flat",)),
    ]
    return SpikingNetwork(
        Network(layers, (2, 8, 8)),
        InputCoding("direct", 0.031, 127, True),
        7,
        ranges={"100%": (-3.25, 4.5), "fc": (-1.0, 2.0)},
        data={"name": "made up", "mean": [0.1, 0.2], "std": [1.0, 2.0]},
        provenance={"seed": 3, "nested": {"a": None}},
    ).eval()


NETWORKS = {
    "chain": lambda: convert(chain(bias=True), images(6), num_steps=11),
    "identity": lambda: convert(residual(), images(6), num_steps=11, leak=0.97),
    "strided": lambda: convert(residual(strided=True), images(6), num_steps=11, reset="zero"),
    "direct": lambda: convert(chain(), images(6), num_steps=11, encoding="direct"),
    "float64": lambda: convert(chain(bias=True).double(), images(6), num_steps=11),
    "everything": everything,
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_network_comes_back_from_a_file_as_it_was(kind: str, tmp_path: Path) -> None:
    snn = NETWORKS[kind]()
    path = tmp_path / "made" / "snn.nir"
    write_nir(path, to_nir(snn))
    assert [file.name for file in path.parent.iterdir()] == ["snn.nir"]
    back = from_nir(read_nir(path))
    x = images(5, seed=3)
    messages = encode(x, snn.coding, snn.num_steps, seed=1)
    assert torch.equal(back(messages), snn(messages))
    assert (back.coding, back.num_steps) == (snn.coding, snn.num_steps)
    assert (back.ranges, back.data, back.provenance) == (snn.ranges, snn.data, snn.provenance)
    sent = {a.name: a.spikes for a in snn.walk(messages)}
    for name, _, spikes in back.walk(messages):
        expected = sent.pop(name)
        if spikes is None or expected is None:
            assert spikes is expected
        else:
            assert spikes.any() and torch.equal(spikes, expected)
    assert not sent
    kept, same = (
        [
            # conv and dense layers say their sizes
            (layer.name, str(layer.module) if hasattr(layer.module, "weight") else "")
            for layer in network.layers
            if not isinstance(layer.module, Add | HeldDropout)
        ]
        for network in (snn.network, back.network)
    )
    assert same == kept
    for name, neuron in snn.neurons.items():
        read = back.neurons[name]
        assert read.reset == neuron.reset
        assert torch.equal(read.v0, neuron.v0)
        assert torch.equal(read.leak, neuron.leak)
        assert read.threshold.dtype == neuron.threshold.dtype
        assert torch.equal(read.threshold, neuron.threshold)


def test_a_second_trip_changes_nothing() -> None:
    once = to_nir(everything())
    twice = to_nir(from_nir(once))
    assert twice.edges == once.edges
    assert list(twice.nodes) == list(once.nodes)
    for name, node in once.nodes.items():
        again = twice.nodes[name].to_dict()
        for key, value in node.to_dict().items():
            assert np.array_equal(again[key], value), (name, key)
    assert json.loads(twice.metadata[KEY]) == json.loads(once.metadata[KEY])


def test_dropout_comes_back_where_it_was() -> None:
    snn = convert(chain(), images(4), num_steps=5)
    back = from_nir(to_nir(snn))
    dropouts = {
        (layer.inputs[0], layer.module.p, back.network.consumers(layer.name)[0].name)
        for layer in back.network.layers
        if isinstance(layer.module, HeldDropout)
    }
    assert dropouts == {("features.1", 0.25, "features.3"), ("relu", 0.5, "classes")}
    # and does what it did: the same masks from the same seed
    results = []
    for network in (snn, back):
        torch.manual_seed(5)
        results.append(network.train()(torch.ones(3, 5, 2, 8, 8)))
    assert torch.equal(*results)
    assert not torch.equal(results[0], snn.eval()(torch.ones(3, 5, 2, 8, 8)))


def test_others_can_read_the_file_with_nirs_own_checks(tmp_path: Path) -> None:
    snn = convert(residual(strided=True), images(4), num_steps=9, leak=0.5)
    write_nir(tmp_path / "snn.nir", to_nir(snn))
    graph = nir.read(tmp_path / "snn.nir")
    graph.infer_types()
    graph.check_types()
    assert type(graph.nodes["relu1"]) is nir.LIF
    assert graph.nodes["relu1"].v_threshold.shape == (6, 4, 4)
    assert np.all(graph.nodes["relu1"].tau == 2.0)
    assert np.all(graph.nodes["relu1"].r == 2.0)
    assert sorted(source for source, target in graph.edges if target == "relu2") == [
        "conv2",
        "down",
    ]
    assert "sum" not in graph.nodes
    said = json.loads(graph.metadata["spikeship"])
    assert set(said) == {
        *("version", "dt", "reset", "decay", "encoding", "num_steps", "readout", "input"),
        *("v0", "dropout", "ranges", "data", "provenance"),
    }
    assert (said["version"], said["dt"], said["reset"], said["decay"]) == (
        1,
        1,
        "subtract",
        "euler",
    )
    assert (said["encoding"], said["num_steps"], said["readout"]) == ("poisson", 9, "sum")
    assert said["input"] == {"scale": snn.coding.scale, "max_message": 1, "signed": True}


def test_a_graph_shares_nothing_with_its_network() -> None:
    snn = convert(chain(bias=True), images(4), num_steps=5)
    graph = to_nir(snn)
    before = copy.deepcopy(snn.state_dict())
    for node in graph.nodes.values():
        for value in vars(node).values():
            if isinstance(value, np.ndarray) and value.dtype.kind == "f":
                value += 1
    assert all(torch.equal(value, before[key]) for key, value in snn.state_dict().items())
    graph = to_nir(snn)
    weight = graph.nodes["features.0"].weight.copy()
    with torch.no_grad():
        for parameter in from_nir(graph).parameters():
            parameter.zero_()
    assert np.array_equal(graph.nodes["features.0"].weight, weight)


@given(st.floats(0.5, 1.0))
@settings(max_examples=200)
def test_a_leak_comes_back_as_it_was(leak: float) -> None:
    layers = [
        Layer("fc", nn.Linear(2, 2, bias=False), (INPUT,)),
        Layer("neuron", SpikingNeuron(1.0, leak=leak), ("fc",)),
        Layer("out", nn.Linear(2, 2, bias=False), ("neuron",)),
    ]
    snn = SpikingNetwork(Network(layers, (2,)), InputCoding(), 3)
    assert from_nir(to_nir(snn)).neurons["neuron"].leak == pytest.approx(leak, abs=2**-53)


def test_dropout_that_only_some_readers_see_is_refused() -> None:
    snn = everything()
    layers = [
        Layer(layer.name, layer.module, ("größe",) if layer.name == "skip" else layer.inputs)
        for layer in snn.network.layers
    ]
    other = SpikingNetwork(Network(layers, (2, 8, 8)), snn.coding, 7)
    with pytest.raises(ToNirError, match="'größe.dropout': drops what only it and not every"):
        to_nir(other)


def test_neurons_of_two_resets_are_refused() -> None:
    snn = everything()
    snn.neurons["100%"].reset = "zero"
    with pytest.raises(ToNirError, match="neurons differ in their reset; give all the same"):
        to_nir(snn)


def test_a_start_that_fits_no_population_is_refused() -> None:
    graph = to_nir(everything())
    said = json.loads(graph.metadata[KEY])
    said["v0"]["per channel"] = [0.1, 0.2, 0.3]
    graph.metadata[KEY] = json.dumps(said)
    with pytest.raises(FromNirError, match=r"'per channel': v0 has shape \(3,\), its neurons"):
        from_nir(graph)


def test_a_neuron_of_another_shape_is_refused() -> None:
    graph = to_nir(convert(chain(), images(3), num_steps=4))
    node = graph.nodes["relu"]
    for key in ("r", "v_threshold", "v_reset"):
        setattr(node, key, np.tile(getattr(node, key), 2))
    with pytest.raises(FromNirError, match=r"'relu': has shape \(40,\), its input has \(20,\)"):
        from_nir(graph)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda said: "not json", "metadata: is no JSON"),
        (lambda said: "[1]", "metadata: content is 'list', not a JSON object"),
        (lambda said: said | {"version": 2}, "metadata: version is 2, not 1, the one this release"),
        (lambda said: said | {"readout": "max"}, "metadata: readout is 'max', not sum"),
        (lambda said: said | {"num_steps": 0}, "metadata: num_steps is 0, not at least 1"),
        (lambda said: said | {"num_steps": 2.5}, "metadata: num_steps is 2.5, not a whole number"),
        (
            lambda said: said | {"num_steps": True},
            "metadata: num_steps is True, not a whole number",
        ),
        (lambda said: said | {"reset": "soft"}, "metadata: reset is 'soft', not subtract or zero"),
        (lambda said: said | {"dt": -1}, "metadata: dt is -1.0, not positive"),
        (lambda said: said | {"decay": None}, "metadata: decay is None, not a string"),
        (lambda said: said | {"encoding": "rate"}, "metadata: encoding 'rate' is not known"),
        (lambda said: said | {"input": {"scale": 1}}, "metadata: max_message is None, not a whole"),
        (lambda said: said | {"dropout": {"relu": 1}}, "metadata: dropout of 'relu' is 1.0, not a"),
        (
            lambda said: said | {"ranges": {"relu": [1]}},
            r"range of 'relu' is \[1\], not two numbers",
        ),
        (lambda said: said | {"ranges": {"relu": [2, 1]}}, "not smallest, then largest"),
        (lambda said: said | {"ranges": {"gone": [1, 2]}}, "ranges speaks of 'gone', which is no"),
        (lambda said: said | {"v0": {"relu": [[1], [1, 2]]}}, "v0 of 'relu' is .* not numbers in"),
        (lambda said: said | {"v0": {"relu": "high"}}, "v0 of 'relu' is 'high', not numbers in"),
        (
            lambda said: said | {"grid": {"chip": "loihi2"}},
            "metadata: grid is damaged .*weight_bits",
        ),
        (lambda said: said | {"v0": {"gone": 1}}, "v0 speaks of 'gone', which is no node"),
        (lambda said: said | {"dropout": {"gone": 0.5}}, "dropout speaks of 'gone', which is no"),
        (lambda said: {k: v for k, v in said.items() if k != "v0"}, "v0 is None, not an object"),
    ],
)
def test_damaged_metadata_is_refused(change: Any, message: str) -> None:
    graph = to_nir(convert(chain(), images(3), num_steps=4))
    changed = change(json.loads(graph.metadata[KEY]))
    graph.metadata[KEY] = changed if isinstance(changed, str) else json.dumps(changed)
    with pytest.raises((MetadataError, FromNirError), match=message) as caught:
        from_nir(graph)
    assert "\n" not in str(caught.value)


def test_metadata_that_json_cannot_hold_is_refused() -> None:
    for values in ({"when": object()}, {"loss": float("nan")}):
        metadata = NetworkMetadata(InputCoding(), 3, "zero", provenance=values)
        with pytest.raises(MetadataError, match="metadata: JSON cannot hold it"):
            metadata.to_json()


def test_files_that_are_no_nir_are_refused_in_a_line(tmp_path: Path) -> None:
    whole = tmp_path / "whole.nir"
    write_nir(whole, to_nir(convert(chain(), images(3), num_steps=4)))
    content = whole.read_bytes()
    damaged = {
        "empty": b"",
        "text": b"hello\n" * 50,
        "half": content[: len(content) // 2],
        "start": content[:600],
    }
    for name, part in damaged.items():
        path = tmp_path / name
        path.write_bytes(part)
        with pytest.raises(
            FromNirError, match=f"{name}: is no NIR file or a damaged one"
        ) as caught:
            read_nir(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(FromNirError, match="missing.nir: there is no such file; check the path"):
        read_nir(tmp_path / "missing.nir")


def test_a_file_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "snn.nir"
    graph = to_nir(convert(chain(), images(3), num_steps=4))
    write_nir(path, graph)
    before = path.read_bytes()

    def fails(target: Path, graph: nir.NIRGraph, **options: Any) -> None:
        Path(target).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(nir, "write", fails)
    with pytest.raises(OSError, match="disk full"):
        write_nir(path, graph)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["snn.nir"]
