"""What lava-dl's own netx does on Lava, and what its files do here: equal, step by step."""

import importlib.util
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import net_files
from net_files import CUBA, SDNN, SIGMA, conv, dense
from spikeship.deploy.importers.netx import read_netx
from spikeship.deploy.importers.netx_weights import WeightError, dense_weights
from spikeship.hw_models.graph import Dense, FixedGraph, Readout, SigmaDelta
from spikeship.hw_models.reference import interpreter as reference

TRUTH = Path(sysconfig.get_path("purelib")) / "tests/lava/lib/dl/netx"
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("lava") is None or not TRUTH.is_dir(), reason="lava-dl is missing"
)


@dataclass(frozen=True)
class Case:
    """A file and how much of it is run: netx's layers to compare, by what they send and hold."""

    path: Path
    steps: int
    sent: tuple[int, ...]
    states: tuple[int, ...] = ()
    layers: int | None = None
    magnitude: int = 60


def _weights(seed: int, shape: tuple[int, ...], low: int, high: int) -> Any:
    weight = np.random.default_rng(seed).integers(low, high + 1, shape)
    weight.flat[:2] = low, high
    return weight


def _small_nets(folder: Path) -> Iterator[tuple[str, Case]]:
    """One file for each way in which netx makes a layer."""
    bare = {"type": "input", "shape": [24]}
    leaky = {**CUBA, "neuron/iDecay": 1024, "neuron/vThMant": 300}

    def net(name: str, *layers: Mapping[str, Any]) -> Path:
        return net_files.write_net(folder / f"{name}.net", layers)

    odd = dense(_weights(1, (12, 24), -255, 253), leaky, bias=np.arange(-6, 6))
    positive = dense(_weights(2, (10, 12), 0, 37))
    yield "odd-and-positive", Case(net("odd", bare, odd, positive), 40, (0, 1), (0, 1))
    halves = dense(_weights(3, (12, 24), -128, -3), {**CUBA, "neuron/vThMant": 5}, bias=[4000])
    none = _weights(4, (9, 12), -200, 90)
    readout = {k: v for k, v in dense(none).items() if not k.startswith("neuron")}
    yield "negative-and-readout", Case(net("negative", bare, halves, readout), 30, (0,), (0, 1))
    rng = np.random.default_rng(5)
    outputs = np.array([70, 62, 61, *rng.integers(0, 70, 9)], np.float32)  # netx cuts at 62
    for name, delay in (
        ("delay-each", rng.integers(0, 9, (12, 24)).astype(np.float32)),
        ("delay-out", outputs),
        ("delay-in", rng.integers(0, 5, 24)),
        ("delay-one", 3),
    ):
        layer = dense(_weights(6, (12, 24), -80, 90), leaky, delay=delay)
        yield name, Case(net(name, bare, layer), 30 + 60 * (name == "delay-out"), (0,), (0,))
    square = _weights(8, (24, 24), -50, 33)
    loop = {**dense(_weights(7, (24, 24), -60, 60)), "type": "dense_rec", "weight_rec": square}
    yield "recurrent", Case(net("recurrent", bare, loop, positive_of(24)), 40, (0, 1), (0,))
    late = {**loop, "delay": rng.integers(0, 6, 24)}
    yield "recurrent-delays", Case(net("late", bare, late), 40, (0,), (0,))
    picture = {"type": "input", "shape": [2, 9, 8]}
    geometry = {"stride": [2, 1], "padding": [1, 2], "dilation": [1, 2], "groups": 2}
    kernel = _weights(9, (4, 1, 3, 2, 1), -41, 51)
    first = conv(kernel, [4, 5, 10], bias=[3, -2, 9, 0], **geometry)
    flat = {"type": "flatten", "shape": [200]}
    last = dense(_weights(10, (7, 200), -60, 31).reshape(-1), bias=np.arange(7))
    last |= {"shape": [7, 1, 1]}
    yield "conv", Case(net("conv", {**picture, **CUBA}, first, flat, last), 25, (0, 1, 2), (2,))
    deltas = (
        {**picture, **SDNN},
        conv(_weights(11, (3, 2, 3, 3), -30, 37), [3, 7, 6], SDNN, bias=[5, -9, 12]),
        flat,
        dense(_weights(12, (8, 126), -20, 21), SDNN, bias=np.arange(8)),
        dense(_weights(13, (3, 8), -9, 12), SIGMA),
    )
    yield "sigma-delta", Case(net("sdnn", *deltas), 25, (0, 1, 2, 3), (1, 2, 3))


def _matrices() -> Any:
    """Weights in the chip's range: mixed, positive and negative alone, at edges and in steps."""
    rng = np.random.default_rng(20)
    made = []
    for _ in range(600):
        low, high = sorted(rng.integers(-256, 255, 2).tolist())
        low, high = [(low, high), (0, abs(low) - 1), (-abs(low), -1), (low, 0)][rng.integers(4)]
        low, high = [(low, high), (-(2 ** int(rng.integers(9))), high)][rng.integers(2)]
        step = 2 ** int(rng.integers(5))
        matrix = rng.integers(min(low, high), max(low, high) + 1, (3, 4)) // step * step
        made.append(np.clip(matrix, -256, 254))
    return np.array([matrix for matrix in made if matrix.any()])


def positive_of(columns: int) -> dict[str, Any]:
    return dense(_weights(14, (5, columns), 0, 20))


def _wheel_nets() -> Iterator[tuple[str, Case]]:
    """The files of lava-dl's wheel."""
    gts = TRUTH / "gts"
    yield "tiny", Case(TRUTH / "tiny.net", 20, (0, 1, 2), (1, 2))
    yield "mnist", Case(TRUTH / "mnist.net", 10, (1, 2), (3,), magnitude=200)
    yield "ntidigits", Case(gts / "ntidigits/ntidigits.net", 90, (1, 2), (2,), layers=5)
    yield "pilotnet-lif", Case(gts / "pilotnet_lif/network.net", 10, (4, 5, 6, 7, 8), (9,))
    yield "pilotnet-sdnn", Case(gts / "pilotnet_sdnn/network.net", 10, (3, 4, 5, 6, 7, 8))
    yield "pilotnet-square", Case(gts / "pilotnet_sdnn/square_network.net", 8, (3, 4))


def _run(folder: Path, cases: Mapping[str, Case], *extra: Mapping[str, Any]) -> dict[str, Any]:
    jobs = []
    found: dict[str, Any] = {}
    for name, case in cases.items():
        graph = read_netx(case.path, layers=case.layers)
        rng = np.random.default_rng(len(name))
        shape = (case.steps, *graph.input.shape)
        messages = (rng.random(shape) < 0.4).astype(np.int64)
        if graph.input.signed:
            messages *= rng.integers(-case.magnitude // 3, case.magnitude, shape)
        found[name] = graph, messages
        keep = {"sent": case.sent, "states": case.states, "layers": case.layers}
        jobs.append({"name": name, "net": case.path, "messages": messages, **keep})
    made = net_files.run_peer(folder, [*jobs, *extra])
    weights = {WEIGHTS: made[WEIGHTS]} if WEIGHTS in made else {}
    return {name: (*found[name], made[name]) for name in cases} | weights


WEIGHTS = "weights"
SMALL = ("odd-and-positive", "negative-and-readout", "delay-each", "delay-out", "delay-in")
SMALL += ("delay-one", "recurrent", "recurrent-delays", "conv", "sigma-delta")
WHEEL = ("tiny", "mnist", "ntidigits", "pilotnet-lif", "pilotnet-sdnn", "pilotnet-square")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("small")
    weights = {"name": WEIGHTS, "matrices": _matrices()}
    return _run(folder, dict(_small_nets(folder)), weights)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return _run(tmp_path_factory.mktemp("wheel"), dict(_wheel_nets()))


@pytest.mark.parametrize("name", SMALL)
def test_every_kind_of_layer_as_netx_runs_it(small: dict[str, Any], name: str) -> None:
    _assert_equal(*small[name])


def test_weights_as_lava_ends_with_them(small: dict[str, Any]) -> None:
    """Equal wherever ours are taken; those refused, netx loses or shifts out of their range."""
    taken = refused = changed = 0
    theirs = small[WEIGHTS]
    for matrix, held, (exponent, bits) in zip(
        _matrices(), theirs["weights"], theirs["numbers"], strict=True
    ):
        try:
            (ours,) = dense_weights(matrix)
        except WeightError:
            refused += 1
            assert bits > 8 or not held.any()
            continue
        taken += 1
        assert (ours.weight_exp, ours.num_weight_bits) == (exponent, bits)
        np.testing.assert_array_equal(ours.weight, held)
        changed += not np.array_equal(held, matrix << -exponent)
    assert taken > 400
    assert refused > 10
    assert changed > 5


@pytest.mark.parametrize("name", WHEEL)
def test_lava_dls_networks_as_netx_runs_them(wheel: dict[str, Any], name: str) -> None:
    _assert_equal(*wheel[name])


def _assert_equal(graph: FixedGraph, messages: Any, theirs: Mapping[str, Any]) -> None:
    """What netx's layers sent in every step, held at the end, and the weights they ended with."""
    made = reference.run(graph, messages[None])
    steps, active = len(messages), 0
    for key, values in theirs.items():
        kind, index = key.rstrip("0123456789"), int(key[len(key.rstrip("0123456789")) :])
        node = graph.nodes[index]
        if kind == "sent":
            expected = made.nodes[node.name][0][:steps]
            active += int(np.count_nonzero(values))
        elif kind in ("synapse", "synapse_rec"):
            where = node.name + "_rec" * (kind == "synapse_rec")
            synapse = next(s for s in graph.synapses if s.name == where)
            assert isinstance(synapse, Dense)
            expected = synapse.weight
        elif isinstance(node, Readout):  # an integrator of netx's counts in 64ths
            expected = made.nodes[node.name][0][steps - 1] * (1 if kind == "sigma" else 64)
        elif kind == "u":
            expected = made.currents[node.name][0][steps - 1]
        else:
            assert kind == "sigma" if isinstance(node, SigmaDelta) else kind == "v"
            expected = made.potentials[node.name][0][steps - 1]
        np.testing.assert_array_equal(expected, values, err_msg=key)
    assert active > 50, "a silent network shows nothing"
