"""The simulator on a torch device: on the CPU everywhere, on CUDA where there is one."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import graphs
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings

import cases
from spikeship.hw_models.events.counts import count_events
from spikeship.hw_models.events.recording import first_difference
from spikeship.hw_models.graph import Conv, Delta, Dense, FixedGraph, Input, Neuron, Readout
from spikeship.hw_models.reference import interpreter as reference
from spikeship.hw_models.reference.interpreter import StateOverflowError
from spikeship.hw_models.simulator.engine import RunOptions
from spikeship.hw_models.simulator.simulation import Simulation
from spikeship.hw_models.simulator.torch_device import products as torch_products
from spikeship.hw_models.simulator.torch_device.engine import DeviceEngine, run
from spikeship.hw_models.simulator.torch_device.products import (
    FloatProduct,
    Int8Product,
    exact_products,
    product,
)

CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=CUDA)]
CPU = torch.device("cpu")
MEMORY = 2**31


def require_equal(graph: FixedGraph, messages: Any, found: Simulation) -> None:
    """Every number of a recorded run is the reference's."""
    expected = reference.run(graph, messages)
    assert found.recording is not None
    assert first_difference(graph, expected, found.recording) is None
    assert found.rails == expected.rails
    for name, potentials in expected.potentials.items():
        np.testing.assert_array_equal(found.recording.potentials[name], potentials, name)
    for name, currents in expected.currents.items():
        np.testing.assert_array_equal(found.recording.currents[name], currents, name)
    scores = expected.scores(graph).reshape(len(messages), -1)
    np.testing.assert_array_equal(found.scores, scores)
    np.testing.assert_array_equal(found.scores_by_step[:, -1], scores)
    counted = count_events(graph, expected.nodes, messages)
    assert found.counts.images == counted.images
    np.testing.assert_array_equal(found.counts.input_spikes, counted.input_spikes)
    for ours, theirs in zip(found.counts.layers, counted.layers, strict=True):
        for key, values in vars(theirs).items():
            np.testing.assert_array_equal(getattr(ours, key), values, f"{theirs.name} {key}")


def require_same_error(graph: FixedGraph, messages: Any, pattern: str) -> None:
    """The overflow that the reference raises, in its words."""
    with pytest.raises(StateOverflowError, match=pattern) as expected:
        reference.run(graph, messages)
    with pytest.raises(StateOverflowError) as found:
        run(graph, messages, "cpu")
    assert str(found.value) == str(expected.value)


def ungated(graph: FixedGraph) -> FixedGraph:
    return replace(graph, gated=False)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("memory_budget", [1, MEMORY])
@pytest.mark.parametrize("change", [replace, ungated])
@pytest.mark.parametrize("name", cases.ZOO)
def test_equals_reference(
    name: str, change: Callable[[FixedGraph], FixedGraph], memory_budget: int, device: str
) -> None:
    """With the smallest budget images, and rows of the sums, come one at a time."""
    graph = change(cases.graph(name))
    messages = cases.messages(graph, 4)
    found = run(graph, messages, device, potentials=True, memory_budget=memory_budget)
    require_equal(graph, messages, found)


@pytest.mark.parametrize("kind", ["float32", "float64"])
@pytest.mark.parametrize("name", cases.ZOO)
def test_floating_point_products_equal_reference(
    name: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a device has no 8-bit product, and where sums pass 2**24."""
    monkeypatch.setattr(Int8Product, "made", lambda *_: None)
    if kind == "float64":
        monkeypatch.setattr(torch_products, "EXACT_FLOAT32", 0)
    graph = cases.graph(name)
    messages = cases.messages(graph, 4)
    require_equal(graph, messages, run(graph, messages, "cpu", potentials=True))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(graphs.cases())
def test_random_graphs_equal_reference(case: graphs.Case) -> None:
    try:
        reference.run(case.graph, case.messages)
    except StateOverflowError as error:
        with pytest.raises(StateOverflowError) as found:
            run(case.graph, case.messages, "cpu")
        assert str(found.value) == str(error)
    else:
        require_equal(
            case.graph, case.messages, run(case.graph, case.messages, "cpu", potentials=True)
        )


RANGES = {"mixed": (-256, 254, 2), "positive": (0, 255, 1), "negative": (-255, 0, 1)}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("span", RANGES)
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (16, 16), (17, 33), (40, 600)])
def test_products_of_all_kinds_are_exact(
    span: str, shape: tuple[int, int], device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    low, high, step = RANGES[span]
    weight = rng.choice(np.arange(low, high + 1, step), (1, *shape)).astype(np.int16)
    weight[0, 0, :] = low if span == "negative" else high
    where = torch.device(device)
    for largest in (1, 127, 128, 2**15 - 1):
        bound = int(np.abs(weight.astype(np.int64)).sum(axis=2).max()) * largest
        for rows in (1, 31, 32, 100):
            values = rng.integers(-largest, largest + 1, (rows, shape[1]))
            values[0] = largest
            found = product(weight, bound, largest, where)
            if device == "cpu":  # a float32 product would be exact here too, but slower on CUDA
                narrow = largest <= 127 and 2 * bound < 2**31
                assert isinstance(found, Int8Product if narrow else FloatProduct)
            given = torch.tensor(values[None], device=where).to(found.type)
            np.testing.assert_array_equal(found(given)[0].cpu(), values @ weight[0].T)


def test_the_widest_sum_of_float32_is_exact_and_the_next_is_float64() -> None:
    """2**24 - 1 is odd: a format one bit narrower would lose it."""
    inputs = 2**24 // 255 + 1
    weight = np.full((1, 1, inputs), 255, np.int16)
    weight[0, 0, -1] = (2**24 - 1) - 255 * (inputs - 1)
    messages = np.ones((1, 2, inputs))
    narrow = FloatProduct(weight, 2**24 - 1, CPU)
    assert narrow.type == torch.float32
    assert narrow(torch.tensor(messages, dtype=narrow.type)).tolist() == [[[2**24 - 1]] * 2]
    weight[0, 0, -1] += 2
    wide = FloatProduct(weight, 2**24 + 1, CPU)
    assert wide.type == torch.float64
    assert wide(torch.tensor(messages, dtype=wide.type)).tolist() == [[[2**24 + 1]] * 2]


def test_sums_beyond_float64_are_refused() -> None:
    with pytest.raises(ValueError, match="beyond the 53 bits"):
        FloatProduct(np.ones((1, 1, 1), np.int16), 2**53, CPU)


def test_a_device_whose_8_bit_product_is_wrong_or_missing_gets_floats(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weight = np.full((1, 4, 8), 3, np.int16)
    assert isinstance(product(weight, 24, 1, CPU), Int8Product)
    real = torch._int_mm
    monkeypatch.setattr(torch, "_int_mm", lambda a, b: real(a, b) + 1)
    assert isinstance(product(weight, 24, 1, CPU), FloatProduct)

    def missing(*_: Any) -> None:
        raise RuntimeError("not implemented for this device")

    monkeypatch.setattr(torch, "_int_mm", missing)
    assert isinstance(product(weight, 24, 1, CPU), FloatProduct)


@pytest.mark.parametrize("device", DEVICES)
def test_low_precision_and_autocast_of_the_caller_change_nothing(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Int8Product, "made", lambda *_: None)
    graph = cases.graph("lower_rail")
    messages = cases.messages(graph, 4)
    switch = torch.backends.cuda.matmul
    before = switch.fp32_precision
    switch.fp32_precision = "tf32"
    try:
        with torch.autocast(device, dtype=torch.bfloat16):
            found = run(graph, messages, device, potentials=True)
        assert switch.fp32_precision == "tf32"
    finally:
        switch.fp32_precision = before
    require_equal(graph, messages, found)


def test_products_run_with_tf32_off_and_leave_the_switches_as_they_were() -> None:
    switches = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]
    before = [switch.fp32_precision for switch in switches]
    with pytest.raises(KeyError), exact_products(CPU):
        assert [switch.fp32_precision for switch in switches] == ["ieee", "ieee"]
        raise KeyError
    assert [switch.fp32_precision for switch in switches] == before


def test_no_convolution_of_a_library_is_called() -> None:
    graph = cases.graph("residual_strided")
    with torch.profiler.profile() as seen:
        run(graph, cases.messages(graph, 2), "cpu")
    names = {event.key for event in seen.key_averages()}
    assert any("mm" in name for name in names)
    assert not [name for name in names if "conv" in name]


def _chain(first: Dense, node: Neuron, gated: bool = True) -> FixedGraph:
    out = Dense(name="fc", source="n", target="out", weight=np.array([[2]]))
    readout = Readout("out", (1,))
    return FixedGraph(
        Input("input", (1,), "spikes", max_message=2000), (node, readout), (first, out), gated=gated
    )


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("cause", ["bias", "start", "sums", "current"])
def test_rails_are_met_whatever_drives_there(cause: str, sign: int) -> None:
    """The bound that spares most steps their clipping must know each of these."""
    options: dict[str, Any] = {
        "bias": {"bias_mant": np.array(sign * 4095), "bias_exp": np.array(7)},
        "start": {"v0": np.array(sign * (2**23 - 1)), "bias_mant": np.array(sign)},
        "sums": {},
        "current": {"du": 0},
    }[cause]
    first = Dense(name="fc0", source="input", target="n", weight=np.array([[50]]))
    graph = _chain(first, Neuron("n", (1,), vth=np.array(2**17 - 1), reset="zero", **options))
    messages = np.zeros((1, 400, 1), np.int64)
    messages[0, :, 0] = {"sums": sign * 2000, "current": sign}.get(cause, 0)
    expected = reference.run(graph, messages)
    assert expected.rails["n"][0 if sign < 0 else 1] > 0
    require_equal(graph, messages, run(graph, messages, "cpu", potentials=True))


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("du", [4095, 1000])
def test_overflow_is_the_references(gated: bool, du: int) -> None:
    """2000 * 250 is beyond 2**17 - 1; it comes in the third step, after an even larger one does."""
    first = Dense(name="fc0", source="input", target="n", weight=np.array([[250]]))
    graph = _chain(first, Neuron("n", (1,), vth=np.array(9), du=du), gated)
    messages = np.array([0, 3, 900, 0, 2000]).reshape(1, 5, 1)
    require_same_error(graph, messages, "node 'n': its input reaches")


def test_a_sum_that_leaves_24_bits_is_named_after_its_synapse() -> None:
    source = Input("input", (2,), "spikes", max_message=2**15 - 1)
    first = Dense(name="fc0", source="input", target="n", weight=np.array([[255, 255]]))
    graph = FixedGraph(source, (Neuron("n", (1,), vth=np.array(9)),), (first,), gated=False)
    messages = np.array([[0, 0], [1, 1], [2**15 - 1] * 2, [9, 9]]).reshape(1, 4, 2)
    require_same_error(graph, messages, "synapse 'fc0': its sum reaches .* in chip step 4")


def test_pooled_messages_that_leave_24_bits_are_named_after_their_synapse() -> None:
    source = Input("input", (1, 2, 2), "spikes", max_message=300)
    wide = Conv(name="a", source="input", target="d", weight=np.full((1, 1, 1, 1), 200))
    pooled = Conv(name="b", source="d", target="out", weight=np.ones((1, 1, 1, 1), int), pool=2)
    nodes = (Delta("d", (1, 2, 2), vth=np.array(1), spike_exp=7), Readout("out", (1, 1, 1)))
    graph = FixedGraph(source, nodes, (wide, pooled), gated=False)
    messages = np.zeros((1, 3, 1, 2, 2), np.int64)
    messages[0, 1] = 300
    require_same_error(graph, messages, "synapse 'b': its pooled messages reach")


def test_a_branch_deeper_than_the_output_ends_with_the_chips_clock() -> None:
    """Its last steps are never run: neither its spikes nor its rails count."""
    feed = Dense(name="a", source="input", target="side", weight=np.array([[254]]), delay=4)
    fc = Dense(name="fc", source="input", target="out", weight=np.array([[2]]))
    side = Neuron("side", (1,), vth=np.array(2**17 - 1))
    for steps in (2, 9):
        graph = FixedGraph(
            Input("input", (1,), "spikes", max_message=500),
            (side, Readout("out", (1,))),
            (feed, fc),
        )
        messages = np.full((2, steps, 1), 500)
        require_equal(graph, messages, run(graph, messages, "cpu", potentials=True))


def test_pooled_messages_that_lead_nowhere_are_not_counted() -> None:
    """A 1x1 kernel of stride 2 leaves three of four pooled places out."""
    weight = np.full((1, 1, 1, 1), 6)
    skips = Conv(name="c", source="input", target="n", weight=weight, stride=(2, 2), pool=2)
    source = Input("input", (1, 8, 8), "spikes", signed=False)
    graph = FixedGraph(source, (Neuron("n", (1, 2, 2), vth=np.array(9)),), (skips,))
    messages = cases.messages(graph, 3)
    found = run(graph, messages, "cpu", potentials=True)
    require_equal(graph, messages, found)
    assert 0 < found.counts.layers[0].pooled_messages.sum() <= 3 * cases.STEPS * 4


def test_batches_of_other_sizes_through_one_engine() -> None:
    graph = cases.graph("residual_pooled")
    engine = DeviceEngine(graph, "cpu")
    messages = cases.messages(graph, 7)
    together = engine.run(messages)
    apart = [engine.run(messages[i : i + 3]) for i in range(0, 7, 3)]
    np.testing.assert_array_equal(
        together.scores_by_step, np.concatenate([part.scores_by_step for part in apart])
    )
    counts = apart[0].counts + apart[1].counts + apart[2].counts
    assert counts.per_inference() == together.counts.per_inference()
    assert together.recording is None
    assert together.steps.tolist() == [cases.STEPS] * 7


def test_memory_follows_the_budget() -> None:
    graph = cases.graph("wide")
    engine = DeviceEngine(graph, "cpu")
    sizes: list[int] = []
    whole = engine._chunk

    def counted(images: Any, *rest: Any) -> Simulation:
        sizes.append(len(images))
        return whole(images, *rest)

    engine._chunk = counted  # type: ignore[method-assign, assignment]
    per_image = engine.network.image_bytes(cases.STEPS, potentials=False)
    assert (
        len(list(engine.runs([cases.messages(graph, 7)], RunOptions(memory_budget=4 * per_image))))
        == 3
    )
    assert sizes == [3, 3, 1]  # a quarter of the budget is for intermediate results
    assert engine.network.image_bytes(cases.STEPS, potentials=True) > per_image


@CUDA
def test_memory_of_the_device_keeps_to_the_budget() -> None:
    graph = cases.graph("wide")
    engine = DeviceEngine(graph, "cuda")
    budget = 2**25
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    engine.run(cases.messages(graph, 400), memory_budget=budget)
    assert torch.cuda.max_memory_allocated() - before < 1.25 * budget


@pytest.mark.parametrize(
    ("device", "reason"),
    [
        ("gpu", "torch knows no such device"),
        ("cuda:x", "torch knows no such device"),
        ("meta", "runs on 'cpu' and 'cuda'"),
        ("cuda", "finds no CUDA device"),
        ("cuda:1", "finds no CUDA device"),
    ],
)
def test_a_device_that_is_not_there_is_refused_in_one_line(
    device: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    graph = cases.graph("dense")
    with pytest.raises(ValueError, match=reason) as error:
        run(graph, cases.messages(graph, 1), device)
    assert str(error.value).startswith(f"device {device!r}: ")
    assert "use" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("count", "use"), [(1, "use 'cuda:0'$"), (3, "'cuda:0' to 'cuda:2'$")])
def test_a_cuda_device_of_too_high_a_number_is_refused(
    count: int, use: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    graph = cases.graph("dense")
    with pytest.raises(ValueError, match=use):
        run(graph, cases.messages(graph, 1), "cuda:3")


def test_a_device_too_small_for_the_budget_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = cases.graph("dense")
    engine = DeviceEngine(graph, "cpu")

    def full(*_: Any) -> Simulation:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(engine, "_chunk", full)
    with pytest.raises(ValueError, match="give a memory_budget below 5000 bytes"):
        engine.run(cases.messages(graph, 2), memory_budget=5000)


def test_unusable_messages_are_refused() -> None:
    graph = cases.graph("dense")
    messages = cases.messages(graph, 2)
    with pytest.raises(ValueError, match="no images"):
        run(graph, messages[:0], "cpu")
    with pytest.raises(ValueError, match="expected"):
        run(graph, messages[:, :, :4], "cpu")
    with pytest.raises(ValueError, match="expected"):
        run(graph, np.int64(3), "cpu")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="exceeds"):
        run(graph, messages * 9, "cpu")
