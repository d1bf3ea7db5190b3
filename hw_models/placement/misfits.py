"""Misfits: the limits that a placed graph breaks, and the smallest change with which it fits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from spikeship.hw_models import chips
from spikeship.hw_models.chips.spec import ChipSpec
from spikeship.hw_models.graph import MAX_GRADED, AnySynapse, FixedGraph, GradedNode
from spikeship.hw_models.placement import demand
from spikeship.hw_models.placement.layer import Layer, Splits, core_limits, layers
from spikeship.hw_models.placement.options import impossible
from spikeship.hw_models.placement.placement import LimitName, Misfit, Rules
from spikeship.hw_models.placement.settle import settle
from spikeship.hw_models.placement.splits import Floats
from spikeship.hw_models.placement.wires import Wire

_MEMORY: tuple[LimitName, ...] = ("synaptic memory", "state memory")
Broken = dict[tuple[str, LimitName], tuple[int, int]]  # layer and limit: need, have


@dataclass(frozen=True, eq=False)
class Problem:
    """What is placed: graph, rules, and messages a step of every sending node's neurons."""

    graph: FixedGraph
    rules: Rules
    rates: Mapping[str, Floats]


def misfits(
    problem: Problem,
    chip: ChipSpec,
    made: Sequence[Layer],
    splits: Splits,
    *,
    max_chips: int | None,
    cores: int | None,
) -> tuple[Misfit, ...]:
    """Return what does not fit, in the order of the nodes, each with the smallest change."""
    broken = _broken(problem.graph, chip, made, splits)
    changes = _Changes(problem, chip, made, splits, broken)
    assumed = {name: limit.kind == "assumed" for name, limit in core_limits(chip).items()}
    assumed["delay"] = chip.max_delay.kind == "assumed"
    found = [
        Misfit(layer, name, need, have, changes.smallest(layer, name), assumed.get(name, False))
        for (layer, name), (need, have) in broken.items()
    ]
    used = sum(split.cores for split in splits.values())
    per_chip = chip.cores_per_chip.value
    most = min(
        (n for n in (cores, None if max_chips is None else max_chips * per_chip) if n is not None),
        default=used,
    )
    if used > most:
        allow = f"{used:,} cores" if most == cores else f"{-(-used // per_chip):,} chips"
        found.append(Misfit("", "cores", used, most, f"allow {allow}"))
    return tuple(found)


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
    return found


def _unsplittable(
    graph: FixedGraph, chip: ChipSpec, synapse: AnySynapse
) -> list[tuple[tuple[str, LimitName], int, int]]:
    """Limits that a synapse breaks however the layers are split: node and limit, need, have."""
    found: list[tuple[tuple[str, LimitName], int, int]] = []
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


class _Changes:
    """Finds the smallest change with which a layer keeps a limit, by trying them in order."""

    def __init__(
        self,
        problem: Problem,
        chip: ChipSpec,
        made: Sequence[Layer],
        splits: Splits,
        broken: Broken,
    ) -> None:
        self._problem, self._chip, self._splits, self._broken = problem, chip, splits, broken
        self._layers = {layer.name: layer for layer in made}
        self._tried: dict[tuple[str, Rules], Broken] = {}

    def smallest(self, layer: str, name: LimitName) -> str:
        """The change, as a request: another rule, fewer bits, another chip, fewer inputs."""
        if name == "weight bits":
            return f"quantize it with at most {self._chip.weight_bits.value} weight bits"
        if name == "delay":
            return (
                f"shorten the delay to {self._chip.max_delay.value} steps beyond the next, or "
                "relay the messages through neurons"
            )
        return (
            self._other_rules(layer, name)
            or self._fewer_bits(layer, name)
            or self._other_chip(layer, name)
            or self._fewer_inputs(layer, name)
        )

    def _helps(self, layer: str, name: LimitName, chip: ChipSpec, rules: Rules) -> bool:
        """Whether the layer then keeps the limit, and all that it keeps now."""
        key = (chip.name, rules)
        if key not in self._tried:
            problem = self._problem
            made = layers(problem.graph, chip, rules, problem.rates)
            splits = settle(made, core_limits(chip))
            self._tried[key] = _broken(problem.graph, chip, made, splits)
        then = {limit for at, limit in self._tried[key] if at == layer}
        now = {limit for at, limit in self._broken if at == layer}
        return name not in then and then <= now

    def _other_rules(self, layer: str, name: LimitName) -> str | None:
        rules = self._problem.rules
        others = []
        if rules.axons == "single" and name in ("input axons", "output axons"):
            others.append((replace(rules, axons="population"), "share axons: population"))
        if rules.kernels == "unshared" and name in _MEMORY:
            others.append((replace(rules, kernels="shared"), "store kernels once a core: shared"))
        for other, words in others:
            if self._helps(layer, name, self._chip, other):
                return words
        return None

    def _fewer_bits(self, layer: str, name: LimitName) -> str | None:
        if name not in _MEMORY:
            return None
        problem, chip = self._problem, self._chip
        width = max(demand.weight_bits(one.synapse) for one in self._layers[layer].incoming)
        for bits in range(width - 1, 0, -1):
            narrow = layers(problem.graph, chip, problem.rules, problem.rates, {layer: bits})
            one = next(each for each in narrow if each.name == layer)
            if name not in impossible(one, core_limits(chip), self._splits):
                return f"quantize it with at most {bits} weight bit{'s' * (bits > 1)}"
        return None

    def _other_chip(self, layer: str, name: LimitName) -> str | None:
        for other in chips.CHIPS.values():
            if other.name != self._chip.name and self._helps(
                layer, name, other, self._problem.rules
            ):
                return f"use {other.name}"
        return None

    def _fewer_inputs(self, layer: str, name: LimitName) -> str:
        need, have = self._broken[layer, name]
        if name == "output axons":
            return "feed fewer cores from it: fewer channels or neurons in the layers behind it"
        most = sum(_fan_in(one.axons) for one in self._layers[layer].incoming)
        return f"use at most {most * have // need:,} of the {most:,} inputs a neuron has"


def _fan_in(wire: Wire) -> int:
    """Most source neurons that one target neuron reads."""
    stored = demand.stored_each(wire.synapse, "unshared", wire.source, wire.target)
    return int(np.max(stored)) * wire.synapse.pool**2
