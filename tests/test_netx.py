"""Reading ``.net`` files: what becomes of each part, what is refused and in which words."""

import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from net_files import CUBA, SDNN, SIGMA, conv, dense, write_net
from spikeship.deploy.importers import hdf5_dump, netx_file
from spikeship.deploy.importers.netx import NetxError, read_netx
from spikeship.deploy.importers.netx_input import input_messages
from spikeship.deploy.io import network_file as files
from spikeship.hw_models.graph import (
    Conv,
    Delta,
    Dense,
    FixedGraph,
    Identity,
    Neuron,
    Readout,
    SigmaDelta,
)
from spikeship.hw_models.reference import interpreter as reference

WEIGHT = [[2, -4, 6], [8, 10, -12]]
BARE = {"type": "input", "shape": [3]}
PICTURE = {"type": "input", "shape": [2, 6, 5]}
FLAT = {"type": "flatten", "shape": [1, 1, 60]}
KERNEL = np.arange(-12, 24, dtype=np.float32).reshape(2, 2, 3, 3)


def without_neuron(layer: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in layer.items() if not key.startswith("neuron")}


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read whole files here, not in a process of their own, which takes a while to start."""
    monkeypatch.setattr(netx_file, "dump", hdf5_dump.read)


def read(folder: Path, *layers: Mapping[str, Any], steps: int | None = None) -> FixedGraph:
    return read_netx(write_net(folder / "a.net", layers, steps))


def test_spiking_network(tmp_path: Path) -> None:
    neuron = {**CUBA, "neuron/iDecay": 1024, "neuron/vDecay": 200, "neuron/vThMant": 91}
    first = conv(KERNEL, [2, 4, 3], neuron, bias=[7, -3], stride=1, padding=[0, 0])
    last = dense(np.arange(-23, 25).reshape(2, 24), bias=[1, 2])
    graph = read(tmp_path, {**PICTURE, **CUBA}, first, FLAT, last, steps=12)

    assert (graph.gated, graph.num_steps, graph.drain) == (False, 12, 2)
    assert (graph.input.shape, graph.input.encoding) == ((2, 6, 5), "spikes")
    assert (graph.input.max_message, graph.input.signed) == (2**15 - 1, True)
    assert [node.name for node in graph.nodes] == ["layer_0", "layer_1", "layer_3"]
    source, middle, output = graph.nodes
    assert all(isinstance(node, Neuron) and node.reset == "zero" for node in graph.nodes)
    assert isinstance(source, Neuron) and isinstance(middle, Neuron) and isinstance(output, Neuron)
    assert (middle.du, int(middle.dv.item()), int(middle.vth.item())) == (1023, 200, 91)
    np.testing.assert_array_equal(middle.bias, np.array([7, -3]).reshape(2, 1, 1) << 6)
    np.testing.assert_array_equal(output.bias, [64, 128])
    assert (source.overflow, middle.overflow, output.overflow) == ("proved", "unchecked", "proved")

    identity, synapse, flat = graph.synapses
    assert isinstance(identity, Identity) and identity.delay == 0
    assert isinstance(synapse, Conv) and isinstance(flat, Dense)
    np.testing.assert_array_equal(synapse.weight, KERNEL)
    assert (synapse.num_weight_bits, synapse.stride) == (9, (1, 1))
    np.testing.assert_array_equal(
        flat.weight * 2.0**flat.weight_exp, np.arange(-23, 25).reshape(2, 24)
    )
    assert graph.metadata["netx"] == {
        "file": "a.net",
        "layers": 4,
        "input": {"weight": 64, "bias": 0},
    }


def test_sigma_delta_network(tmp_path: Path) -> None:
    graph = read(
        tmp_path,
        {**PICTURE, **SDNN},
        conv(KERNEL, [2, 4, 3], SDNN, bias=[3, 4]),
        FLAT,
        dense(np.arange(-12, 12).reshape(1, 24), SIGMA),
    )
    delta, sigma_delta, readout = graph.nodes
    assert graph.num_steps is None
    assert graph.input.max_message == 2047  # whose shift by 12 just stays within 24 bits
    assert isinstance(delta, Delta) and isinstance(sigma_delta, SigmaDelta)
    assert (delta.spike_exp, delta.state_exp, delta.vth.item()) == (6, 6, 2)
    assert (sigma_delta.spike_exp, sigma_delta.state_exp, sigma_delta.activation) == (6, 6, "relu")
    np.testing.assert_array_equal(sigma_delta.bias.reshape(-1), [3, 4])
    assert isinstance(readout, Readout) and not readout.bias.any()


@pytest.mark.usefixtures("in_process")
def test_input_of_plain_spikes(tmp_path: Path) -> None:
    """Flat before a dense layer, whatever the file's shape says; else (c, h, w)."""
    graph = read(tmp_path, {"type": "input", "shape": [1, 1, 3]}, FLAT, dense(WEIGHT))
    assert (graph.input.shape, graph.input.max_message, graph.input.signed) == ((3,), 1, False)
    assert "input" not in graph.metadata["netx"]
    assert read(tmp_path, dense(WEIGHT)).input.shape == (3,)
    assert read(tmp_path, PICTURE, conv(KERNEL, [2, 4, 3])).input.shape == (2, 6, 5)


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(
    ("delay", "shape", "longest"),
    [
        (np.array([5, 1], np.float32), (2, 1), 6),
        (np.array([0, 3, 2]), (1, 3), 4),
        (np.array([[0, 1, 2], [3, 4, 62]]), (2, 3), 63),
        (np.array([[0, 1, 2], [3, 4, 70]]), (2, 3), 63),
        (4, None, 5),
        (np.array([7, 7]), None, 8),
    ],
)
def test_delays(tmp_path: Path, delay: Any, shape: Any, longest: int) -> None:
    graph = read(tmp_path, BARE, dense(WEIGHT, delay=delay))
    (synapse,) = graph.synapses
    assert isinstance(synapse, Dense)
    assert synapse.longest == longest
    assert (None if synapse.delays is None else synapse.delays.shape) == shape
    assert any("cut to 62" in note for note in graph.metadata["notes"]) == (np.max(delay) > 62)


@pytest.mark.usefixtures("in_process")
def test_recurrent_layer_shares_its_exponent(tmp_path: Path) -> None:
    loop = {**dense(WEIGHT), "type": "dense_rec", "weight_rec": [[20, 0], [-2, 4]]}
    forward, back = read(tmp_path, BARE, loop).synapses
    assert isinstance(forward, Dense) and isinstance(back, Dense)
    assert (back.source, back.target, back.delay) == ("layer_1", "layer_1", 1)
    assert forward.weight_exp == back.weight_exp == -3
    np.testing.assert_array_equal(forward.weight, np.array(WEIGHT) * 8)
    np.testing.assert_array_equal(back.weight, [[160, 0], [-16, 32]])


@pytest.mark.usefixtures("in_process")
def test_layer_without_neurons_is_a_readout(tmp_path: Path) -> None:
    plain = without_neuron(dense(WEIGHT, bias=[0, 0]))
    said = {"neuron/iDecay": 0, "neuron/vDecay": 4096, "neuron/vThMant": 1 << 17}
    for layer in (plain, dense(WEIGHT, {**CUBA, **said})):
        assert isinstance(read(tmp_path, BARE, layer).output, Readout)


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(
    ("layer", "note"),
    [
        (dense(WEIGHT, {**CUBA, "neuron/refDelay": 3}), "refractory delay of 3 steps"),
        (dense(WEIGHT, {**CUBA, "neuron/wgtExp": 2}), "wgtExp"),
        (dense(WEIGHT, {**CUBA, "neuron/gradedSpike": True}), "graded spikes"),
        (dense(np.array(WEIGHT) + 0.5), "fractions"),
        (dense(WEIGHT, {**SDNN, "neuron/activation": "tanh"}), "'tanh' and takes relu"),
        (dense([[-64, -3, -9]]), "other values than the file's"),
        (
            {**dense(np.eye(3) * 3), "type": "dense_rec", "weight_rec": -np.eye(3), "delay": 2},
            "count 64 times",
        ),
    ],
)
def test_what_netx_leaves_out_is_noted(tmp_path: Path, layer: Mapping[str, Any], note: str) -> None:
    notes = read(tmp_path, BARE, layer).metadata["notes"]
    assert len(notes) == 1
    assert notes[0].startswith("layer 1: ") and note in notes[0]
    assert not read(tmp_path, BARE, dense(WEIGHT)).metadata["notes"]


@pytest.mark.usefixtures("in_process")
def test_delay_of_a_convolution_is_noted(tmp_path: Path) -> None:
    graph = read(tmp_path, PICTURE, conv(KERNEL, [2, 4, 3], delay=np.array([1, 2])))
    assert graph.drain == 1
    assert "netx ignores the delay of a convolution" in graph.metadata["notes"][0]


def changed(layer: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    """A layer with other datasets; ``__`` stands for the slash in their names."""
    return {**layer, **{key.replace("__", "/"): value for key, value in fields.items()}}


OK = dense(WEIGHT)
COMPLEX = {key: value for key, value in OK.items() if key != "weight"}
LOOP = {**dense(WEIGHT), "type": "dense_rec", "weight_rec": np.eye(2)}
KEPT = conv(KERNEL, [2, 4, 3])
REFUSED: list[tuple[list[Mapping[str, Any]], str]] = [
    ([BARE, {"type": "pool", "shape": [1]}], "layer 1: type 'pool', which netx cannot run"),
    ([BARE, OK, {"type": "average"}], "layer 2: type 'average'.*--layers 2 reads"),
    ([BARE, {"type": "concat"}], "type 'concat', which netx cannot run"),
    ([BARE, {"type": "einsum"}], "type 'einsum', which is unknown"),
    ([{"type": "pool"}], "type 'pool'.*dense_rec are read$"),
    ([{"shape": [3]}], "layer 0: there is no 'type'"),
    ([BARE, {"type": "dense", "shape": [2], **CUBA}], "layer 1: there is no 'weight'"),
    ([BARE, BARE, OK], "layer 1: an input that is not the first layer"),
    ([BARE], "no layer read has neurons or weights"),
    ([PICTURE, FLAT], "no layer read has neurons or weights"),
    # neurons
    ([BARE, without_neuron(OK), dense(np.eye(2))], "layer 1: .*not the last layer.*--layers 2"),
    ([BARE, dense(WEIGHT, SIGMA), dense(np.eye(2))], "layer 1: .*not the last layer"),
    ([BARE, dense(WEIGHT, SIGMA, bias=[1, 2])], "sigma output with a bias"),
    ([BARE, without_neuron(dense(WEIGHT, bias=[1, 2]))], "integrator with a bias"),
    ([BARE, changed(OK, neuron__type="RF_PHASE")], "neuron type 'RF_PHASE' cannot be run"),
    ([BARE, changed(OK, neuron__type="ALIF")], "neuron type 'ALIF' cannot be run"),
    ([BARE, changed(OK, neuron__type=7)], "neuron/type holds no name"),
    ([BARE, changed(OK, neuron__messageBits=8)], "messageBits"),
    ([BARE, changed(OK, neuron__vThMant=1 << 17)], "layer 1: .*vth must lie in 0..131071"),
    ([BARE, changed(OK, neuron__vThMant=8.5)], "neuron/vThMant must be one whole number"),
    ([BARE, changed(OK, neuron__iDecay=5000)], "iDecay is 5000, the chip holds 1..4096"),
    ([BARE, changed(OK, neuron__iDecay=0)], "iDecay is 0, the chip holds 1..4096"),
    ([BARE, changed(OK, neuron__vDecay=4096)], "vDecay is 4096, the chip holds 0..4095"),
    ([BARE, changed(OK, bias=[5000, 0])], "layer 1: .*bias_mant must lie in -4096..4095"),
    ([BARE, changed(OK, bias=[1, 2, 3])], r"bias has shape \(3,\), its neurons \(2,\)"),
    ([BARE, changed(dense(WEIGHT, SDNN), neuron__vThMant=1 << 20)], "vth << 12 leaves 24 bits"),
    # weights and delays
    ([BARE, changed(OK, weight=np.full((2, 3), 300.0))], "300..300 leave the chip's -256..255"),
    ([BARE, changed(OK, weight=[[-300, 0, 1], [0, 0, 0]])], "-300..1 leave the chip's -256..254"),
    ([BARE, changed(OK, weight=np.zeros((2, 3)))], "all weights are 0"),
    ([BARE, changed(OK, weight=np.full((2, 3), -64))], "run them all as 0"),
    ([BARE, changed(OK, weight=[[-129, 0, 0], [0, 0, 0]])], "odd weights of one sign"),
    ([BARE, changed(OK, weight=np.full((2, 3), np.nan))], "not finite"),
    ([BARE, changed(OK, weight=np.array([b"ab"]))], "weight holds .*, not numbers"),
    ([BARE, changed(OK, weight=np.full((2, 3), 1e12))], "beyond 32 bits"),
    ([BARE, changed(OK, weight=np.ones((3, 3)))], r"weight has shape \(3, 3\).*2 neurons"),
    ([BARE, changed(OK, weight=np.ones((2, 4)))], "weights for 4 inputs follow 3 outputs"),
    ([BARE, changed(COMPLEX, weight__real=WEIGHT, weight__imag=WEIGHT)], "complex weights"),
    ([BARE, changed(OK, delay=-1)], "a delay of -1 steps"),
    ([BARE, changed(OK, delay=[1, 2, 3, 4])], r"delay has shape \(4,\), which fits neither"),
    ([BARE, changed(OK, shape=[0])], "shape must hold"),
    ([BARE, changed(LOOP, delay=[1, 2])], "recurrent layer with delays and another number"),
    ([BARE, changed(LOOP, **SDNN)], "recurrent sigma-delta neurons behind plain spikes"),
    # convolutions
    ([BARE, KEPT], r"no \(c, h, w\) input shape"),
    ([KEPT], r"layer 0: .*no \(c, h, w\) input shape"),
    ([PICTURE, without_neuron(KEPT)], "convolution without neurons"),
    ([PICTURE, changed(KEPT, shape=[2, 9, 9])], r"'layer_1': gives shape \(2, 4, 3\)"),
    ([PICTURE, changed(KEPT, stride=[1, 1, 1])], "stride must hold one number or two"),
    ([PICTURE, changed(KEPT, weight=KERNEL * 12)], "-144..276 leave the chip's -256..255"),
    ([PICTURE, changed(KEPT, weight=KERNEL[0])], "a convolution's has 4 axes"),
    ([PICTURE, changed(KEPT, groups=2)], "2 groups of 2 channels do not fit 2"),
    ([PICTURE, KEPT, dense(np.ones((2, 24)))], "netx wants a flatten layer"),
]


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(("layers", "words"), REFUSED, ids=[words for _, words in REFUSED])
def test_what_cannot_be_run_is_refused(
    tmp_path: Path, layers: list[Mapping[str, Any]], words: str
) -> None:
    with pytest.raises(NetxError) as caught:
        read(tmp_path, *layers)
    said = str(caught.value)
    assert re.search(words, said), said
    assert said.startswith(f"{tmp_path}/a.net: ") and "\n" not in said


def test_files_that_are_no_networks(tmp_path: Path) -> None:
    whole = write_net(tmp_path / "whole.net", [BARE, OK], 16)
    cases: dict[str, Callable[[Path], Any]] = {
        "no such file": lambda path: None,
        "not a whole HDF5 file": lambda path: path.write_bytes(b"\x89HDF, and no more"),
        "not a whole HDF5": lambda path: path.write_bytes(whole.read_bytes()[:3000]),
        "holds no /layer group": lambda path: h5py.File(path, "w").close(),
        "no group /layer/1": lambda path: _edit(whole, path, _renumbered),
        "tSample is no number": lambda path: _edit(whole, path, _two_numbers_of_steps),
        "'weight' is a group": lambda path: _edit(whole, path, _group_for_data),
    }
    for i, (words, make) in enumerate(cases.items()):
        path = tmp_path / f"{i}.net"
        make(path)
        with pytest.raises(NetxError, match=words):
            read_netx(path)


def _renumbered(file: Any) -> None:
    file.move("layer/1", "layer/2")


def _two_numbers_of_steps(file: Any) -> None:
    del file["simulation/tSample"]
    file["simulation/tSample"] = [1, 2]


def _group_for_data(file: Any) -> None:
    del file["layer/1/weight"]
    file.create_group("layer/1/weight")


def _edit(whole: Path, path: Path, change: Callable[[Any], Any]) -> None:
    shutil.copy(whole, path)
    with h5py.File(path, "r+") as file:
        change(file)


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("count", [0, 3, -1])
def test_more_layers_than_there_are(tmp_path: Path, count: int) -> None:
    path = write_net(tmp_path / "a.net", [BARE, OK])
    with pytest.raises(NetxError, match=f"has 2 layers, {count} were asked for"):
        read_netx(path, layers=count)


def test_first_layers_only(tmp_path: Path) -> None:
    path = write_net(tmp_path / "a.net", [BARE, OK, {"type": "average", "shape": [1]}])
    graph = read_netx(path, layers=2)
    assert graph.output.name == "layer_1"
    assert graph.metadata["netx"]["layers"] == 2


def test_damage_ends_in_one_line(tmp_path: Path) -> None:
    """Bytes lost or changed anywhere: a network, or a NetxError, and nothing else."""
    layers = [{**PICTURE, **CUBA}, conv(KERNEL, [2, 4, 3], bias=[1, 2]), FLAT]
    whole = write_net(tmp_path / "a.net", [*layers, dense(np.eye(4, 24))], 16).read_bytes()
    rng, path, refused = np.random.default_rng(3), tmp_path / "b.net", 0
    for _ in range(12):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), 12):
            data[place] = rng.integers(256)
        path.write_bytes(data[: rng.integers(1, 2 * len(data))])
        try:
            read_netx(path)
        except NetxError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 3


def test_a_crash_of_the_hdf5_library_ends_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It happens on damaged files; here the script that reads them ends itself."""
    script = tmp_path / "crash.py"
    script.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    monkeypatch.setattr(hdf5_dump, "__file__", str(script))
    with pytest.raises(NetxError, match="not a whole HDF5 file .the HDF5 library crashed."):
        read(tmp_path, BARE, OK)


def test_it_survives_our_file_format(tmp_path: Path) -> None:
    loop = {**dense(np.eye(24, 24) * 3 - 1), "type": "dense_rec", "weight_rec": np.eye(24)}
    graph = read(tmp_path, {**PICTURE, **SDNN}, conv(KERNEL, [2, 4, 3], SDNN), FLAT, loop, steps=9)
    files.save(graph, tmp_path / "a.safetensors")
    again = files.load(tmp_path / "a.safetensors")
    messages = np.random.default_rng(0).integers(-30, 30, (2, 9, 2, 6, 5))
    ours, theirs = reference.run(graph, messages), reference.run(again, messages)
    assert again.metadata == graph.metadata
    for name, values in ours.nodes.items():
        np.testing.assert_array_equal(theirs.nodes[name], values)


@pytest.mark.usefixtures("in_process")
def test_images_become_messages(tmp_path: Path) -> None:
    """weight * x + bias, cut toward zero; a still is shown in every step."""
    layer = {"type": "input", "shape": [3], "weight": [10.0], "bias": [3.0], **CUBA}
    graph = read(tmp_path, layer, OK, steps=4)
    stills = np.array([[0.5, -0.99, 0.0], [1.0, 0.24, -0.35]])
    messages = input_messages(graph, stills)
    expected = np.array([[8, -6, 3], [13, 5, 0]])
    np.testing.assert_array_equal(messages, np.repeat(expected[:, None], 4, axis=1))
    assert input_messages(graph, stills, 7).shape == (2, 7, 3)
    np.testing.assert_array_equal(input_messages(graph, stills[None]), expected[None])
    reference.run(graph, messages)


@pytest.mark.usefixtures("in_process")
def test_images_that_do_not_become_messages(tmp_path: Path) -> None:
    graph = read(tmp_path, {**BARE, **CUBA}, OK, steps=4)
    for images, words in (
        (np.zeros((2, 4)), r"images have shape \(2, 4\), the network takes \(images, 3\)"),
        (np.full((1, 3), 600.0), "leaves -32767..32767; scale the images"),
        (np.full((1, 3), np.nan), "leaves -32767..32767"),
    ):
        with pytest.raises(NetxError, match=words):
            input_messages(graph, images)
    with pytest.raises(NetxError, match="takes spikes, not images"):
        input_messages(read(tmp_path, BARE, OK), np.zeros((1, 3)))
