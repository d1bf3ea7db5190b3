"""The synop ledger: NeuroBench's count equals ours, and named rules lead to everybody else's."""

import json
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cases_chip import ZOO as ON_CHIP
from torch import nn
from torch.nn import functional

import cases
from spikeship.hw_models.events.counts import EventCounts
from spikeship.hw_models.events.recording import Recording
from spikeship.hw_models.graph import Conv, Dense, FixedGraph, Input, Neuron, Sparse
from spikeship.hw_models.simulator.simulator import simulate

pytest.importorskip("neurobench", reason="neurobench is not installed; make installs it")
import ledger  # noqa: E402
from ledgers import other_rules, rules, seeded, tables  # noqa: E402
from ledgers.events import Events, LedgerError, events  # noqa: E402
from ledgers.neurobench_rule import Operations, neurobench  # noqa: E402
from ledgers.other_rules import keras_spiking, sinabs  # noqa: E402
from ledgers.torch_layers import SynapseLayers, _linears  # noqa: E402

ROOT = Path(__file__).parents[1]
IMAGES = 2
NAMES = list(cases.FEED_FORWARD)


@cache
def run(name: str) -> tuple[FixedGraph, EventCounts, tuple[Events, ...]]:
    graph = cases.graph(name)
    found = simulate(graph, cases.messages(graph, IMAGES), record=True)
    assert found.recording is not None
    return graph, found.counts, events(graph, found.recording)


def one_layer(synapse: Conv | Dense | Sparse, messages: Any, **source: Any) -> Events:
    """A single synapse object, fed messages (images, T, *shape)."""
    values = np.asarray(messages)
    image = Input("input", values.shape[2:], **({"encoding": "spikes"} | source))
    if isinstance(synapse, Conv):
        side = synapse.pool
        shape = synapse.output_shape((values.shape[2], *(n // side for n in values.shape[3:])))
    else:
        shape = (synapse.rows if isinstance(synapse, Sparse) else len(synapse.weight),)
    graph = FixedGraph(image, (Neuron("n", shape, vth=np.array(9)),), (synapse,))
    return Events(graph, synapse, values)


@pytest.mark.parametrize("name", NAMES)
def test_neurobenchs_effective_acs_are_ours(name: str) -> None:
    graph, counts, found = run(name)
    numbers = graph.input.max_message > 1
    by_synapse, whole = neurobench(found)
    for layer in counts.layers:
        mine = [
            each
            for one, each in zip(found, by_synapse, strict=True)
            if one.synapse.target == layer.name
        ]
        reads_input = any(one.source == graph.input.name for one in graph.incoming(layer.name))
        acs, macs = sum(each.acs for each in mine), sum(each.macs for each in mine)
        ours = int(layer.effective.sum())
        assert (acs, macs) == ((0, ours) if numbers and reads_input else (ours, 0))
        assert ours > 0
    added = [sum(getattr(each, key) for each in by_synapse) for key in ("acs", "macs", "dense")]
    assert whole == Operations(*added)


@pytest.mark.parametrize("name", ["dense", "conv", "stride", "groups", "residual_strided"])
def test_neurobenchs_dense_is_ours_where_nothing_is_folded(name: str) -> None:
    _, _, found = run(name)
    by_synapse, _ = neurobench(found)
    assert [each.dense for each in by_synapse] == [one.dense for one in found]


@pytest.mark.parametrize("name", NAMES)
def test_rules_lead_to_every_tools_count(name: str) -> None:
    _, _, found = run(name)
    folded, _ = neurobench(found)
    apart, _ = neurobench(found, fold=False)
    for one, ours, other in zip(found, folded, apart, strict=True):
        assert rules.by_rules("neurobench", one) == ours.acs
        assert rules.by_rules("neurobench, pools apart", one) == other.acs
        assert rules.with_macs("neurobench", one) == ours.acs + ours.macs
        assert rules.with_macs("neurobench, pools apart", one) == other.acs + other.macs
        assert rules.by_rules("sinabs", one) == sinabs(one)
        assert rules.by_rules("keras-spiking", one) == keras_spiking(one)


def test_every_rule_matters_somewhere() -> None:
    idle = {(tool, rule.name) for tool, each in rules.RULES.items() for rule in each}
    for name in NAMES:
        for one in run(name)[2]:
            for tool in rules.RULES:
                idle -= {(tool, rule) for rule, change in rules.changes(tool, one) if change}
    assert not idle


@cache
def seeded_rows() -> tuple[ledger.Row, ...]:
    return ledger.ledger(seeded.network(), seeded.messages())


@pytest.mark.parametrize(
    ("tool", "name"), [(tool, rule.name) for tool, each in rules.RULES.items() for rule in each]
)
def test_no_rule_makes_up_for_another(
    tool: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any one rule off by one in a layer: that layer is no longer explained."""
    rows = seeded_rows()
    assert all(row.explained for row in rows)

    def off_by_one(rule: rules.Rule) -> rules.Rule:
        return replace(rule, change=lambda *given: rule.change(*given) + 1)

    changed = tuple(off_by_one(rule) if rule.name == name else rule for rule in rules.RULES[tool])
    monkeypatch.setattr(rules, "RULES", {**rules.RULES, tool: changed})
    assert not any(row.explained for row in rows)


@pytest.mark.parametrize("helper", ["_keras_connections", "_keras_unit"])
def test_what_keras_spiking_counts_is_not_what_explains_it(
    helper: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistake in the tool's own arithmetic is not in the rules too."""
    own = getattr(other_rules, helper)
    monkeypatch.setattr(other_rules, helper, lambda one: own(one) + 1)
    for one in run("conv")[2]:
        assert rules.by_rules("keras-spiking", one) != keras_spiking(one)


@pytest.mark.parametrize(
    ("options", "taps"),
    [
        # 3 x 3 outputs of 9 taps; the corners, edges and middle meet 4, 6 and 9 of them within
        ({"padding": (1, 1)}, 81 - 49),
        ({"padding": (1, 0)}, 27 - 21),
        ({"padding": (1, 1), "stride": (2, 2)}, 4 * 5),
        ({"padding": (2, 2), "dilation": (2, 2)}, 81 - 25),
        ({}, 0),
    ],
)
def test_taps_on_padding_by_hand(options: dict[str, Any], taps: int) -> None:
    weight = np.full((4, 3, 3, 3), 2)
    synapse = Conv(name="c", source="input", target="n", weight=weight, groups=2, **options)
    one = one_layer(synapse, np.ones((1, 1, 6, 3, 3)))
    assert rules.on_padding(one) == 4 * 3 * taps


@pytest.mark.parametrize("name", NAMES)
def test_folded_layers_give_the_same_sums(name: str) -> None:
    graph, _, found = run(name)
    for one in found:
        values = torch.as_tensor(one.messages.reshape(one.steps, *one.messages.shape[2:]))
        folded, apart = (
            SynapseLayers(graph, one.synapse, fold=fold)(values.double()) for fold in (True, False)
        )
        # the average pool divides the sum that the chip takes
        assert torch.equal(folded, apart * one.synapse.pool**2)


def test_a_matrix_cut_by_rows_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, found = run("pool_dense")
    whole, _ = neurobench(found)
    monkeypatch.setattr("ledgers.torch_layers.ROWS_AT_ONCE", 200)
    assert len(_linears(np.ones((5, 72), np.int16))) == 3
    cut, _ = neurobench(found)
    assert cut == whole


def test_every_tool_by_hand() -> None:
    """A 2x2 kernel without padding over 3 x 3: two spikes, one of them negative."""
    weight = np.array([[[[2, 0], [4, -2]]]])
    messages = np.zeros((1, 2, 1, 3, 3), np.int8)
    messages[0, 0, 0, 0, 0], messages[0, 1, 0, 1, 1] = 1, -1
    one = one_layer(Conv(name="c", source="input", target="n", weight=weight), messages)
    # the corner meets one tap (of weight 2), the middle four, of which one weighs 0
    assert (one.spikes, one.effective, one.connected, one.dense) == (2, 1 + 3, 1 + 4, 2 * 16)
    (ours,), whole = neurobench([one])
    assert ours == whole == Operations(acs=4, macs=0, dense=32)
    assert sinabs(one) == 1 - 4
    assert keras_spiking(one) == 16 * Fraction(2, 2 * 9) * 2
    assert dict(rules.changes("sinabs", one))["signs"] == -8
    assert dict(rules.changes("keras-spiking", one))["average fan-out"] == Fraction(32, 9) - 5


def test_a_pools_messages_by_hand() -> None:
    """Three spikes in one window and one in another, then a dense layer of two rows."""
    synapse = Dense(
        name="d", source="input", target="n", weight=np.array([[2, 2], [0, 2]]), pool=2, delay=2
    )
    messages = np.zeros((1, 1, 1, 2, 4), np.int8)
    messages[0, 0, 0, 0, :2] = messages[0, 0, 0, 1, 0] = messages[0, 0, 0, 0, 2] = 1
    one = one_layer(synapse, messages)
    assert (one.spikes, one.pooled_messages) == (4, 2)
    assert (one.effective, one.connected) == (3 * 1 + 2, 8)
    assert neurobench([one])[1].acs == 5
    # a window of fractions is read with MACs, once
    assert neurobench([one], fold=False)[1] == Operations(acs=0, macs=1 + 2, dense=4)
    assert sinabs(one) == 8
    assert keras_spiking(one) == 4 * Fraction(4, 8)
    # a window whose spikes are all there gives whole numbers, and these are ACs again
    full = one_layer(synapse, np.ones_like(messages))
    assert neurobench([full], fold=False)[1] == Operations(acs=3, macs=0, dense=4)
    assert rules.by_rules("neurobench, pools apart", full) == 3
    assert rules.by_rules("neurobench, pools apart", one) == 0


def test_direct_input_by_hand() -> None:
    weight = np.array([[2, 2], [2, 2], [0, 2]])
    synapse = Dense(name="d", source="input", target="n", weight=weight)
    numbers = {"encoding": "direct", "max_message": 100, "scale": 0.5}
    one = one_layer(synapse, [[[3, 0], [-40, 7]]], **numbers)
    assert neurobench([one])[1] == Operations(acs=0, macs=2 + 5, dense=12)
    assert sinabs(one) == (3 - 40 + 7) * 3
    assert keras_spiking(one) == 6 * Fraction(50, 4) * Fraction(1, 2) * Fraction(1, 1000) * 2
    for tool, count in (("sinabs", sinabs(one)), ("keras-spiking", keras_spiking(one))):
        assert rules.by_rules(tool, one) == count


def test_neurobench_counts_no_bias() -> None:
    from neurobench.metrics.workload import SynapticOperations
    from neurobench.models import TorchModel

    counted = []
    for bias in (True, False):
        torch.manual_seed(0)
        model = TorchModel(nn.Sequential(nn.Linear(4, 3, bias=bias)))
        model.register_hooks()
        model(torch.ones(2, 4))
        counted.append(SynapticOperations()(model, None, (torch.empty(2),)))
    assert counted[0] == counted[1] == {"Effective_MACs": 0, "Effective_ACs": 12, "Dense": 12}


def test_sinabs_connections_are_what_ones_sent_back_reach() -> None:
    """Its map, by autograd instead of a transposed convolution."""
    for name in ("stride", "dilation", "groups", "residual_strided"):
        for one in run(name)[2]:
            if not isinstance(one.synapse, Conv):
                continue
            synapse = one.synapse
            x = torch.ones(1, *one.pooled.shape[1:], requires_grad=True)
            ones = torch.ones(synapse.weight.shape)
            options = (synapse.stride, synapse.padding, synapse.dilation, synapse.groups)
            functional.conv2d(x, ones, None, *options).sum().backward()
            assert x.grad is not None
            assert sinabs(one) == int((x.grad[0].numpy() * one.pooled.sum(axis=0)).sum())


def test_an_ungated_graph_is_refused() -> None:
    name = next(name for name in ON_CHIP if not cases.graph(name).gated)
    graph = cases.graph(name)
    empty = Recording(1, cases.messages(graph, 1), {})
    with pytest.raises(LedgerError, match="ungated"):
        events(graph, empty)


def test_a_recording_of_other_steps_is_refused() -> None:
    """A message outside its source's steps is no step's of ours."""
    graph = cases.graph("conv")
    found = simulate(graph, cases.messages(graph, 1), record=True).recording
    assert found is not None
    nodes = {name: np.array(values) for name, values in found.nodes.items()}
    nodes["n"][0, 0] = 1
    with pytest.raises(ValueError, match="outside its gate"):
        events(graph, replace(found, nodes=nodes))


@pytest.fixture(scope="module")
def small() -> Iterator[dict[str, Any]]:
    yield ledger.to_json(seeded_rows())


def test_the_page_holds_the_tables_of_the_recorded_run(small: dict[str, Any]) -> None:
    page = (ROOT / "docs" / "synops.md").read_text()
    recorded = json.loads((ROOT / "docs" / "measured" / "ledger.json").read_text())
    assert recorded["seeded"] == small
    assert set(recorded) == {"seeded", "vgg5"}
    for network in recorded.values():
        assert network["explained"]
        assert tables.counts(network) in page
        assert tables.differences(network) in page
        for layer in network["layers"]:
            assert layer["tools"]["neurobench"] == layer["effective"]
    for each in rules.RULES.values():
        for rule in each:
            assert f"**{rule.name}**" in page


def test_the_command_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "ledger.json"
    assert ledger.main(["--network", "seeded", "--json", str(path)]) == 0
    assert json.loads(path.read_text())["seeded"]["explained"] is True
    assert "| `conv1` | 287.0 | 226.0 |" in capsys.readouterr().out
    assert ledger.main(["--network", "seeded", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["seeded"]["images"] == seeded.IMAGES


def test_a_difference_that_no_rule_explains_is_a_no(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "sinabs", lambda one: sinabs(one) + 1)
    assert ledger.main(["--network", "seeded", "--json", "-"]) == 1


def test_without_data_the_trained_network_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SPIKESHIP_DATA", raising=False)
    assert ledger.main(["--network", "vgg5"]) == 2
    assert "no data" in capsys.readouterr().err
    assert ledger.main([]) == 0
    assert "vgg5: left out (no data" in capsys.readouterr().out
