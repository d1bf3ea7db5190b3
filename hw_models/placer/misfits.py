"""Misfits: the limits that a placed graph breaks, each with the smallest change that fits."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from spikeship.hw_models.chips.spec import ChipSpec
from spikeship.hw_models.graph import MAX_GRADED, AnySynapse, FixedGraph, GradedNode
from spikeship.hw_models.placement import demand
from spikeship.hw_models.placement.layer import Layer, Splits, core_limits, layers
from spikeship.hw_models.placement.placement import Misfit, PlacementError
from spikeship.hw_models.placer.advice import Advice
from spikeship.hw_models.placer.changes import At, Broken, Problem
from spikeship.hw_models.placer.options import impossible
from spikeship.hw_models.placer.settle import settle


def misfits(
    problem: Problem,
    chip: ChipSpec,
    made: Sequence[Layer],
    splits: Splits,
    *,
    max_chips: int | None,
    cores: int | None,
    given: Mapping[str, int] | None = None,
) -> tuple[Misfit, ...]:
    """Return what does not fit, in the order of the nodes, each with the smallest change.

    Args:
        problem: what is placed.
        chip: the chip.
        made: its layers.
        splits: theirs.
        max_chips: chips there are, where they are bounded.
        cores: cores there are, where they are bounded.
        given: cores of layers, where the user gave a number.
    """
    problem = replace(problem, given=given or {})
    broken = _broken(problem.graph, chip, made, splits)
    advice = Advice(problem, chip, splits, broken, _again)
    assumed = {name: limit.kind == "assumed" for name, limit in core_limits(chip).items()}
    assumed["delay"] = chip.max_delay.kind == "assumed"
    found = [
        Misfit(layer, name, need, have, advice.smallest((layer, name)), assumed.get(name, False))
        for (layer, name), (need, have) in broken.items()
    ]
    used = sum(split.cores for split in splits.values())
    return (*found, *_too_many(used, chip, max_chips, cores))


def _too_many(
    used: int, chip: ChipSpec, max_chips: int | None, cores: int | None
) -> tuple[Misfit, ...]:
    """The network's cores, where there are fewer; the change names every bound that has to go."""
    per_chip = chip.cores_per_chip.value
    bounds = []
    if cores is not None:
        bounds.append((cores, f"{used:,} cores"))
    if max_chips is not None:
        chips = -(-used // per_chip)
        bounds.append((max_chips * per_chip, f"{chips:,} chip{'s' * (chips > 1)}"))
    short = [(most, words) for most, words in bounds if used > most]
    if not short:
        return ()
    allow = " and ".join(words for _, words in short)
    return (Misfit("", "cores", used, min(most for most, _ in bounds), f"allow {allow}"),)


def _again(problem: Problem, chip: ChipSpec) -> Broken:
    """Place a changed problem from the start; the limits that it then breaks."""
    made = layers(problem.graph, chip, problem.rules, problem.rates)
    try:
        splits = settle(made, core_limits(chip), problem.given)
    except PlacementError:  # a layer cannot lie on the cores it is given
        return {("", "cores"): (1, 0)}
    return _broken(problem.graph, chip, made, splits)


def _broken(graph: FixedGraph, chip: ChipSpec, made: Sequence[Layer], splits: Splits) -> Broken:
    """Every limit that is broken, by layer: what it needs at least, and what there is."""
    found: Broken = {}
    limits = core_limits(chip)
    for layer in made:
        loads = layer.loads(splits[layer.name], splits)
        over = {name for name, limit in limits.items() if loads[name].max() > limit.value}
        at_least = impossible(layer, limits, splits) if over else {}
        for name, limit in limits.items():
            if name in over:
                need = at_least.get(name, int(loads[name].max()))
                found[layer.name, name] = (need, limit.value)
        for synapse in graph.incoming(layer.name):
            for key, need, have in _unsplittable(graph, chip, synapse):
                found[key] = (max(need, found.get(key, (0, 0))[0]), have)
    if graph.windows and not chip.windows:
        found[made[0].name, "firing windows"] = (len(graph.nodes), 0)
    order = {layer.name: index for index, layer in enumerate(made)}
    return dict(sorted(found.items(), key=lambda item: order[item[0][0]]))


def _unsplittable(
    graph: FixedGraph, chip: ChipSpec, synapse: AnySynapse
) -> list[tuple[At, int, int]]:
    """Limits that a synapse breaks however the layers are split: node and limit, need, have."""
    found: list[tuple[At, int, int]] = []
    if demand.injected(graph, synapse, chip):
        return found
    extra = synapse.longest - 1  # the chip's delay 0 arrives in the next step
    if extra > chip.max_delay.value:
        found.append(((synapse.target, "delay"), extra, chip.max_delay.value))
    bits = demand.weight_bits(synapse)
    if bits > chip.weight_bits.value:
        found.append(((synapse.target, "weight bits"), bits, chip.weight_bits.value))
    if not chip.graded and isinstance(graph.node(synapse.source), GradedNode):
        need = MAX_GRADED.bit_length() + 1  # its sign
        found.append(((synapse.source, "graded messages"), need, chip.message_bits.value))
    return found
