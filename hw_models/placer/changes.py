"""Changes: what may be done about a limit that a layer breaks, the smallest first.

Each is a single change and gives the problem as it then is, for another placement to say whether
it fits. Narrowed
synapses keep the shapes of their ends, so such a graph is good for placing only.
"""

from collections.abc import Callable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from spikeship.hw_models import chips
from spikeship.hw_models.chips.spec import ChipSpec
from spikeship.hw_models.graph import AnySynapse, Conv, Dense, FixedGraph, Input, Sparse
from spikeship.hw_models.placement import demand
from spikeship.hw_models.placement.layer import Splits, core_limits, layers
from spikeship.hw_models.placement.placement import MEMORY, LimitName, Rules
from spikeship.hw_models.placement.splits import Floats, Ints, cells
from spikeship.hw_models.placer.options import impossible

At = tuple[str, LimitName]  # a layer and a limit


Broken = dict[At, tuple[int, int]]  # what a layer needs of a limit, and what there is


@dataclass(frozen=True, eq=False)
class Problem:
    """What is placed.

    Attributes:
        graph: the network.
        rules: how axons and kernels are counted.
        rates: messages a step of every sending node's neurons.
        given: cores of layers that take so many, no fewer and no more.
    """

    graph: FixedGraph
    rules: Rules
    rates: Mapping[str, Floats]
    given: Mapping[str, int] = field(default_factory=dict)


_T = TypeVar("_T")
Narrowing = tuple[int, Callable[[int], tuple[AnySynapse, str]]]


@dataclass(frozen=True, eq=False)
class Case:
    """A problem, maybe after a change.

    Attributes:
        problem: with the change.
        chip: the chip.
        subject: the layer that the words call "it".
        words: the change as a request; empty where there is none.
    """

    problem: Problem
    chip: ChipSpec
    subject: str
    words: str = ""

    def freed(self) -> "Case":
        """The same where no layer's cores are given."""
        problem = replace(self.problem, given={})
        return replace(self, problem=problem, words="leave layer_cores out")

    def named(self, layer: str) -> str:
        """What the words call a layer."""
        return "it" if layer == self.subject else repr(layer)

    def ruled(self, words: str, **rules: Any) -> "Case":
        """With other rules."""
        changed: Rules = replace(self.problem.rules, **rules)
        return replace(self, problem=replace(self.problem, rules=changed), words=words)

    def on(self, chip: ChipSpec) -> "Case":
        """On another chip."""
        return replace(self, chip=chip, words=f"use {chip.name}")

    def rewired(self, words: str, new: Mapping[AnySynapse, AnySynapse]) -> "Case":
        """With other synapses, where every source neuron sends as often as the mean one."""
        graph = _replaced(
            self.problem.graph, synapses=tuple(new.get(s, s) for s in self.problem.graph.synapses)
        )
        rates = dict(self.problem.rates)
        for synapse in new:
            rates[synapse.source] = np.full((1, 1, 1), float(rates[synapse.source].mean()))
        return replace(self, problem=replace(self.problem, graph=graph, rates=rates), words=words)

    def held(self, layer: str) -> list[AnySynapse]:
        """Synapses into a layer that the chip holds."""
        graph = self.problem.graph
        into = graph.incoming(layer)
        return [s for s in into if not demand.injected(graph, s, self.chip)]

    def could_keep(self, at: At, splits: Splits) -> bool:
        """Whether a layer could keep a limit beside neighbours that are split like this."""
        layer, limit = at
        problem = self.problem
        if limit in MEMORY:
            return self._bits(layer, limit) <= core_limits(self.chip)[limit].value
        graph = _replaced(problem.graph, synapses=problem.graph.incoming(layer))
        made = layers(graph, self.chip, problem.rules, problem.rates)
        one = next(each for each in made if each.name == layer)
        return limit not in impossible(one, core_limits(self.chip), splits)

    def _bits(self, layer: str, limit: LimitName) -> int:
        """Bits of memory that a core of one neuron takes at least."""
        graph, kernels = self.problem.graph, self.problem.rules.kernels
        node = graph.node(layer)
        assert not isinstance(node, Input)  # the caller's case
        bits: Ints = np.zeros((1, 1, 1), np.int64)
        for synapse in self.held(layer):
            ends = cells(graph.node(synapse.source).shape), cells(node.shape)
            each = demand.stored_each(synapse, kernels, *ends)
            stored = demand.stored_once(synapse, kernels) + each
            width = demand.synapse_bits(synapse, self.chip, kernels, demand.weight_bits(synapse))
            bits = bits + demand.copies(graph, synapse, self.chip) * width * stored
        return int(bits.max()) + (demand.state_bits(node) if limit == "state memory" else 0)


def changes(case: Case, at: At, splits: Splits) -> Iterator[Case]:
    """Give what may be done about a limit that a layer breaks, the smallest first.

    Args:
        case: where it is broken.
        at: layer and limit.
        splits: of all layers, there.
    """
    if case.problem.given:
        yield case.freed()
    for way in _WAYS.get(at[1], ()):
        yield from way(case, at, splits)


def _shared_axons(case: Case, at: At, splits: Splits) -> Iterator[Case]:
    if case.problem.rules.axons == "single":
        yield case.ruled("share axons: population", axons="population")


def _shared_kernels(case: Case, at: At, splits: Splits) -> Iterator[Case]:
    convolved = any(isinstance(synapse, Conv) for synapse in case.held(at[0]))
    if case.problem.rules.kernels == "unshared" and convolved:
        yield case.ruled("store kernels once a core: shared", kernels="shared")


def _other_chip(case: Case, at: At, splits: Splits) -> Iterator[Case]:
    yield from (case.on(chip) for chip in chips.CHIPS.values() if chip.name != case.chip.name)


def _fewer_bits(case: Case, at: At, splits: Splits) -> Iterator[Case]:
    """The most weight bits with which the layer could keep the limit."""
    width = max((demand.weight_bits(synapse) for synapse in case.held(at[0])), default=0)
    for bits in range(width - 1, 0, -1):
        narrow = _quantized(case, at[0], bits)
        if narrow.could_keep(at, splits):
            yield narrow
            return


def _chips_bits(case: Case, at: At, splits: Splits) -> Iterator[Case]:
    yield _quantized(case, at[0], case.chip.weight_bits.value)


def _neighbours_bits(case: Case, at: At, splits: Splits) -> Iterator[Case]:
    """Narrower weights in a neighbour, which then takes fewer cores."""
    graph = case.problem.graph
    if at[1] == "output axons":
        names = [s.target for s in graph.synapses if s.source == at[0]]
    else:
        names = [s.source for s in case.held(at[0]) if s.source != graph.input.name]
    for name in dict.fromkeys(names):
        width = max((demand.weight_bits(synapse) for synapse in case.held(name)), default=0)
        yield from (_quantized(case, name, bits) for bits in range(width - 1, 0, -1))


def _quantized(case: Case, layer: str, bits: int) -> Case:
    wide = [s for s in case.held(layer) if demand.weight_bits(s) > bits]
    words = f"quantize {case.named(layer)} with at most {bits} weight bit{'s' * (bits > 1)}"
    new = {synapse: _replaced(synapse, num_weight_bits=bits) for synapse in wide}
    return case.rewired(words, new)


def _shorter(case: Case, at: At, splits: Splits) -> Iterator[Case]:
    most = case.chip.max_delay.value + 1  # a delay of 1 is the chip's 0
    late = [synapse for synapse in case.held(at[0]) if synapse.longest > most]
    new = {}
    for synapse in late:
        delay = max(1, most - (synapse.longest - synapse.delay))
        fields: dict[str, Any] = {"delay": delay}
        if isinstance(synapse, Dense) and synapse.delays is not None:
            fields["delays"] = np.minimum(synapse.delays, most - delay)
        new[synapse] = _replaced(synapse, **fields)
    whose = case.named(at[0])
    words = f"shorten the delay into {whose} to {most - 1} steps beyond the next"
    yield case.rewired(words, new)


def _fewer_inputs(case: Case, at: At, splits: Splits) -> Iterator[Case]:
    """For each synapse the most that it may read or store, in the limit's own unit."""
    for synapse in case.held(at[0]):
        for most, narrow in _narrowings(synapse, at[1]):

            def cut(
                n: int,
                old: AnySynapse = synapse,
                narrow: Callable[[int], tuple[AnySynapse, str]] = narrow,
            ) -> Case:
                new, words = narrow(n)
                return case.rewired(words, {old: new})

            low, high = 0, most  # what is known to do, and not to do
            while high - low > 1:
                middle = 1 if low == 0 and high > 1 and high == most else (low + high) // 2
                if cut(middle).could_keep(at, splits):
                    low = middle
                elif middle == 1:
                    break
                else:
                    high = middle
            if low:
                yield cut(low)


def _narrowings(synapse: AnySynapse, limit: LimitName) -> tuple[Narrowing, ...]:
    """Ways of making a neuron read less through a synapse: how much it is, and less of it."""
    if isinstance(synapse, Dense):
        return (_inputs(synapse),)
    if isinstance(synapse, Sparse):
        return (_entries(synapse, limit),)
    if not isinstance(synapse, Conv):
        return ()
    kernel = _kernel(synapse)
    return (_channels(synapse), kernel) if limit in MEMORY else (kernel,)


def _inputs(synapse: Dense) -> Narrowing:
    inputs = synapse.weight.shape[1]

    def narrow(most: int) -> tuple[AnySynapse, str]:
        delays = synapse.delays
        fields: dict[str, Any] = {"weight": synapse.weight[:, :most]}
        if delays is not None and delays.shape[1] > 1:
            fields["delays"] = delays[:, :most]
        words = f"let {synapse.name!r} read at most {most:,} inputs, not {inputs:,}"
        return _replaced(synapse, **fields), words

    return inputs, narrow


def _entries(synapse: Sparse, limit: LimitName) -> Narrowing:
    each = np.diff(synapse.indptr)
    largest = int(each.max(initial=0))
    stored = limit in MEMORY
    does = "have" if stored else "read"
    what = (
        ("synapse in", "synapses in")
        if stored
        else ("source neuron through", "source neurons through")
    )
    times = 1 if stored else synapse.pool**2

    def narrow(most: int) -> tuple[AnySynapse, str]:
        rank = np.arange(len(synapse.data)) - np.repeat(synapse.indptr[:-1], each)
        kept = rank < most
        starts = np.concatenate([[0], np.cumsum(np.minimum(each, most))])
        fields = {"data": synapse.data[kept], "indices": synapse.indices[kept], "indptr": starts}
        words = (
            f"let a neuron {does} at most {most * times:,} {what[most * times > 1]} "
            f"{synapse.name!r}, not {largest * times:,}"
        )
        return _replaced(synapse, **fields), words

    return largest, narrow


def _channels(synapse: Conv) -> Narrowing:
    channels = synapse.weight.shape[1]

    def narrow(most: int) -> tuple[AnySynapse, str]:
        groups = " of each group" if synapse.groups > 1 else ""
        words = f"let {synapse.name!r} read at most {most:,} channels{groups}, not {channels:,}"
        return _replaced(synapse, weight=synapse.weight[:, :most]), words

    return channels, narrow


def _kernel(synapse: Conv) -> Narrowing:
    rows, columns = synapse.weight.shape[2:]

    def narrow(most: int) -> tuple[AnySynapse, str]:
        weight = synapse.weight[:, :, :most, :most]
        few, many = (
            " x ".join(str(n * synapse.pool) for n in sides)
            for sides in (weight.shape[2:], (rows, columns))
        )
        words = f"let {synapse.name!r} read at most {few} positions, not {many}"
        return _replaced(synapse, weight=weight), words

    return max(rows, columns), narrow


def _replaced(old: _T, **fields: Any) -> _T:
    """A copy with other fields, not checked anew."""
    made = copy(old)
    for name, value in fields.items():
        object.__setattr__(made, name, value)
    return made


_Way = Callable[[Case, At, Splits], Iterator[Case]]
_FOR_MEMORY: tuple[_Way, ...] = (_shared_kernels, _fewer_bits, _other_chip, _fewer_inputs)
_WAYS: Mapping[LimitName, tuple[_Way, ...]] = {
    "neurons": (_other_chip,),
    "synaptic memory": _FOR_MEMORY,
    "state memory": _FOR_MEMORY,
    "input axons": (_shared_axons, _other_chip, _fewer_inputs, _neighbours_bits),
    "output axons": (_shared_axons, _other_chip, _neighbours_bits),
    "weight bits": (_chips_bits, _other_chip),
    "delay": (_shorter, _other_chip),
    "graded messages": (_other_chip,),
    "firing windows": (_other_chip,),
}
