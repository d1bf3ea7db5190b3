"""Work of each core, message by message, against matrices written out in full."""

from collections.abc import Iterator
from dataclasses import fields, replace

import numpy as np
from graphs import Case, cases
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from spikeship.hw_models import chips
from spikeship.hw_models.cost.core_work import CoreWork, Kept, core_work
from spikeship.hw_models.events.counts import EventCounts
from spikeship.hw_models.events.traffic import Traffic, TrafficRecorder
from spikeship.hw_models.graph import AnySynapse, Conv, Dense, FixedGraph, Identity, Sparse
from spikeship.hw_models.lava.matrix import synapse_matrix
from spikeship.hw_models.placement import demand
from spikeship.hw_models.placement.placement import Core, PlacedLayer, Placement, Rules
from spikeship.hw_models.reference.interpreter import StateOverflowError
from spikeship.hw_models.simulator.simulator import simulate

LOIHI1, LOIHI2 = chips.get("loihi1"), chips.get("loihi2")
MESH = (3, 2)  # small, so that ways cross


@st.composite
def placements(draw: st.DrawFn, graph: FixedGraph) -> Placement:
    """Layers cut anywhere, cores strewn over the tiles of a few chips."""
    layers = []
    for node in graph.nodes:
        shape = node.shape if len(node.shape) == 3 else (node.shape[0], 1, 1)
        cuts = []
        for size in shape:
            inner = draw(st.sets(st.integers(1, size - 1), max_size=2)) if size > 1 else set()
            edges = [0, *sorted(inner), size]
            cuts.append(list(zip(edges, edges[1:], strict=False)))
        compartments = LOIHI1.compartments(node)
        cores = tuple(
            Core(
                layer=node.name,
                channels=c,
                rows=y,
                columns=x,
                chip=draw(st.integers(0, 1)),
                tile=(draw(st.integers(0, MESH[0] - 1)), draw(st.integers(0, MESH[1] - 1))),
                compartments=0,
                synapse_bits=0,
                state_bits=0,
                input_axons=0,
                output_axons=0,
            )
            for c in cuts[0]
            for y in cuts[1]
            for x in cuts[2]
        )
        pieces = [len(ranges) for ranges in cuts]
        layers.append(PlacedLayer(node.name, *pieces, compartments, "none", cores))
    return Placement("loihi2", Rules(), tuple(layers), 2, (), ())


def of_neurons(graph: FixedGraph, placement: Placement) -> dict[str, np.ndarray]:
    """Index of the core of every neuron, flat, by node name."""
    found, index = {}, 0
    for layer in placement.layers:
        shape = graph.node(layer.name).shape
        own = np.full(shape if len(shape) == 3 else (shape[0], 1, 1), -1)
        for core in layer.cores:
            block = tuple(slice(*ends) for ends in (core.channels, core.rows, core.columns))
            assert (own[block] == -1).all()
            own[block] = index
            index += 1
        found[layer.name] = own.ravel()
    return found


def stored(graph: FixedGraph, synapse: AnySynapse) -> np.ndarray:
    """Stored synapses from each source neuron to each target neuron, zeros among the weights."""
    if isinstance(synapse, Conv | Dense):
        ones = replace(synapse, weight=np.ones_like(synapse.weight), num_weight_bits=8)
    elif isinstance(synapse, Sparse):
        ones = replace(synapse, data=np.ones_like(synapse.data), num_weight_bits=8)
    else:
        ones = synapse
    return synapse_matrix(graph, ones).toarray()


def delays(synapse: AnySynapse, shape: tuple[int, ...], pool_of: np.ndarray) -> np.ndarray:
    """Delay of every stored synapse (target neurons, source neurons)."""
    if isinstance(synapse, Dense) and synapse.delays is not None:
        return synapse.delay + np.broadcast_to(synapse.delays, synapse.weight.shape)[:, pool_of]
    return np.full(shape, synapse.delay)


def pooled_index(shape: tuple[int, ...], pool: int) -> np.ndarray:
    if pool == 1:
        return np.arange(int(np.prod(shape)))
    c, y, x = np.indices(shape)
    return ((c * (shape[1] // pool) + y // pool) * (shape[2] // pool) + x // pool).ravel()


def way(start: Core, end: Core) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Links from tile to tile: x first."""
    (x, y), (to_x, to_y) = start.tile, end.tile
    while x != to_x:
        step = 1 if to_x > x else -1
        yield "x", (start.chip, x, y, step)
        x += step
    while y != to_y:
        step = 1 if to_y > y else -1
        yield "y", (start.chip, x, y, step)
        y += step


class ByHand:
    """The same work, one source neuron and one core at a time."""

    NAMES = (
        "synops_conv", "synops_dense", "synops_sparse", "words", "messages_out", "messages_in",
        "hops_x", "hops_y",
    )  # fmt: skip

    def __init__(self, graph: FixedGraph, placement: Placement, traffic: Traffic, t: int) -> None:
        self.graph, self.traffic = graph, traffic
        self.steps = graph.chip_steps(t)
        self.cores = [core for layer in placement.layers for core in layer.cores]
        self.own = of_neurons(graph, placement)
        self.work = {name: np.zeros((len(self.cores), self.steps)) for name in self.NAMES}
        self.links: dict[str, dict[tuple[int, ...], np.ndarray]] = {"x": {}, "y": {}}
        self.between = np.zeros(self.steps)
        for synapse in graph.synapses:
            if not demand.injected(graph, synapse, LOIHI2):
                self._add(synapse)

    def _add(self, synapse: AnySynapse) -> None:
        sent = self.traffic.messages[synapse.source]
        shape = sent.shape[1:]
        sent = sent.reshape(len(sent), -1).astype(np.float64)
        matrix = stored(self.graph, synapse)
        late = delays(synapse, matrix.shape, pooled_index(shape, synapse.pool))
        kind = {Conv: "conv", Dense: "dense", Sparse: "sparse", Identity: "sparse"}[type(synapse)]
        bits = demand.synapse_bits(synapse, LOIHI2, "shared", demand.weight_bits(synapse))
        for core in np.unique(self.own[synapse.target]):
            rows = self.own[synapse.target] == core
            for neuron in np.flatnonzero(matrix[rows].sum(axis=0)):
                reached = matrix[rows, neuron]
                self._book("messages_in", core, synapse.delay, sent[:, neuron])
                words = -(-int(reached.sum()) * bits // 64)
                self._book("words", core, synapse.delay, words * sent[:, neuron])
                for delay in np.unique(late[rows, neuron]):
                    count = reached[late[rows, neuron] == delay].sum()
                    self._book(f"synops_{kind}", core, int(delay), count * sent[:, neuron])
                if synapse.source in self.own:
                    self._send(self.own[synapse.source][neuron], core, sent[:, neuron])

    def _send(self, source: int, target: int, sent: np.ndarray) -> None:
        start, end = self.cores[source], self.cores[target]
        self.work["messages_out"][source] += sent
        if start.chip != end.chip:
            self.between += sent
            return
        for axis, link in way(start, end):
            self.work[f"hops_{axis}"][source] += sent
            self.links[axis][link] = self.links[axis].get(link, 0) + sent

    def _book(self, name: str, core: int, delay: int, values: np.ndarray) -> None:
        late = values[: max(0, self.steps - delay)]
        self.work[name][core, delay : delay + len(late)] += late


def run(case: Case, images: int | None = None) -> tuple[Traffic, EventCounts]:
    """Messages that a run sends; by default of 2^n images, so that their mean is exact."""
    if images is None:
        messages = case.messages[: 2 ** (len(case.messages).bit_length() - 1)]
    else:
        messages = np.resize(case.messages, (images, *case.messages.shape[1:]))
    try:
        found = simulate(case.graph, messages, record=True, threads=1)
    except StateOverflowError:
        assume(False)
    assert found.recording is not None
    recorder = TrafficRecorder(case.graph)
    recorder(found.recording)
    return recorder.traffic(), found.counts


def of_layer(work: CoreWork, values: np.ndarray, name: str) -> np.ndarray:
    return values[work.of_layer(name)].sum(axis=0)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_every_core_against_matrices(data: st.DataObject) -> None:
    case = data.draw(cases())
    graph, t = case.graph, case.messages.shape[1]
    assume(sum(int(np.prod(node.shape)) for node in graph.nodes) < 600)
    placement = data.draw(placements(graph))
    traffic, _ = run(case)
    work = core_work(graph, placement, LOIHI2, traffic, t)
    expected = ByHand(graph, placement, traffic, t)
    for name, values in expected.work.items():
        np.testing.assert_array_equal(getattr(work, name), values, err_msg=name)
    np.testing.assert_array_equal(work.between_chips[0], expected.between)
    for axis in "xy":
        loads = [values for values in getattr(work, f"links_{axis}") if values.any()]
        by_hand = [values for values in expected.links[axis].values() if values.any()]
        assert sorted(map(tuple, loads)) == sorted(map(tuple, by_hand))


def whole(values: np.ndarray, images: int) -> np.ndarray:
    """What was added up over the images, where each value is exactly that over their number."""
    totals = np.rint(values * images)
    np.testing.assert_array_equal(totals / images, values)
    return totals


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_cores_add_up_to_the_counts(data: st.DataObject) -> None:
    case = data.draw(cases())
    graph, t = case.graph, case.messages.shape[1]
    placement = data.draw(placements(graph))
    images = data.draw(st.sampled_from([1, 2, 3, 7]))
    traffic, counts = run(case, images)
    assert counts.images == images
    work = core_work(graph, placement, LOIHI2, traffic, t)
    injected = {s.target for s in graph.synapses if demand.injected(graph, s, LOIHI2)}
    for layer, placed in zip(counts.layers, placement.layers, strict=True):
        updates = of_layer(work, whole(work.updates, images), layer.name)
        np.testing.assert_array_equal(updates, layer.neuron_updates * placed.compartments)
        spikes = of_layer(work, whole(work.spikes, images), layer.name)
        np.testing.assert_array_equal(spikes, layer.spikes)
        if layer.name not in injected:
            kinds = (work.synops_conv, work.synops_dense, work.synops_sparse)
            synops = [of_layer(work, whole(values, images), layer.name) for values in kinds]
            np.testing.assert_array_equal(sum(synops), layer.connected)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_what_is_kept_of_other_placements_changes_nothing(data: st.DataObject) -> None:
    """Layers are mixed from two placements, so that some are cut as before and some are not."""
    case = data.draw(cases())
    graph, t = case.graph, case.messages.shape[1]
    traffic, _ = run(case)
    pair = [data.draw(placements(graph)) for _ in range(2)]
    kept = Kept()
    for _ in range(4):
        chosen = [data.draw(st.sampled_from(both)) for both in zip(*(p.layers for p in pair))]  # noqa: B905
        chips = 1 + max(core.chip for layer in chosen for core in layer.cores)
        mixed = replace(pair[0], layers=tuple(chosen), chips=chips)
        alone = core_work(graph, mixed, LOIHI2, traffic, t)
        beside = core_work(graph, mixed, LOIHI2, traffic, t, kept=kept)
        for field in fields(CoreWork):
            if field.name != "cores":
                expected = getattr(alone, field.name)
                np.testing.assert_array_equal(getattr(beside, field.name), expected, field.name)
