"""The compiled scans against the reference's nodes, at the edges of every width."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from spikeship.hw_models import fixed
from spikeship.hw_models.graph import Delta, Input, Neuron, Node, Readout, SigmaDelta
from spikeship.hw_models.reference import nodes as reference_nodes
from spikeship.hw_models.reference.interpreter import StateOverflowError
from spikeship.hw_models.simulator.cpu.populations import population
from spikeship.hw_models.simulator.cpu.scan import BLOCK

NEURONS, IMAGES, STEPS = 3, 2, 6
EDGES = (0, 1, -1, fixed.INPUT_LIMIT, -fixed.INPUT_LIMIT, 40_000, -40_000, 2048, -2049)


def ints(low: int, high: int, *edges: int) -> st.SearchStrategy[int]:
    """Integers of a range, its ends and edges often."""
    return st.one_of(st.sampled_from((low, high, *edges)), st.integers(low, high))


def per_neuron(values: st.SearchStrategy[int]) -> st.SearchStrategy[NDArray[np.int64]]:
    return st.lists(values, min_size=NEURONS, max_size=NEURONS).map(np.array)


def sums(values: st.SearchStrategy[int]) -> st.SearchStrategy[NDArray[np.int64]]:
    count = IMAGES * STEPS * NEURONS
    flat = st.lists(values, min_size=count, max_size=count)
    return flat.map(lambda v: np.array(v).reshape(IMAGES, STEPS, NEURONS))


neurons = st.builds(
    Neuron,
    st.just("n"),
    st.just((NEURONS,)),
    vth=per_neuron(ints(0, fixed.VTH_MAX, 1, 30_000)),
    du=ints(0, 4095, 4094),
    dv=st.one_of(st.just(np.zeros(NEURONS, int)), per_neuron(ints(0, 4095, 1))),
    bias_mant=per_neuron(ints(fixed.BIAS_MANT_MIN, fixed.BIAS_MANT_MAX, 0)),
    bias_exp=per_neuron(ints(0, 7)),
    v0=per_neuron(ints(-fixed.STATE_RAIL, fixed.STATE_RAIL, 0)),
    reset=st.sampled_from(("subtract", "zero")),
    refractory=st.sampled_from((0, 0, 1, 3)),
)
graded: dict[str, Any] = {
    "vth": per_neuron(ints(0, 300, 1)),
    "spike_exp": st.integers(0, 6),
    "state_exp": st.integers(0, 6),
    "cum_error": st.booleans(),
}
graded_nodes = st.one_of(
    st.builds(Delta, st.just("n"), st.just((NEURONS,)), **graded),
    st.builds(
        SigmaDelta,
        st.just("n"),
        st.just((NEURONS,)),
        bias=per_neuron(ints(-200, 200, 0)),
        activation=st.sampled_from(("relu", "unit")),
        **graded,
    ),
)


def expected(node: Node, activation: NDArray[np.int64], strict: bool) -> tuple[Any, ...]:
    """Messages and potentials of the reference's node, what it met, and an overflow's error."""
    each = reference_nodes.start(node, IMAGES, strict=strict)
    sent, potentials = [], []
    for step in range(STEPS):
        try:
            sent.append(each.step(activation[:, step], step).copy())
        except StateOverflowError as error:
            return sent, potentials, (*each.rails, each.wraps), str(error)
        potentials.append(each.potential.copy())
    return sent, potentials, (*each.rails, each.wraps), None


def check(
    node: Node, activation: NDArray[np.int64], dtype: Any, cut: int, strict: bool = True
) -> None:
    sent, potentials, met, error = expected(node, activation, strict)
    ours = population(node, strict=strict)
    state = ours.start(IMAGES)
    out = np.zeros((IMAGES, STEPS, NEURONS), ours.sends)
    kept = np.zeros((IMAGES, STEPS, NEURONS), np.int32)
    found = np.zeros(3, int)
    try:
        for part in (slice(0, cut), slice(cut, STEPS)):
            given = activation[:, part].astype(dtype)
            found += ours.advance(
                state, given, out[:, part], chip_step=part.start, potentials=kept[:, part]
            )
    except StateOverflowError as raised:
        assert error is not None, raised
        step = f"chip step {len(sent) + 1}"
        assert step in str(raised) and step in error
        return
    assert error is None, error
    np.testing.assert_array_equal(out, np.stack(sent, 1))
    np.testing.assert_array_equal(kept, np.stack(potentials, 1))
    assert tuple(found) == met


@settings(max_examples=120, deadline=None)
@given(neurons, sums(ints(-(2**18), 2**18, *EDGES)), st.booleans(), st.integers(1, 5))
def test_neurons(node: Neuron, activation: Any, floats: bool, cut: int) -> None:
    check(node, activation, np.float32 if floats else np.int32, cut)


@settings(max_examples=120, deadline=None)
@given(neurons, sums(ints(-fixed.INPUT_LIMIT, fixed.INPUT_LIMIT, *EDGES)), st.integers(1, 5))
def test_neurons_within_24_bits(node: Neuron, activation: Any, cut: int) -> None:
    check(node, activation // 8, np.int32, cut)


@settings(max_examples=60, deadline=None)
@given(neurons, sums(ints(-fixed.STATE_RAIL, fixed.STATE_RAIL, 2**22)), st.integers(1, 5))
def test_neurons_far_beyond_24_bits(node: Neuron, activation: Any, cut: int) -> None:
    check(node, activation, np.int32, cut)


@settings(max_examples=120, deadline=None)
@given(
    neurons,
    sums(ints(-(2**25), 2**25, 2**17, -(2**17), 2**17 + 1, -(2**17) - 1, 2**18, 400_000)),
    st.integers(1, 5),
)
def test_neurons_whose_currents_wrap(node: Neuron, activation: Any, cut: int) -> None:
    check(node, activation, np.int32, cut, strict=False)


@settings(max_examples=120, deadline=None)
@given(graded_nodes, sums(ints(-(2**14), 2**14, 0, 0, 63, -64)), st.integers(1, 5))
def test_sigma_delta_neurons(node: Any, activation: Any, cut: int) -> None:
    check(node, activation, np.int32, cut)


@settings(max_examples=40, deadline=None)
@given(
    st.builds(
        Readout, st.just("n"), st.just((NEURONS,)), bias=per_neuron(ints(-(2**30), 2**30, 0))
    ),
    sums(ints(-fixed.STATE_RAIL, fixed.STATE_RAIL, 0)),
    st.integers(1, 5),
)
def test_readouts(node: Readout, activation: Any, cut: int) -> None:
    check(node, activation, np.int32, cut)


def test_populations_wider_than_a_block() -> None:
    rng = np.random.default_rng(0)
    size = 2 * BLOCK + 17
    node = Neuron("n", (size,), vth=rng.integers(0, 200, size), dv=rng.integers(0, 400, size))
    activation = rng.integers(-100, 150, (1, STEPS, size))
    each = reference_nodes.start(node, 1)
    sent = np.stack([each.step(activation[:, step], step) for step in range(STEPS)], 1)
    ours = population(node)
    out = np.zeros(sent.shape, np.uint8)
    ours.advance(ours.start(1), activation.astype(np.float32), out, chip_step=0)
    np.testing.assert_array_equal(out, sent)
    assert 0 < out[..., 2 * BLOCK :].mean() < 1


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(TypeError, match="'input': the engine knows no Input"):
        population(Input("input", (3,)))  # type: ignore[arg-type]
