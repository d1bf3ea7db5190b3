"""Counts against a brute-force expansion: every synapse written out, every spike followed."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from spikeship.hw_models.events.counts import CountError, EventCounts, count_events
from spikeship.hw_models.events.fanout import fanout
from spikeship.hw_models.graph import (
    AnySynapse,
    Conv,
    Dense,
    FixedGraph,
    Input,
    Neuron,
    Readout,
    Sparse,
)

Ints = NDArray[np.int64]


Weights = NDArray[np.int16]


def ints(rng: np.random.Generator, *shape: int) -> Weights:
    """Even weights with plenty of zeros."""
    return np.asarray(rng.choice([0, 0, -2, 2, 4], shape), dtype=np.int16)


def sparse(matrix: Weights, stored: NDArray[np.bool_], **where: Any) -> Sparse:
    rows, columns = np.nonzero(stored)
    starts = np.concatenate([[0], np.cumsum(stored.sum(axis=1))])
    return Sparse(
        data=matrix[rows, columns],
        indices=columns,
        indptr=starts,
        columns=stored.shape[1],
        **where,
    )


def expand(synapse: AnySynapse, source: tuple[int, ...], target: tuple[int, ...]) -> list[Any]:
    """Every existing synapse as (target index, source index after the pool, weight)."""
    if isinstance(synapse, Dense):
        return [(o, i, w) for (o, i), w in np.ndenumerate(synapse.weight)]
    if isinstance(synapse, Sparse):
        return [
            (row, int(synapse.indices[k]), synapse.data[k])
            for row in range(synapse.rows)
            for k in range(synapse.indptr[row], synapse.indptr[row + 1])
        ]
    channels, height, width = source[0], source[1] // synapse.pool, source[2] // synapse.pool
    out, per_group, *_ = synapse.weight.shape
    found = []
    for o, y, x in np.ndindex(*target):
        for i, ky, kx in np.ndindex(*synapse.weight.shape[1:]):
            channel = o // (out // synapse.groups) * per_group + i
            sy = y * synapse.stride[0] - synapse.padding[0] + ky * synapse.dilation[0]
            sx = x * synapse.stride[1] - synapse.padding[1] + kx * synapse.dilation[1]
            if 0 <= sy < height and 0 <= sx < width:
                at = np.ravel_multi_index((channel, sy, sx), (channels, height, width))
                found.append((o, int(at), synapse.weight[o, i, ky, kx]))
    return found


def pooled_index(source: tuple[int, ...], pool: int) -> Ints:
    """For every source neuron the flat index of its pooled position."""
    if pool == 1:
        return np.arange(int(np.prod(source))).reshape(source)
    small = (source[0], source[1] // pool, source[2] // pool)
    index = np.empty(source, dtype=np.int64)
    for c, y, x in np.ndindex(*source):
        index[c, y, x] = np.ravel_multi_index((c, y // pool, x // pool), small)
    return index


def brute_fanout(
    synapse: AnySynapse, source: tuple[int, ...], target: tuple[int, ...]
) -> tuple[Ints, Ints]:
    entries = expand(synapse, source, target)
    index = pooled_index(source, synapse.pool)
    stored, nonzero = (np.zeros(int(index.max()) + 1, dtype=np.int64) for _ in range(2))
    for _, i, weight in entries:
        stored[i] += 1
        nonzero[i] += weight != 0
    return nonzero[index], stored[index]


def neuron(name: str, shape: tuple[int, ...], **fields: Any) -> Neuron:
    return Neuron(name, shape, np.array(3), **fields)


@st.composite
def convs(draw: st.DrawFn) -> FixedGraph:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    small = st.integers(1, 3)
    groups, per_group, share = (draw(st.integers(1, 2)) for _ in range(3))
    kernel, stride, dilation = ((draw(small), draw(small)) for _ in range(3))
    padding = (draw(st.integers(0, 2)), draw(st.integers(0, 2)))
    pool = draw(small)
    least = [
        max(1, d * (k - 1) + 1 - 2 * p) for k, d, p in zip(kernel, dilation, padding, strict=True)
    ]
    sides = [n + draw(st.integers(0, 3)) for n in least]
    synapse = Conv(
        name="conv",
        source="input",
        target="relu",
        weight=ints(rng, groups * share, per_group, *kernel),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        pool=pool,
    )
    pooled = (groups * per_group, *sides)
    target = synapse.output_shape(pooled)
    source = (pooled[0], sides[0] * pool, sides[1] * pool)
    return FixedGraph(Input("input", source), (neuron("relu", target),), (synapse,))


@st.composite
def matrices(draw: st.DrawFn) -> FixedGraph:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pool = draw(st.integers(1, 2))
    pooled = (draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 2)))
    source = (pooled[0], pooled[1] * pool, pooled[2] * pool)
    out = draw(st.integers(1, 5))
    weight = ints(rng, out, int(np.prod(pooled)))
    where: dict[str, Any] = {
        "name": "fc", "source": "input", "target": "relu", "pool": pool, "delay": pool,
    }  # fmt: skip
    stored = rng.random(weight.shape) < 0.5
    stored[0, 0] = True
    synapse = (
        Dense(weight=weight, **where) if draw(st.booleans()) else sparse(weight, stored, **where)
    )
    return FixedGraph(Input("input", source), (neuron("relu", (out,)),), (synapse,))


@settings(max_examples=150, deadline=None)
@given(convs() | matrices())
def test_fanout_equals_expanded_matrix(graph: FixedGraph) -> None:
    (synapse,) = graph.synapses
    expected = brute_fanout(synapse, graph.input.shape, graph.nodes[0].shape)
    for found, wanted in zip(fanout(graph, synapse), expected, strict=True):
        assert found.dtype == np.int64
        np.testing.assert_array_equal(found, wanted)


def test_padding_taps_do_not_exist() -> None:
    conv = Conv(
        name="c",
        source="input",
        target="n",
        weight=np.ones((5, 2, 3, 3), dtype=np.int16),
        padding=(1, 1),
    )
    graph = FixedGraph(Input("input", (2, 4, 4)), (neuron("n", (5, 4, 4)),), (conv,))
    _, connected = fanout(graph, conv)
    assert (connected[0, 0, 0], connected[0, 0, 1], connected[1, 2, 1]) == (4 * 5, 6 * 5, 9 * 5)


def brute_count(graph: FixedGraph, sent: dict[str, Ints], node: str, steps: int) -> dict[str, Ints]:
    """Follow each message of each image along each synapse; ``sent`` is in chip steps."""
    totals = {k: np.zeros(steps, dtype=np.int64) for k in ("eff", "conn", "messages", "pooled")}
    for synapse in graph.incoming(node):
        source, target = graph.node(synapse.source).shape, graph.node(node).shape
        effective, connected = brute_fanout(synapse, source, target)
        index = pooled_index(source, synapse.pool)
        for image in sent[synapse.source]:
            for step in range(min(len(image), steps - synapse.delay)):
                sums: dict[int, int] = {}
                for where, message in np.ndenumerate(image[step]):
                    if message == 0 or connected[where] == 0:
                        continue
                    arrival = step + synapse.delay
                    totals["eff"][arrival] += effective[where]
                    totals["conn"][arrival] += connected[where]
                    totals["messages"][arrival] += 1
                    at = int(index[where])
                    sums[at] = sums.get(at, 0) + int(message)
                totals["pooled"][step + synapse.delay] += sum(s != 0 for s in sums.values())
    return totals


def residual_graph(rng: np.random.Generator, gated: bool = True) -> FixedGraph:
    """Signed input, a pool, two branches of one depth, a side skip, a readout."""
    skip = np.eye(2 * 4 * 4, dtype=np.int16) * 4
    nodes = (neuron("a", (2, 4, 4)), neuron("b", (2, 4, 4)), Readout("out", (3,)))
    synapses: tuple[AnySynapse, ...] = (
        Conv(
            name="c1", source="input", target="a", pool=2, padding=(1, 1),
            weight=ints(rng, 2, 1, 3, 3),
        ),
        Conv(name="c2", source="a", target="b", padding=(1, 1), weight=ints(rng, 2, 2, 3, 3)),
        sparse(skip, skip != 0, name="id", source="a", target="b"),
        Dense(name="fc", source="b", target="out", pool=2, delay=2, weight=ints(rng, 3, 8)),
    )  # fmt: skip
    return FixedGraph(Input("input", (1, 8, 8)), nodes, synapses, gated=gated)


def recorded(
    graph: FixedGraph, rng: np.random.Generator, images: int, steps: int
) -> dict[str, Ints]:
    """Random spikes in every neuron's gate, in chip steps."""
    chip = graph.chip_steps(steps)
    found = {}
    for node in graph.nodes:
        if isinstance(node, Readout):
            continue
        spikes = (rng.random((images, chip, *node.shape)) < 0.4).astype(np.int64)
        if graph.gated:
            depth = graph.depths[node.name]
            spikes[:, :depth] = 0
            spikes[:, depth + steps :] = 0
        found[node.name] = spikes
    return found


def check_against_brute_force(
    graph: FixedGraph, counts: EventCounts, sent: dict[str, Ints]
) -> None:
    steps = counts.chip_steps
    for node, layer in zip(graph.nodes, counts.layers, strict=True):
        assert layer.name == node.name
        brute = brute_count(graph, sent, node.name, steps)
        np.testing.assert_array_equal(layer.effective, brute["eff"])
        np.testing.assert_array_equal(layer.connected, brute["conn"])
        np.testing.assert_array_equal(layer.messages_in, brute["messages"])
        np.testing.assert_array_equal(layer.pooled_messages, brute["pooled"])
        if node.name in sent:
            np.testing.assert_array_equal(
                layer.spikes, sent[node.name].reshape(counts.images, steps, -1).sum(axis=(0, 2))
            )
        assert np.all(layer.effective <= layer.connected)
        assert layer.connected.sum() <= layer.dense * counts.images


@pytest.mark.parametrize("gated", [True, False])
def test_counts_equal_brute_force(gated: bool) -> None:
    rng = np.random.default_rng(7)
    graph = residual_graph(rng, gated)
    images, steps = 2, 5
    messages = rng.integers(-1, 2, (images, steps, 1, 8, 8))
    recording = recorded(graph, rng, images, steps)
    counts = count_events(graph, recording, messages)
    assert counts.chip_steps == steps + 4
    check_against_brute_force(graph, counts, {"input": messages, **recording})
    np.testing.assert_array_equal(counts.input_spikes, np.abs(messages).sum(axis=(0, 2, 3, 4)))
    # a signed window may cancel, and several of its spikes are one message after the pool
    first = counts.layers[0]
    assert first.pooled_messages.sum() < first.messages_in.sum()


def test_gate_decides_updates_and_arrival() -> None:
    graph = residual_graph(np.random.default_rng(0))
    recording = {name: np.zeros((1, 7, 2, 4, 4), dtype=np.int16) for name in ("a", "b")}
    recording["a"][0, 1, 0, 0, 0] = 1  # local step 0 of a
    counts = count_events(graph, recording, np.zeros((1, 3, 1, 8, 8), dtype=np.int16))
    a, b, out = counts.layers
    np.testing.assert_array_equal(a.neuron_updates, 32 * np.array([0, 1, 1, 1, 0, 0, 0]))
    np.testing.assert_array_equal(b.neuron_updates, 32 * np.array([0, 0, 1, 1, 1, 0, 0]))
    np.testing.assert_array_equal(out.neuron_updates, 3 * np.array([0, 0, 0, 0, 1, 1, 1]))
    np.testing.assert_array_equal(a.spikes, [0, 1, 0, 0, 0, 0, 0])
    # corner of a 3x3 kernel into two channels, and the identity skip
    np.testing.assert_array_equal(b.connected, [0, 0, 4 * 2 + 1, 0, 0, 0, 0])


def test_ungated_recurrence_runs_every_step_and_stops_at_the_end() -> None:
    loop = Dense(
        name="loop", source="n", target="n", delay=3, weight=np.full((2, 2), 2, dtype=np.int16)
    )
    feed = Dense(name="fc", source="input", target="n", weight=np.full((2, 3), 2, dtype=np.int16))
    graph = FixedGraph(Input("input", (3,)), (neuron("n", (2,)),), (feed, loop), gated=False)
    always = np.ones((1, 5, 2), dtype=np.int16)
    counts = count_events(graph, {"n": always}, np.ones((1, 4, 3), dtype=np.int16))
    (layer,) = counts.layers
    np.testing.assert_array_equal(layer.neuron_updates, [2] * 5)
    # the input arrives one step late for T steps; the loop three late, until the last step
    np.testing.assert_array_equal(layer.connected, [0, 6, 6, 6 + 4, 6 + 4])
    assert layer.dense == 6 * 4 + 4 * 2


def test_all_firing_is_dense() -> None:
    rng = np.random.default_rng(3)
    graph = residual_graph(rng)
    recording = recorded(graph, rng, 2, 5)
    for name, spikes in recording.items():
        spikes[:, graph.depths[name] : graph.depths[name] + 5] = 1
    counts = count_events(graph, recording, np.ones((2, 5, 1, 8, 8), dtype=np.int16))
    for layer in counts.layers:
        assert layer.connected.sum() == layer.dense * 2
    rates = counts.per_inference()
    assert rates["synops"]["connected"] == rates["synops"]["dense"]
    assert rates["spikes"] == 5 * (32 + 32)
    assert rates["input_spikes"] == 5 * 64


def test_strided_skip_counts_only_messages_that_lead_on() -> None:
    skip = Conv(
        name="s",
        source="input",
        target="n",
        weight=np.ones((1, 1, 1, 1), dtype=np.int16),
        stride=(2, 2),
    )
    graph = FixedGraph(Input("input", (1, 4, 4)), (neuron("n", (1, 2, 2)),), (skip,))
    silent = np.zeros((1, 2, 1, 2, 2), dtype=np.int8)
    (layer,) = count_events(graph, {"n": silent}, np.ones((1, 1, 1, 4, 4), np.int8)).layers
    assert (layer.messages_in.sum(), layer.connected.sum()) == (4, 4)
    assert layer.pooled_messages.sum() == 4


def test_batches_add_up() -> None:
    rng = np.random.default_rng(11)
    graph = residual_graph(rng)
    messages = rng.integers(-1, 2, (3, 4, 1, 8, 8))
    recording = recorded(graph, rng, 3, 4)
    whole = count_events(graph, recording, messages)
    parts = [
        count_events(
            graph, {name: spikes[part] for name, spikes in recording.items()}, messages[part]
        )
        for part in (slice(0, 1), slice(1, 3))
    ]
    assert (parts[0] + parts[1]).per_inference() == whole.per_inference()
    np.testing.assert_array_equal(
        (parts[0] + parts[1]).layers[1].effective, whole.layers[1].effective
    )
    shorter = count_events(
        graph, recorded(graph, rng, 1, 3), np.zeros((1, 3, 1, 8, 8), dtype=np.int16)
    )
    with pytest.raises(CountError, match="T=4.*T=3"):
        _ = whole + shorter


def test_what_does_not_belong_together_is_refused() -> None:
    rng = np.random.default_rng(5)
    graph = residual_graph(rng)
    messages = np.zeros((1, 4, 1, 8, 8), dtype=np.int16)
    recording = recorded(graph, rng, 1, 4)
    with pytest.raises(CountError, match="'b': no recording"):
        count_events(graph, {"a": recording["a"]}, messages)
    with pytest.raises(CountError, match=r"'a': its messages have shape \(1, 7, 2, 4, 4\)"):
        count_events(graph, {**recording, "a": recording["a"][:, :7]}, messages)
    for outside in (1, 6):
        wrong = recording["b"].copy()
        wrong[0, outside, 0, 0, 0] = 1
        with pytest.raises(CountError, match=r"'b': spikes outside its gate \(chip steps 3 to 6\)"):
            count_events(graph, {**recording, "b": wrong}, messages)
    with pytest.raises(CountError, match=r"'input': .*those of this run \(1, 4, 1, 8, 8\)"):
        count_events(graph, recording, messages[..., :4])
