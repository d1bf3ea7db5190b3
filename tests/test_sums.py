"""Every way to weighted sums gives the reference's integers, and refuses what it cannot prove."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from synapse_cases import BACKENDS, Array, Case, convs, dense_graph, denses, make_case, weights

from spikeship.hw_models.graph import (
    Conv,
    Dense,
    FixedGraph,
    Identity,
    Input,
    Readout,
    Shape,
    SigmaDelta,
    Sparse,
)
from spikeship.hw_models.graph.layout import to_last
from spikeship.hw_models.reference import sums as reference_sums
from spikeship.hw_models.reference.sums import StateOverflowError
from spikeship.hw_models.simulator.sums import int8_product
from spikeship.hw_models.simulator.sums.sum_choice import Backend, Choice, Work
from spikeship.hw_models.simulator.sums.sums import Sums


@pytest.mark.parametrize("backend", BACKENDS)
@given(case=st.one_of(convs(), denses()))
def test_every_backend_gives_the_references_sums(backend: Backend | None, case: Case) -> None:
    try:
        case.check(backend)
    except ValueError as error:
        assert "are not proved exact by" in str(error)
        assert backend is not None and not case.proved(backend)


@given(case=st.one_of(convs(), denses()))
def test_a_bound_admits_what_the_graph_alone_does_not(case: Case) -> None:
    largest = int(np.abs(case.messages.astype(np.int64)).max(initial=0))
    for backend in BACKENDS:
        sums = Sums(case.graph, case.synapse, backend)
        most = min(sums.message, largest * case.synapse.pool**2)
        if backend is None or sums.backends[backend].proves(most):
            case.check(backend, bound=largest)


@pytest.mark.parametrize(
    ("backend", "inputs", "largest", "fits"),
    [
        ("float32", 257, 255, True),  # 257 * 255 * 255 < 2**24 < 259 * 255 * 255
        ("float32", 259, 255, False),
        ("int8", 257, 127, True),
        ("int8", 519, 127, False),
        ("float64", 519, 127, True),
        ("events", 519, 127, True),
    ],
)
def test_proofs_end_where_they_must(
    backend: Backend, inputs: int, largest: int, fits: bool
) -> None:
    if backend == "int8" and int8_product.message_limit() == 0:
        pytest.skip("torch has no 8-bit products here")
    graph = dense_graph(
        np.full((1, inputs), 255),
        Input("input", (inputs,), "spikes", max_message=largest, signed=False),
    )
    sums = Sums(graph, graph.synapses[0], backend)
    messages = np.full((2, inputs), largest, np.uint8)
    if not fits:
        with pytest.raises(ValueError, match=f"'fc'.*not proved exact by '{backend}'"):
            sums(messages)
    else:
        assert sums(messages).tolist() == [[255 * largest * inputs]] * 2


@pytest.mark.parametrize(("inputs", "fits"), [(256, True), (260, False)])
@pytest.mark.parametrize("signed", [False, True])
def test_signed_messages_add_up_over_all_weights(inputs: int, fits: bool, signed: bool) -> None:
    """255 * 255 * 258 < 2**24 < 255 * 255 * 259; unsigned messages reach half of the weights."""
    weight = np.array([[255, -255] * (inputs // 2)])
    source = Input("input", (inputs,), "spikes", max_message=255, signed=signed)
    graph = dense_graph(weight, source, num_weight_bits=9)
    sums = Sums(graph, graph.synapses[0], "float32")
    messages = np.array([255, -255 if signed else 0] * (inputs // 2), np.int16)[None]
    if signed and not fits:
        with pytest.raises(ValueError, match="not proved exact by 'float32'"):
            sums(messages)
    else:
        assert sums(messages).tolist() == [[255 * 255 * inputs // (1 if signed else 2)]]


def test_an_exponent_may_take_sums_beyond_float32() -> None:
    for exponent, dtype in ((6, np.float32), (7, np.int32)):
        graph = dense_graph(
            np.array([[255, 1]]),
            Input("input", (2,), "spikes", max_message=1000, signed=False),
            weight_exp=exponent,
        )
        for backend in ("float32", "events"):
            sums = Sums(graph, graph.synapses[0], backend)  # type: ignore[arg-type]
            assert sums.dtype == dtype
            assert sums(np.array([[1000, 1]], np.int32)).tolist() == [[255_001 << exponent]]


def test_a_bound_holds_before_the_pool() -> None:
    graph = dense_graph(
        np.array([[3]]),
        Input("input", (1, 2, 2), "spikes", max_message=127, signed=False),
        pool=2,
        delay=2,
    )
    found = Sums(graph, graph.synapses[0])(np.full((1, 2, 2, 1), 100, np.uint8), bound=100)
    assert found.tolist() == [[1200]]


def test_large_sums_come_as_int32() -> None:
    graph = dense_graph(
        np.full((1, 250), 255),
        Input("input", (250,), "spikes", max_message=30000, signed=False),
    )
    sums = Sums(graph, graph.synapses[0])
    assert sums.dtype == np.int32
    found = sums(np.array([[27777] + [0] * 249, [1] * 250, [30000] * 250], np.int32))
    assert found.dtype == np.int32
    assert found.tolist() == [[27777 * 255], [250 * 255], [30000 * 250 * 255]]


def _graded(weight: list[int], pool: int = 1) -> Sums:
    """Messages of a sigma-delta neuron, which only a run bounds."""
    into = Identity(name="in", source="input", target="s", delay=0)
    out = Dense(
        name="fc",
        source="s",
        target="out",
        weight=np.array([weight]),
        pool=pool,
        delay=2,
        num_weight_bits=9 if min(weight) < 0 else 8,
    )
    graph = FixedGraph(
        Input("input", (1, 2, 2), "spikes", max_message=30000),
        (SigmaDelta("s", (1, 2, 2), vth=np.array(0)), Readout("out", (1,))),
        (into, out),
        gated=False,
    )
    return Sums(graph, out)


def test_graded_messages_are_measured() -> None:
    sums = _graded([3, -5, 7, 9])
    assert sums.dtype == np.int32
    large = np.array([2**23 - 1, 1 - 2**23, 5, 0]).reshape(1, 2, 2, 1).astype(np.int32)
    assert sums(large).tolist() == [[(3 + 5) * (2**23 - 1) + 7 * 5]]
    assert sums(np.sign(large)).tolist() == [[3 + 5 + 7]]


def test_sums_beyond_32_bits_are_an_error() -> None:
    sums = _graded([255, -255, 255, 255])
    messages = np.full((1, 2, 2, 1), 2**23 - 1, np.int32)
    with pytest.raises(StateOverflowError, match="'fc': its sum reaches 4278189570"):
        sums(messages)


def test_pooled_messages_beyond_24_bits_are_an_error() -> None:
    sums = _graded([3], pool=2)
    messages = np.array([2**22, 2**22 - 1, -5, 5]).reshape(1, 2, 2, 1).astype(np.int32)
    assert sums(messages).tolist() == [[3 * (2**23 - 1)]]
    messages.flat[1] += 1
    with pytest.raises(StateOverflowError, match="'fc': its pooled messages reach 8388608"):
        sums(messages)


@pytest.mark.parametrize("source", [(2, 3, 4), (24,)])
@pytest.mark.parametrize("target", [(2, 3, 4), (24,), (3, 4, 2)])
def test_identity_keeps_neurons_in_their_places(source: Shape, target: Shape) -> None:
    rng = np.random.default_rng(0)
    synapse = Identity(name="id", source="input", target="out")
    case = make_case(synapse, source, target, (1, True, np.int8), rng)
    assert case.check(None).dtype == np.float32
    with pytest.raises(ValueError, match="'id'.* no sums by 'events'"):
        case.check("events")


def test_wrong_messages_are_named() -> None:
    graph = dense_graph(np.array([[1, 2, 3]]))
    sums = Sums(graph, graph.synapses[0])
    for messages in (np.zeros((2, 4), np.uint8), np.zeros((2, 3)), np.zeros((3,), np.uint8)):
        with pytest.raises(ValueError, match="'fc': takes integers of shape"):
            sums(messages)
    assert sums(np.zeros((0, 3), np.uint8)).shape == (0, 1)
    delayed = replace(graph.synapses[0], delays=np.array([[0, 1, 2]]))  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="'fc': its weights have delays"):
        Sums(graph, delayed)


def test_messages_are_left_as_they_were() -> None:
    rng = np.random.default_rng(3)
    graph = dense_graph(weights(rng, (-256, 254, 2), (8, 16)))
    messages = rng.integers(0, 2, (5, 16)).astype(np.uint8)
    messages.setflags(write=False)
    before = messages.copy()
    for backend in BACKENDS:
        if backend == "int8" and int8_product.message_limit() == 0:
            continue
        Sums(graph, graph.synapses[0], backend)(messages)
        assert np.array_equal(messages, before)


def test_threads_share_sums() -> None:
    rng = np.random.default_rng(4)
    synapse = Conv(
        name="conv",
        source="input",
        target="out",
        weight=weights(rng, (-256, 254, 2), (24, 6, 3, 3)),
        padding=(1, 1),
    )
    case = make_case(synapse, (6, 8, 8), (24, 8, 8), (1, True, np.int8), rng)
    sums = Sums(case.graph, synapse)
    batches = [
        (rng.random((1 + k % 7, 6, 8, 8)) < 0.02 * (k % 20)).astype(np.int8) for k in range(200)
    ]

    def run(batch: Array) -> Array:
        torch.set_num_threads(1)
        return sums(to_last(batch, case.shape))

    before = torch.get_num_threads()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(run, batches))
    torch.set_num_threads(before)
    for batch, result in zip(batches, found, strict=True):
        case.messages = batch
        assert np.array_equal(result, case.expected())


def test_exactness_does_not_hang_on_torchs_settings() -> None:
    rng = np.random.default_rng(5)
    graph = dense_graph(
        weights(rng, (-255, 255, 1), (64, 60)),
        Input("input", (60,), "spikes", max_message=1023, signed=False),
        num_weight_bits=9,
    )
    # of 10 bits, more than bf16 holds
    messages = rng.integers(0, 1024, (40, 60)).astype(np.int16)
    expected = messages.astype(np.int64) @ graph.synapses[0].weight.T.astype(np.int64)  # type: ignore[union-attr]
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        assert np.array_equal(Sums(graph, graph.synapses[0], "float32")(messages), expected)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


def test_choice_follows_measurements() -> None:
    choice, work = Choice(), Work(inputs=1000, outputs=1000, products=10**6, weights=10**6)
    ways: tuple[Backend, ...] = ("int8", "float32", "events")
    guesses = {name: work.seconds(name, rows=50, events=2000) for name in ways}
    assert choice.fastest(guesses) == "int8"
    choice.learn("int8", guesses["int8"], 100 * guesses["int8"])
    assert choice.fastest(guesses) == "int8", "one slow call is an accident"
    for _ in range(3):
        choice.learn("int8", guesses["int8"], 100 * guesses["int8"])
    assert choice.fastest(guesses) == "events", "four are not"
    choice.learn("int8", guesses["int8"], guesses["int8"])
    assert choice.fastest(guesses) == "int8"


def test_only_events_grow_with_activity() -> None:
    work = Work(inputs=1000, outputs=1000, products=10**6, weights=10**6)
    for name, grows in (("int8", False), ("float32", False), ("float64", False), ("events", True)):
        quiet, busy = (work.seconds(name, 50, events) for events in (50, 5000))  # type: ignore[arg-type]
        assert (busy > 2 * quiet) == grows


def test_a_backend_is_asked_for_by_its_cost() -> None:
    """At next to no activity events win over any product; the sums do not change."""
    rng = np.random.default_rng(8)
    graph = dense_graph(weights(rng, (-256, 254, 2), (1024, 4096)))
    sums = Sums(graph, graph.synapses[0])
    messages = np.zeros((64, 4096), np.uint8)
    messages[::7, 5] = 1
    expected = messages.astype(np.int64) @ graph.synapses[0].weight.T.astype(np.int64)  # type: ignore[union-attr]
    for _ in range(12):
        assert np.array_equal(sums(messages), expected)
    assert sums.tried == {"events"}


@settings(max_examples=25)
@given(denses())
def test_sparse_equals_dense(case: Case) -> None:
    dense = case.synapse
    assert isinstance(dense, Dense)
    rows, columns = np.nonzero(dense.weight)
    counts = np.bincount(rows, minlength=len(dense.weight))
    case.synapse = Sparse(
        name="sparse",
        source="input",
        target="out",
        data=dense.weight[rows, columns],
        indices=columns,
        indptr=np.concatenate([[0], np.cumsum(counts)]),
        columns=dense.weight.shape[1],
        pool=dense.pool,
        weight_exp=dense.weight_exp,
        num_weight_bits=dense.num_weight_bits,
        delay=2,
    )
    case.graph = replace(case.graph, synapses=(case.synapse,))
    case.check(None)
    case.check("events")


def test_one_channel_with_a_stride_to_one_column_reads_no_foreign_memory() -> None:
    """oneDNN does where the strides say channels last; what it reads depends on earlier use."""
    rng = np.random.default_rng(0)
    for height in (4, 6):
        conv = Conv(
            name="c",
            source="input",
            target="n",
            weight=2 * rng.integers(-5, 6, (2, 1, 2, 2)),
            stride=(1, 3),
        )
        target = conv.output_shape((1, height, 3))
        assert target[2] == 1
        source = Input("input", (1, height, 3), "spikes", signed=False)
        graph = FixedGraph(source, (Readout("n", target),), (conv,))
        sums = Sums(graph, conv, "float32")
        for _ in range(40):
            messages = rng.integers(0, 2, (5, 1, height, 3))
            expected = to_last(reference_sums.apply(conv, messages, target), target)
            spoiled = [torch.full((4**k,), float("nan")) for k in range(2, 8) for _ in range(4)]
            del spoiled
            given = to_last(messages, (1, height, 3)).astype(np.uint8)
            np.testing.assert_array_equal(sums(given), expected.reshape(5, -1))


def test_a_bound_of_single_messages_is_nine_times_as_much_after_a_pool_by_3() -> None:
    """9 x 30 = 270 has no byte."""
    synapse = Dense(
        name="fc", source="input", target="out", weight=np.array([[1]]), pool=3, delay=2
    )
    source = Input("input", (1, 3, 3), "spikes", max_message=200, signed=False)
    graph = FixedGraph(source, (Readout("out", (1,)),), (synapse,))
    found = Sums(graph, synapse)(np.full((1, 3, 3, 1), 30, np.uint8), bound=30)
    assert found.tolist() == [[270]]
