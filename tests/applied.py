"""Applies the change that a misfit names, read from its words alone."""

import re
from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np

from spikeship.hw_models import chips
from spikeship.hw_models.chips.spec import ChipSpec
from spikeship.hw_models.graph import AnySynapse, Conv, Dense, FixedGraph, Sparse
from spikeship.hw_models.placement.placement import Misfit, Rules

NOTHING = (
    "no single change that was tried makes it fit",
    "too many placements were tried to look further",
)
Bounds = dict[str, int | None]
Mended = tuple[FixedGraph, ChipSpec, Rules, Bounds]


def apply(
    misfit: Misfit, graph: FixedGraph, chip: ChipSpec, rules: Rules, bounds: Bounds
) -> Mended | None:
    """The graph, chip, rules and bounds with the change; None where the words name none."""
    if misfit.change.startswith(NOTHING):
        return None
    for words in re.split(r", and |(?<=cores) and ", misfit.change):
        graph, chip, rules, bounds = _applied(words, misfit.layer, graph, chip, rules, bounds)
    return graph, chip, rules, bounds


def _applied(
    words: str, layer: str, graph: FixedGraph, chip: ChipSpec, rules: Rules, bounds: Bounds
) -> Mended:
    if words == "share axons: population":
        return graph, chip, replace(rules, axons="population"), bounds
    if words == "store kernels once a core: shared":
        return graph, chip, replace(rules, kernels="shared"), bounds
    if found := re.fullmatch(r"use (\w+)", words):
        return graph, chips.get(found[1]), rules, bounds
    if found := re.fullmatch(r"(?:allow )?([\d,]+) (cores|chips?)", words):
        key = "cores" if found[2] == "cores" else "max_chips"
        return graph, chip, rules, {**bounds, key: _number(found[1])}
    return _rewired(words, layer, graph, chip), chip, rules, bounds


def _rewired(words: str, layer: str, graph: FixedGraph, chip: ChipSpec) -> FixedGraph:
    if found := re.fullmatch(r"quantize (it|'\w+') with at most (\d+) weight bits?", words):
        at, bits = (layer if found[1] == "it" else found[1][1:-1]), int(found[2])
        new = {s: _bits(s, bits) for s in graph.incoming(at)}
    elif found := re.fullmatch(
        r"shorten the delay into (it|'\w+') to (\d+) steps beyond the next", words
    ):
        at = layer if found[1] == "it" else found[1][1:-1]
        new = {s: _sooner(s, int(found[2]) + 1) for s in graph.incoming(at)}
    elif found := re.fullmatch(r"let (.*), not .*", words):
        # synapses may share a name
        new = {s: less for s in graph.synapses if (less := _less(s, found[1])) is not s}
        assert new, words
    else:
        raise AssertionError(f"no change: {words}")
    return _made(graph, synapses=tuple(new.get(s, s) for s in graph.synapses))


def _bits(synapse: AnySynapse, bits: int) -> AnySynapse:
    return _made(synapse, num_weight_bits=min(bits, synapse.num_weight_bits))


def _sooner(synapse: AnySynapse, longest: int) -> AnySynapse:
    if not isinstance(synapse, Dense) or synapse.delays is None:
        return _made(synapse, delay=min(synapse.delay, longest))
    delay = min(synapse.delay, max(1, longest - int(np.max(synapse.delays, initial=0))))
    return _made(synapse, delay=delay, delays=np.minimum(synapse.delays, longest - delay))


def _less(synapse: AnySynapse, words: str) -> AnySynapse:
    """Less of what the words name, if they name this synapse."""
    if repr(synapse.name) not in words:
        return synapse
    if found := re.search(r"at most ([\d,]+) inputs", words):
        if not isinstance(synapse, Dense):
            return synapse
        delays, most = synapse.delays, _number(found[1])
        if delays is not None:
            delays = np.broadcast_to(delays, synapse.weight.shape)[:, :most]
        return _made(synapse, weight=synapse.weight[:, :most], delays=delays)
    if found := re.search(r"at most (\d+) x (\d+) positions", words):
        if not isinstance(synapse, Conv):
            return synapse
        rows, columns = (int(n) // synapse.pool for n in found.groups())
        return _made(synapse, weight=synapse.weight[:, :, :rows, :columns])
    if found := re.search(r"at most ([\d,]+) channels", words):
        if not isinstance(synapse, Conv):
            return synapse
        return _made(synapse, weight=synapse.weight[:, : _number(found[1])])
    found = re.search(r"at most ([\d,]+) (source neurons?|synapses?)", words)
    assert found, words
    if not isinstance(synapse, Sparse):
        return synapse
    most = _number(found[1]) // (1 if found[2].startswith("synapse") else synapse.pool**2)
    rows = [range(a, min(b, a + most)) for a, b in zip(synapse.indptr, synapse.indptr[1:])]  # noqa: B905
    kept = np.array([i for row in rows for i in row], dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    return _made(synapse, data=synapse.data[kept], indices=synapse.indices[kept], indptr=starts)


def _number(words: str) -> int:
    return int(words.replace(",", ""))


def _made(old: Any, **fields: Any) -> Any:
    """A copy with other fields, for placing alone: not checked anew."""
    made = copy(old)
    for name, value in fields.items():
        object.__setattr__(made, name, value)
    return made
