"""place: a graph onto the cores of a chip."""

from collections.abc import Mapping

import numpy as np

from spikeship.hw_models.chips.spec import ChipSpec
from spikeship.hw_models.events.counts import CountError
from spikeship.hw_models.events.traffic import Traffic
from spikeship.hw_models.graph import FixedGraph, GraphError
from spikeship.hw_models.placement.demand import injected
from spikeship.hw_models.placement.layer import Layer, Splits, core_limits, layers
from spikeship.hw_models.placement.placement import Placement, PlacementError, Rules
from spikeship.hw_models.placement.splits import Floats, cells
from spikeship.hw_models.placer.assumptions import EVEN_RATE, assumptions
from spikeship.hw_models.placer.changes import Problem
from spikeship.hw_models.placer.fastest import Timer
from spikeship.hw_models.placer.lay_out import deciding, lay_out
from spikeship.hw_models.placer.misfits import misfits
from spikeship.hw_models.placer.settle import known, settle
from spikeship.hw_models.placer.spread import stages


def place(
    graph: FixedGraph,
    chip: ChipSpec,
    *,
    rules: Rules = Rules(),  # noqa: B008  (frozen)
    traffic: Traffic | None = None,
    max_chips: int | None = None,
    cores: int | None = None,
    layer_cores: Mapping[str, int] | None = None,
) -> Placement:
    """Place every layer of a graph on cores of a chip.

    Each layer takes the fewest cores that keep all limits of a core, cut so that its busiest
    core is the fastest and then so that the fewest messages are sent. The search is greedy: it may
    miss a placement of fewer cores. Spare cores of the chips that are taken anyway then go one by
    one to the layer that decides most of the time. Of the stages on this way the fastest is taken:
    with traffic by the time of all its steps, links and barriers included; without, by the busiest
    core of a mean step and the barrier. The same arguments always give the same placement.

    Args:
        graph: the network.
        chip: the chip; it may be another than the one the network was quantized for.
        rules: how axons and kernels are counted.
        traffic: how often each neuron sends; without, all send equally often.
        max_chips: chips there are; None for as many as it takes.
        cores: most cores to use in all, instead of whole chips.
        layer_cores: cores of each of some layers, as a known mapping has them; the others then
            take the fewest.

    Returns:
        The placement; what does not fit is in its ``misfits``.

    Raises:
        PlacementError: ``max_chips`` or ``cores`` is no whole number from 1 on, the traffic is of
            another graph, a layer cannot lie on so many cores, or is none of the graph's.
    """
    for name, value in (("max_chips", max_chips), ("cores", cores)):
        if value is not None and (type(value) is not int or value < 1):
            raise PlacementError(f"{name}: {value!r} is no number of them; give 1 or more")
    _check_traffic(graph, traffic)
    problem = Problem(graph, rules, _rates(graph, traffic))
    made = layers(graph, chip, rules, problem.rates)
    given = known(made, layer_cores or {})
    splits = settle(made, core_limits(chip), given)
    found = misfits(problem, chip, made, splits, max_chips=max_chips, cores=cores, given=given)
    most = _most(splits, chip, max_chips, cores)
    final: Splits = splits
    if layer_cores is None and not found:
        final = _spread(problem, chip, made, splits, most, traffic)
    why = {layer.name: deciding(layer, splits, chip) for layer in made}
    why |= {name: "time" for name, split in final.items() if split != splits[name]}
    why |= dict.fromkeys(given, "given")
    used = sum(split.cores for split in final.values())
    lines = assumptions(graph, chip, rules, traffic is not None, used)
    if cores is not None and layer_cores is None and used < most:
        lines += (f"{used:,} of {most:,} cores are used: more cores made it no faster",)
    return Placement(
        chip=chip.name,
        rules=rules,
        layers=lay_out(made, final, chip, why),
        chips=-(-used // chip.cores_per_chip.value),
        misfits=found,
        assumptions=lines,
        injected=tuple(s.name for s in graph.synapses if injected(graph, s, chip)),
    )


def _most(splits: Splits, chip: ChipSpec, max_chips: int | None, cores: int | None) -> int:
    """Cores to use: as many as were asked for, or those of the chips that are taken anyway."""
    used, per_chip = sum(split.cores for split in splits.values()), chip.cores_per_chip.value
    most = -(-used // per_chip) * per_chip if cores is None else cores
    return most if max_chips is None else min(most, max_chips * per_chip)


def _spread(
    problem: Problem,
    chip: ChipSpec,
    made: tuple[Layer, ...],
    splits: Splits,
    most: int,
    traffic: Traffic | None,
) -> Splits:
    """The fastest splits onto ``most`` cores or fewer, of those tried."""
    if traffic is None:
        return min(stages(made, chip, splits, most), key=lambda stage: stage.seconds).splits
    timer = Timer(problem.graph, chip, problem.rules, made, traffic)
    profile = timer.profile(splits)
    return timer.fastest(tuple(stages(made, chip, splits, most, profile)))


def _check_traffic(graph: FixedGraph, traffic: Traffic | None) -> None:
    if traffic is None:
        return
    sums, _ = traffic.sums
    try:
        traffic.check(graph, graph.steps_of(len(sums.get(graph.input.name, ()))))
    except (CountError, GraphError) as error:
        raise PlacementError(str(error)) from error


def _rates(graph: FixedGraph, traffic: Traffic | None) -> dict[str, Floats]:
    """Messages that every neuron sends in a mean step, with one value where all send alike."""
    rates = {}
    for synapse in graph.synapses:
        name = synapse.source
        if traffic is None:
            rates[name] = np.full((1, 1, 1), EVEN_RATE)
        elif name not in rates:
            rates[name] = _mean(traffic, name, graph.node(name).shape)
    return rates


def _mean(traffic: Traffic, name: str, shape: tuple[int, ...]) -> Floats:
    sent = traffic.messages[name]
    if not any(sent.strides[1:]):  # the same for all, said once
        return np.full((1, 1, 1), float(sent.reshape(len(sent), -1)[:, 0].mean()))
    return np.asarray(sent.mean(axis=0, dtype=np.float64).reshape(cells(shape)))
