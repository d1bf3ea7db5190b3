"""Float to integers: exact where the float numbers are integers already, refused by name else."""

from typing import Any

import nir
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikeship.deploy.compiler.normalize import normalize
from spikeship.deploy.compiler.quantize import quantize, training_room
from spikeship.deploy.errors import DeployError
from spikeship.hw_models.graph import Conv, FixedGraph, Neuron, Readout, Sparse
from spikeship.hw_models.reference import interpreter as reference
from spikeship.training.nir_io.from_nir import from_nir
from spikeship.training.nir_io.metadata import KEY, NetworkMetadata
from spikeship.training.snn.encoding import InputCoding

STEPS = 6


def _even(rng: np.random.Generator, *shape: int) -> Any:
    """Even integers whose every row holds -256 or 254, so that each row's scale is exactly 1."""
    weights = 2 * rng.integers(-60, 61, shape)
    rows = weights.reshape(shape[0], -1)
    rows[:, 0] = -256
    rows[:, 1] = 254
    return weights.astype(np.float32)


def _graph(
    rng: np.random.Generator,
    unit: float = 1.0,
    *,
    reset: str = "subtract",
    residual: bool = False,
    **metadata: Any,
) -> nir.NIRGraph:
    """conv - pool - conv (+ skip) - pool - dense, every number ``unit`` times an integer."""
    half = np.float32(0.5)  # thresholds between integers: no ties to decide

    def neurons(shape: tuple[int, ...], theta: int) -> nir.IF:
        value = np.full(shape, (theta + half) * unit, np.float32)
        return nir.IF(r=np.ones(shape, np.float32), v_threshold=value)

    def conv(out: int, inputs: int) -> nir.Conv2d:
        return nir.Conv2d(
            input_shape=None,
            weight=_even(rng, out, inputs, 3, 3) * np.float32(unit),
            stride=1,
            padding=1,
            dilation=1,
            groups=1,
            bias=np.zeros(out, np.float32),
        )

    # a pool divides by 4, and the weights behind it are 4 times an integer
    pool = nir.AvgPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0]))
    behind = conv(3, 3)
    behind.weight = behind.weight * 4
    dense = nir.Linear(weight=_even(rng, 4, 12) * np.float32(4 * unit))
    nodes = {
        "input": nir.Input(np.array([2, 8, 8])),
        "conv1": conv(3, 2),
        "relu1": neurons((3, 8, 8), 150),
        "pool1": pool,
        "conv2": behind,
        "relu2": neurons((3, 4, 4), 300),
        "pool2": pool,
        "flatten": nir.Flatten(np.array([3, 2, 2]), 0),
        "fc": dense,
        "output": nir.Output(np.array([4])),
    }
    edges = [
        ("input", "conv1"),
        ("conv1", "relu1"),
        ("relu1", "pool1"),
        ("pool1", "conv2"),
        ("conv2", "relu2"),
        ("relu2", "pool2"),
        ("pool2", "flatten"),
        ("flatten", "fc"),
        ("fc", "output"),
    ]
    if residual:
        nodes["inner"] = neurons((3, 4, 4), 200)
        nodes["conv3"] = conv(3, 3)
        nodes["skip"] = nir.Scale(np.full((3, 4, 4), 4 * 255 * unit, np.float32))
        edges.remove(("conv2", "relu2"))
        edges += [
            ("conv2", "inner"),
            ("inner", "conv3"),
            ("conv3", "relu2"),
            ("pool1", "skip"),
            ("skip", "relu2"),
        ]
    said = NetworkMetadata(
        coding=InputCoding("poisson", 1.0, 1, True), num_steps=STEPS, reset=reset, **metadata
    )
    return nir.NIRGraph(nodes, edges, {KEY: said.to_json()}, type_check=False)


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), reset=st.sampled_from(["subtract", "zero"]))
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("granularity", ["channel", "layer"])
def test_integers_in_integers_out(granularity: Any, residual: bool, seed: int, reset: str) -> None:
    """Weights that are integers keep their values, and every spike is the float network's."""
    rng = np.random.default_rng(seed)
    unit = 2.0**-7
    graph = _graph(rng, unit, reset=reset, residual=residual)
    fixed = quantize(graph, granularity=granularity)
    for synapse in fixed.synapses:
        if isinstance(synapse, Sparse):
            np.testing.assert_array_equal(synapse.data << synapse.weight_exp, 255)
        else:
            node = graph.nodes[synapse.name]
            exact = node.weight / unit / synapse.pool**2
            np.testing.assert_array_equal(synapse.weight, exact)
    messages = rng.integers(-1, 2, (2, STEPS, 2, 8, 8))
    found = reference.run(fixed, messages)
    if reset == "zero":  # with soft reset the float subtracts the half unit too
        snn = from_nir(graph)
        for name, _, spikes in snn.walk(torch.from_numpy(messages)):
            if spikes is not None:
                depth = fixed.depths[name]
                local = found.nodes[name][:, depth : depth + STEPS]
                np.testing.assert_array_equal(spikes.detach().transpose(0, 1).numpy(), local)


def _node(graph: FixedGraph, name: str) -> Neuron:
    node = graph.node(name)
    assert isinstance(node, Neuron)
    return node


def test_thresholds_biases_and_starts_are_in_units_of_the_scale() -> None:
    rng = np.random.default_rng(1)
    half = float(np.float32(150.5 * 0.01)) / 2
    graph = _graph(rng, 0.01, v0={"relu1": half, "relu2": 0.33})
    graph.nodes["conv1"].bias = np.array([0.5, -0.25, 0.0], np.float32)
    fixed = quantize(graph)
    first, second = _node(fixed, "relu1"), _node(fixed, "relu2")
    theta = graph.nodes["relu1"].v_threshold[:, :1, :1].astype(np.float64)
    np.testing.assert_array_equal(first.vth, np.floor(theta / first.scale))
    np.testing.assert_array_equal(first.v0, first.vth << 5)  # half the threshold, exactly
    np.testing.assert_allclose(second.v0, 64 * 0.33 / second.scale, atol=0.5)
    wanted = 64 * np.array([0.5, -0.25, 0.0]).reshape(3, 1, 1) / first.scale
    np.testing.assert_allclose(first.bias, wanted, atol=0.5)
    assert isinstance(fixed.output, Readout)


def _leaky(*kept: float, theta: float = 100.5) -> nir.NIRGraph:
    """The graph with these leaks of the first population, one a channel."""
    graph = _graph(np.random.default_rng(2))
    leak = np.broadcast_to(np.reshape(kept, (-1, 1, 1)), (3, 8, 8))
    tau = 1 / np.maximum(1 - leak, 2.0**-60)
    threshold = np.full(tau.shape, theta)
    graph.nodes["relu1"] = nir.LIF(tau=tau, r=tau, v_leak=0 * tau, v_threshold=threshold)
    return graph


def test_leaks_become_dv() -> None:
    assert _node(quantize(_leaky(0.9)), "relu1").dv.item() == round(0.1 * 4096)
    each = quantize(_leaky(1.0, 0.9, 0.25))
    np.testing.assert_array_equal(_node(each, "relu1").dv.ravel(), [0, 410, 3072])
    assert each.metadata["notes"] == []
    weak = quantize(_leaky(0.9999, 1.0, 0.5))
    np.testing.assert_array_equal(_node(weak, "relu1").dv.ravel(), [0, 0, 2048])
    assert weak.metadata["notes"] == ["layer 'relu1': a leak of 0.9999 is none in steps of 1/4096"]
    with pytest.raises(DeployError, match="'relu1': a leak of 0 keeps nothing, and the chip at"):
        quantize(_leaky(0.5, 0.0, 0.5))


def test_starts_are_per_channel() -> None:
    starts = [[[10.0]], [[-20.5]], [[0.0]]]
    graph = _graph(np.random.default_rng(2), v0={"relu1": starts})
    np.testing.assert_array_equal(_node(quantize(graph), "relu1").v0.ravel(), [640, -1312, 0])


@settings(max_examples=10)
@given(seed=st.integers(0, 10**6))
def test_a_skip_may_have_a_factor_for_each_channel(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = _graph(rng, reset="zero", residual=True)
    factors = rng.integers(1, 256, 3)
    graph.nodes["skip"].scale = np.broadcast_to(4.0 * factors.reshape(3, 1, 1), (3, 4, 4)).astype(
        np.float32
    )
    fixed = quantize(graph)
    (skip,) = (synapse for synapse in fixed.synapses if isinstance(synapse, Sparse))
    np.testing.assert_array_equal(skip.data.reshape(3, 16), np.tile(factors, (16, 1)).T)
    messages = rng.integers(-1, 2, (2, STEPS, 2, 8, 8))
    found = reference.run(fixed, messages)
    for name, _, spikes in from_nir(graph).walk(torch.from_numpy(messages)):
        if spikes is not None:
            local = found.nodes[name][:, fixed.depths[name] : fixed.depths[name] + STEPS]
            np.testing.assert_array_equal(spikes.detach().transpose(0, 1).numpy(), local)


def test_delays_are_equal_along_every_path() -> None:
    fixed = quantize(_graph(np.random.default_rng(3), residual=True))
    delays = {synapse.name: synapse.delay for synapse in fixed.synapses}
    assert delays == {"conv1": 1, "conv2": 1, "conv3": 1, "relu1->relu2": 2, "fc": 2}
    assert fixed.drain == 5


@pytest.mark.parametrize("bits", [8, 6, 4])
def test_weights_are_what_so_many_bits_hold(bits: int) -> None:
    fixed = quantize(_graph(np.random.default_rng(4), 0.013), weight_bits=bits)
    for synapse in fixed.synapses:
        assert isinstance(synapse, Conv) or synapse.name == "fc"
        assert not np.any(synapse.weight % (2 << (8 - bits)))  # type: ignore[union-attr]
        assert len(np.unique(synapse.weight)) <= 2**bits  # type: ignore[union-attr]


def _wide(inputs: int = 64) -> nir.NIRGraph:
    """Two neurons that take 7-bit values from all inputs."""
    shape = (2,)
    said = NetworkMetadata(
        coding=InputCoding("direct", 1.0, 127, True), num_steps=STEPS, reset="subtract"
    )
    nodes = {
        "input": nir.Input(np.array([inputs])),
        "fc1": nir.Linear(np.full((2, inputs), 1.0)),
        "relu": nir.IF(r=np.ones(shape), v_threshold=np.full(shape, 50.0)),
        "fc2": nir.Linear(np.eye(2)),
        "output": nir.Output(np.array([2])),
    }
    edges = [("input", "fc1"), ("fc1", "relu"), ("relu", "fc2"), ("fc2", "output")]
    return nir.NIRGraph(nodes, edges, {KEY: said.to_json()}, type_check=False)


def test_sums_that_leave_24_bits_are_said_and_bounded_by_observation() -> None:
    graph = _wide()
    unchecked = quantize(graph)
    assert _node(unchecked, "relu").overflow == "unchecked"
    assert "no data was observed" in unchecked.metadata["notes"][0]
    observed = quantize(graph, ranges={"relu": (-2000.0, 1000.0)})
    node = _node(observed, "relu")
    assert node.overflow == "observed"
    assert 2000.0 / node.scale.min() <= 2**16
    with pytest.raises(reference.StateOverflowError, match="'relu'.*24 bits"):
        reference.run(unchecked, np.full((1, STEPS, 64), 127))
    tight = quantize(graph, ranges={"relu": (-64 * 127.0, 64 * 127.0)})
    reference.run(tight, np.full((1, STEPS, 64), 127))  # the scale was raised to hold it


@given(st.floats(1.0, 4.0), st.floats(100.0, 3000.0), st.booleans())
def test_headroom_is_left_where_nothing_else_leaves_it(
    room: float, seen: float, is_negative: bool
) -> None:
    ranges = {"relu": (-seen, 1.0) if is_negative else (-1.0, seen)}
    tight = quantize(_wide(), ranges=ranges)
    roomy = quantize(_wide(), ranges=ranges, headroom=room)
    scale = max(_node(tight, "relu").scale.min(), room * seen / 2**16)
    np.testing.assert_array_equal(_node(roomy, "relu").scale, scale)
    assert room * seen / scale <= 2**16 * (1 + 1e-12)


def test_headroom_leaves_proved_layers_as_they_are() -> None:
    # 2 inputs of at most 127, of weight 255: the sums end at 64,770, twice that is still proved
    ranges = {"relu": (-254.0, 254.0)}
    plain = quantize(_wide(inputs=2), ranges=ranges)
    assert plain.input_bound("relu") == 2 * 127 * 255
    for headroom, kept in ((2.0, True), (2.1, False)):
        roomy = quantize(_wide(inputs=2), ranges=ranges, headroom=headroom)
        assert (_node(roomy, "relu").scale == _node(plain, "relu").scale).all() == kept
        assert _node(roomy, "relu").overflow == "proved"


@pytest.mark.parametrize("headroom", [0.9, np.inf, np.nan])
def test_headroom_below_one_is_refused(headroom: float) -> None:
    with pytest.raises(DeployError, match="headroom: .* give 1 or more"):
        quantize(_wide(), headroom=headroom)


def _pool(side: int, stride: int) -> nir.AvgPool2d:
    return nir.AvgPool2d(np.array([side, side]), np.array([stride, stride]), np.array([0, 0]))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda g: g.nodes.update(pool1=_pool(3, 3)), "'pool1'.*does not divide"),
        (lambda g: g.nodes.update(pool1=_pool(2, 1)), "'pool1'.*equal to its stride"),
        (lambda g: g.nodes.update(relu1=nir.CubaLIF(*[np.ones(3)] * 6)), "'relu1'.*CubaLIF"),
        (lambda g: g.nodes["relu2"].v_threshold.fill(1e-6), "'relu2'.*threshold"),
        (lambda g: g.nodes["relu2"].v_reset.fill(1.0), "'relu2'.*v_reset"),
        (lambda g: g.edges.append(("fc", "fc")), "loop"),
        (lambda g: g.metadata.clear(), "metadata says neither"),
        (lambda g: g.metadata.update({KEY: "{"}), "damaged"),
    ],
)
def test_what_cannot_be_is_refused_by_name(spoil: Any, message: str) -> None:
    graph = _graph(np.random.default_rng(6))
    spoil(graph)
    with pytest.raises(DeployError, match=message) as error:
        quantize(graph)
    assert "\n" not in str(error.value)


def test_one_bit_cannot_hold_two_signs() -> None:
    with pytest.raises(DeployError, match="'relu1'.*no scale fits.*1 bits"):
        quantize(_graph(np.random.default_rng(8)), weight_bits=1)


def test_the_callers_graph_stays_as_it_is() -> None:
    graph = _graph(np.random.default_rng(7), residual=True)
    before = {
        name: np.array(node.weight) for name, node in graph.nodes.items() if hasattr(node, "weight")
    }
    edges = list(graph.edges)
    normalize(graph)
    quantize(graph)
    assert graph.edges == edges
    for name, weight in before.items():
        np.testing.assert_array_equal(graph.nodes[name].weight, weight)


def _flat(weight: Any, theta: float, **options: Any) -> FixedGraph:
    """A dense layer with these weights and threshold, quantized."""
    weight = np.asarray(weight, dtype=np.float64)
    shape = (len(weight),)
    nodes = {
        "input": nir.Input(np.array([weight.shape[1]])),
        "fc1": nir.Linear(weight),
        "relu": nir.IF(r=np.ones(shape), v_threshold=np.full(shape, theta)),
        "fc2": nir.Linear(np.eye(len(weight))),
        "output": nir.Output(np.array(shape)),
    }
    edges = [("input", "fc1"), ("fc1", "relu"), ("relu", "fc2"), ("fc2", "output")]
    said = NetworkMetadata(
        coding=InputCoding("poisson", 1.0, 1, True), num_steps=STEPS, reset="subtract"
    )
    return quantize(nir.NIRGraph(nodes, edges, {KEY: said.to_json()}, type_check=False), **options)


@given(st.integers(0, 10**6), st.integers(2, 8))
def test_weights_whose_smaller_sign_rounds_away_still_fit(seed: int, bits: int) -> None:
    rng = np.random.default_rng(seed)
    weight = -rng.random((3, 5))
    weight[rng.integers(3), rng.integers(5)] = 0.01 * rng.random()
    fixed = _flat(weight, 0.5, weight_bits=bits)
    held = fixed.synapses[0].weight  # type: ignore[union-attr]
    if not np.any(held > 0):  # the sign's bit is free for negative weights, in each row's scale
        step = 1 << (8 - bits)
        assert held.min(axis=1).tolist() == [-(255 // step * step)] * 3
        scale = _node(fixed, "relu").scale[:, None]
        assert np.all(np.abs(held * scale - np.minimum(weight, 0)) <= scale * (step / 2 + 1e-9))


@pytest.mark.parametrize("bits", [2, 3, 8])
def test_a_branch_beside_others_whose_smaller_sign_rounds_away(bits: int) -> None:
    """Its exponent, too, is chosen for the negative weights that remain."""
    graph = _graph(np.random.default_rng(6), residual=True)
    skip = np.full((3, 4, 4), -5.0 * 256, np.float32)
    skip[0, 0, 0] = 1.0
    graph.nodes["skip"].scale = skip
    fixed = quantize(graph, weight_bits=bits)
    (held,) = (synapse for synapse in fixed.synapses if isinstance(synapse, Sparse))
    assert held.data.max() <= 0
    scale = np.repeat(_node(fixed, "relu2").scale.reshape(-1), 16)
    step = scale * (1 << (8 - bits + held.weight_exp))
    real = held.data * scale * 2.0**held.weight_exp
    assert np.all(np.abs(real - np.minimum(skip.reshape(-1) / 4, 0)) <= step / 2 + 1e-9)


@given(st.floats(1e-3, 10.0), st.integers(1, 60))
def test_a_threshold_of_whole_weights_loses_nothing(weight: float, count: int) -> None:
    """theta = count * weight: the integers, too, fire only above so many."""
    node = _node(_flat([[weight]], count * weight), "relu")
    assert node.vth.item() == 255 * count


def test_r_that_is_not_one_is_refused() -> None:
    graph = _graph(np.random.default_rng(9))
    graph.nodes["relu1"].r = graph.nodes["relu1"].r * 0.25
    with pytest.raises(DeployError, match="'relu1': r must be 1"):
        quantize(graph)


def test_few_bits_are_left_for_the_weights() -> None:
    assert [training_room(bits) for bits in (2, 5, 6, 8)] == [1.0, 1.0, 2.0, 2.0]


def _chain(*nodes: tuple[str, Any], **metadata: Any) -> nir.NIRGraph:
    """Nodes one after the other, in 4 time steps of binary messages."""
    names = [name for name, _ in nodes]
    said = {"coding": InputCoding("spikes"), "num_steps": 4, "reset": "subtract", **metadata}
    key = {KEY: NetworkMetadata(**said).to_json()}
    edges = list(zip(names, names[1:], strict=False))
    return nir.NIRGraph(dict(nodes), edges, key, type_check=False)


def _plain_conv(weight: Any, bias: Any) -> nir.Conv2d:
    return nir.Conv2d(None, np.asarray(weight, np.float64), 1, 0, 1, 1, np.asarray(bias))


@pytest.mark.parametrize(("pools", "area"), [((3,), 9), ((3, 2), 36), ((5,), 25)])
def test_an_average_pools_divisor_is_its_area(pools: tuple[int, ...], area: int) -> None:
    """One pool or two in a row, before each kind of synapse; a sum-pool divides by nothing."""
    side = int(np.prod(pools))
    wide = 2 * side
    spiking = nir.IF(r=np.ones((1, 2, 2)), v_threshold=np.ones((1, 2, 2)))
    start = ("input", nir.Input(np.array([1, wide, wide])))
    averages = [(f"pool{k}", _pool(k, k)) for k in pools]
    flat = ("flatten", nir.Flatten(np.array([1, 2, 2]), 0))
    dense = ("fc", nir.Linear(np.array([[1.0, -2.0, 3.0, 4.0]]) * area))
    end = ("output", nir.Output(np.array([1])))

    def first(*nodes: tuple[str, Any]) -> Any:
        (branch,) = normalize(_chain(start, *nodes, end)).populations[0].branches
        assert branch.pool == side
        return branch.weight

    np.testing.assert_allclose(first(*averages, flat, dense), [[1, -2, 3, 4]], rtol=1e-15)
    conv = ("conv", _plain_conv([[[[7.0 * area]]]], [0.0]))
    found = first(*averages, conv, ("relu", spiking), flat, dense)
    np.testing.assert_allclose(found, [[[[7.0]]]], rtol=1e-15)
    found = first(*averages, ("relu", spiking), flat, dense)
    np.testing.assert_allclose(found, np.full((1, 2, 2), 1 / area), rtol=1e-15)
    sums = [(name, nir.SumPool2d(p.kernel_size, p.stride, p.padding)) for name, p in averages]
    np.testing.assert_array_equal(first(*sums, flat, dense), dense[1].weight)


def test_a_scale_behind_a_layer_scales_its_bias_too() -> None:
    """3 (2 s + 5) is 6 s + 15: what a factor multiplies is all of the weighted input."""
    factors, bias = np.array([3.0, 0.5]), np.array([5.0, -8.0])
    flat_if = nir.IF(r=np.ones(2), v_threshold=np.ones(2))
    end = ("fc", nir.Linear(np.eye(2))), ("output", nir.Output(np.array([2])))
    dense = _chain(
        ("input", nir.Input(np.array([1]))),
        ("first", nir.Affine(np.array([[2.0], [4.0]]), bias)),
        ("scale", nir.Scale(factors)),
        ("relu", flat_if),
        *end,
    )
    population = normalize(dense).populations[0]
    np.testing.assert_array_equal(population.branches[0].weight, [[6], [2]])
    np.testing.assert_array_equal(population.bias, [15, -4])
    conv = _chain(
        ("input", nir.Input(np.array([1, 1, 1]))),
        ("first", _plain_conv([[[[2.0]]], [[[4.0]]]], bias)),
        ("scale", nir.Scale(factors.reshape(2, 1, 1))),
        ("relu", nir.IF(r=np.ones((2, 1, 1)), v_threshold=np.ones((2, 1, 1)))),
        ("flatten", nir.Flatten(np.array([2, 1, 1]), 0)),
        *end,
    )
    population = normalize(conv).populations[0]
    np.testing.assert_array_equal(population.branches[0].weight.ravel(), [6, 2])
    np.testing.assert_array_equal(np.ravel(population.bias), [15, -4])


def test_a_large_bias_raises_the_scale_of_its_channel() -> None:
    """The weights alone ask for 1 / 255; a bias of 64 * 255 * 100 has no 13 bits and exponent."""
    graph = _chain(
        ("input", nir.Input(np.array([1]))),
        ("first", nir.Affine(np.array([[1.0], [1.0], [1.0]]), np.array([100.0, -100.0, 0.5]))),
        ("relu", nir.IF(r=np.ones(3), v_threshold=np.full(3, 10.0))),
        ("fc", nir.Linear(np.eye(3))),
        ("output", nir.Output(np.array([3]))),
    )
    node = _node(quantize(graph), "relu")
    most = 4095 * 2**7  # the largest bias of either sign: mantissa and exponent
    np.testing.assert_allclose(node.scale, [100 * 64 / most, 100 * 64 / most, 1 / 255], rtol=1e-12)
    held = node.bias_mant.astype(np.int64) << node.bias_exp
    np.testing.assert_allclose(held[:2], [most, -most], atol=2**6)
    np.testing.assert_allclose(held[2], 64 * 0.5 * 255, atol=2**6)
    np.testing.assert_array_equal(node.vth, np.floor(10 / node.scale))


def _leaking(decay: str, r: float, kind: str = "LIF") -> nir.NIRGraph:
    """Leaky neurons of tau 2 (or neurons without a leak) at steps of 1."""
    ones = np.ones(2)
    node: nir.NIRNode = nir.IF(r=r * ones, v_threshold=1.5 * ones)
    if kind == "LIF":
        node = nir.LIF(tau=2 * ones, r=r * ones, v_leak=0 * ones, v_threshold=1.5 * ones)
    return _chain(
        ("input", nir.Input(np.array([2]))),
        ("first", nir.Linear(np.eye(2))),
        ("relu", node),
        ("fc", nir.Linear(np.eye(2))),
        ("output", nir.Output(np.array([2]))),
        decay=decay,
    )


# in a step of 1 at tau 2 Euler keeps half of V, and the exact solution exp(-1/2) = 0.60653
@pytest.mark.parametrize(
    ("decay", "kept", "r", "dv"),
    [("euler", 0.5, 2.0, 2048), ("exact", 0.6065306597, 2.5414940825, 1612)],
)
def test_a_leak_is_read_as_the_metadata_says(decay: str, kept: float, r: float, dv: int) -> None:
    graph = _leaking(decay, r)
    population = normalize(graph).populations[0]
    np.testing.assert_allclose(population.leak, kept, rtol=1e-9)
    assert _node(quantize(graph), "relu").dv.item() == dv
    neuron = from_nir(graph).neurons["relu"]
    assert float(neuron.leak) == pytest.approx(kept, rel=1e-6)
    assert float(neuron.threshold) == pytest.approx(1.5, rel=1e-6)


@pytest.mark.parametrize(
    ("decay", "r", "kind"),
    [("exact", 2.0, "LIF"), ("euler", 2.5414940825, "LIF"), ("exact", 2.0, "IF")],
)
def test_r_that_gives_another_gain_is_refused_at_each_decay(
    decay: Any, r: float, kind: str
) -> None:
    with pytest.raises(DeployError, match="'relu': r must be "):
        quantize(_leaking(decay, r, kind))
