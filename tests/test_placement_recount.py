"""Every number of a placement's file, every limit and every change, checked by other code."""

import json
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from applied import apply
from graphs import graphs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recount import AXES, by_expanding, by_fields, cores_of, of_ones, three
from recount_limits import Recount, broken_limits
from speed.untrained import untrained
from torch import nn

from spikeship.hw_models import chips
from spikeship.hw_models.chips.spec import ChipSpec
from spikeship.hw_models.graph import (
    AnySynapse,
    Conv,
    Dense,
    FixedGraph,
    Input,
    Neuron,
    Node,
    Readout,
)
from spikeship.hw_models.lava.matrix import synapse_matrix
from spikeship.hw_models.placement import demand, placement_file
from spikeship.hw_models.placement.placement import Placement, Rules
from spikeship.hw_models.placer.place import place
from spikeship.training.ann.zoo import build
from spikeship.training.frontends.trace import trace

RULES = [Rules(a, k) for a in ("population", "single") for k in ("shared", "unshared")]
# architecture, rules, chips: the others have thousands of cores, which take minutes to recount
LARGE = [
    (arch, rules, chip)
    for arch, some, names in (
        ("vgg5", RULES, ("loihi1", "loihi2")),
        ("resnet20", RULES, ("loihi1", "loihi2")),
        ("vgg16", RULES[:3], ("loihi1", "loihi2")),
        ("resnet34", RULES[:1], ("loihi1", "loihi2")),
        ("resnet34", RULES[2:3], ("loihi1",)),
    )
    for rules in some
    for chip in names
]
RESNETS = {"resnet20": (32, 10), "resnet34": (224, 1000)}


def small_chips(draw: st.DrawFn) -> ChipSpec:
    """A chip whose cores are so small that random graphs have to be split."""
    chip = draw(st.sampled_from(list(chips.CHIPS.values())))
    least = {
        "compartments_per_core": (2, 40),
        "synaptic_memory": (200, 8000),
        "input_axons": (8, 200),
        "output_axons": (8, 200),
        "cores_per_chip": (4, 32),
    }
    limits = {
        name: replace(getattr(chip, name), value=draw(st.integers(*ends)))
        for name, ends in least.items()
        if draw(st.booleans())
    }
    for name, ends in {"weight_bits": (4, 9), "max_delay": (0, 8)}.items():
        if draw(st.sampled_from((False, False, True))):
            limits[name] = replace(getattr(chip, name), value=draw(st.integers(*ends)))
    if chip.core_memory is not None and draw(st.booleans()):
        limits["core_memory"] = replace(chip.core_memory, value=draw(st.integers(300, 9000)))
    return replace(chip, **limits)


@dataclass(frozen=True, eq=False)
class Placed:
    """A graph as it was placed."""

    graph: FixedGraph
    chip: ChipSpec
    rules: Rules
    bounds: dict[str, int | None]
    found: Placement


@st.composite
def placed(draw: st.DrawFn) -> Placed:
    graph, chip = draw(graphs()), small_chips(draw)
    bounds = {
        "cores": draw(st.sampled_from((None, None, 3, 12, 40))),
        "max_chips": draw(st.sampled_from((None, None, 1, 2))),
    }
    rules = draw(st.sampled_from(RULES))
    return Placed(graph, chip, rules, bounds, place(graph, chip, rules=rules, **bounds))


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(placed())
def test_random_graphs_as_recounted_synapse_by_synapse(case: Placed) -> None:
    check(case.graph, through_json(case.found), case.chip, by_expanding, **case.bounds)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(placed())
def test_every_change_that_is_named_fits(case: Placed) -> None:
    before = {(misfit.layer, misfit.limit) for misfit in case.found.misfits}
    for misfit in case.found.misfits:
        mended = apply(misfit, case.graph, case.chip, case.rules, case.bounds)
        if mended is None:
            continue  # none was found
        graph, chip, rules, bounds = mended
        after = place(graph, chip, rules=rules, **bounds).misfits
        left = {(each.layer, each.limit) for each in after if each.limit != "cores"}
        at = (misfit.layer, misfit.limit)
        assert at not in {(each.layer, each.limit) for each in after}, misfit.change
        assert left <= before - {at}, misfit.change


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(graphs(), st.booleans(), st.integers(0, 99))
def test_operations_a_neuron_as_its_row_of_the_matrix_says(
    graph: FixedGraph, even: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    for synapse in graph.synapses:
        source = three(graph.node(synapse.source).shape)
        target = three(graph.node(synapse.target).shape)
        rates = rng.integers(0, 9, (1, 1, 1) if even else source).astype(np.float64)
        done = demand.operations(synapse, rates, source, target)
        matrix = synapse_matrix(graph, of_ones(synapse))
        expected = matrix @ np.broadcast_to(rates, source).ravel()
        assert np.array_equal(np.broadcast_to(done, target).ravel(), expected)


@pytest.mark.parametrize(
    ("arch", "rules", "name"),
    LARGE,
    ids=[f"{arch}-{rules.axons}-{rules.kernels}-{name}" for arch, rules, name in LARGE],
)
def test_large_networks_as_recounted_by_receptive_fields(
    arch: str, rules: Rules, name: str
) -> None:
    chip = chips.get(name)
    graph = large(arch)
    data = through_json(place(graph, chip, rules=rules))
    covered(graph, data)
    check(graph, data, chip, by_fields, some=True)
    if rules == Rules():
        assert data["misfits"] == []


@cache
def large(arch: str) -> FixedGraph:
    if arch not in RESNETS:
        return chain(arch)
    side, classes = RESNETS[arch]
    images = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    return untrained(arch, images, num_steps=4, classes=classes)


def chain(arch: str) -> FixedGraph:
    """A VGG for CIFAR-10 with Poisson input and weights of 0: placement reads shapes alone."""
    name, shape, pool = "input", (3, 32, 32), 1
    nodes: list[Node] = []
    synapses: list[AnySynapse] = []
    for layer in trace(build(arch, shape, 10), shape).layers:
        module, fields = layer.module, {"name": layer.name, "source": name, "pool": pool}
        if isinstance(module, nn.AvgPool2d):
            pool = 2
        if not isinstance(module, nn.Conv2d | nn.Linear):
            continue
        name, weight = f"{layer.name}.n", np.zeros(module.weight.shape, np.int16)
        if isinstance(module, nn.Conv2d):
            conv = Conv(**fields, target=name, weight=weight, padding=(1, 1))
            shape, synapses = (len(weight), shape[1] // pool, shape[2] // pool), [*synapses, conv]
        else:
            delay = 1 if pool == 1 else 2
            synapses += [Dense(**fields, target=name, weight=weight, delay=delay)]
            shape = (len(weight),)
        nodes.append(Neuron(name, shape, np.array(1)))
        pool = 1
    nodes[-1] = Readout(name, shape)
    return FixedGraph(Input("input", (3, 32, 32)), tuple(nodes), tuple(synapses))


def through_json(found: Placement) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(json.dumps(placement_file.to_json(found)))
    assert placement_file.from_json(data) == found
    return data


def covered(graph: FixedGraph, data: dict[str, Any]) -> None:
    """Ranges follow each other along every axis, and cores are all their combinations."""
    for layer, node in zip(data["layers"], graph.nodes, strict=True):
        cuts = [sorted({tuple(core[axis]) for core in layer["cores"]}) for axis in AXES]
        for cut, size in zip(cuts, (*node.shape, 1, 1), strict=False):
            assert [low for low, _ in cut] == [0, *(high for _, high in cut)][:-1]
            assert cut[-1][1] == size
        assert len(layer["cores"]) == np.prod([len(cut) for cut in cuts])
        assert len({tuple(map(tuple, (c[a] for a in AXES))) for c in layer["cores"]}) == len(
            layer["cores"]
        )


def check(
    graph: FixedGraph,
    data: dict[str, Any],
    chip: ChipSpec,
    recount: Recount,
    some: bool = False,
    **bounds: int | None,
) -> None:
    """Every core's numbers, every misfit with its need and what there is, every place."""
    cores = cores_of(data)
    for name, values in vars(recount(graph, data, chip)).items():
        assert [core[name] for core in cores] == values.tolist(), name
    said = {(row["layer"], row["limit"]): (row["need"], row["have"]) for row in data["misfits"]}
    assert said == broken_limits(graph, data, chip, recount, some=some, **bounds)
    assert len(said) == len(data["misfits"])
    located(cores, data, chip)


def located(cores: list[dict[str, Any]], data: dict[str, Any], chip: ChipSpec) -> None:
    """No chip and no tile holds more cores than it has."""
    seats = [(core["chip"], *core["tile"]) for core in cores]
    assert {seat[0] for seat in seats} == set(range(data["chips"]))
    for number in range(data["chips"]):
        assert sum(seat[0] == number for seat in seats) <= chip.cores_per_chip.value
    _, taken = np.unique(np.array(seats), axis=0, return_counts=True)
    assert taken.max() <= chip.cores_per_tile.value
    rows = -(-chip.cores_per_chip.value // (chip.cores_per_tile.value * chip.mesh_width.value))
    assert all(x < chip.mesh_width.value and y < rows for _, x, y in seats)
