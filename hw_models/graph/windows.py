"""Staged firing: when each population of a staged graph may fire, and what such a graph may hold.

A population waits until its whole input has arrived, then fires for T steps, so its count of
spikes is a level 0..T of a quantized activation. Steps are chip steps, counted from 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from spikeship.hw_models import fixed
from spikeship.hw_models.graph.checks import require
from spikeship.hw_models.graph.nodes import Input, Neuron, Node, Readout
from spikeship.hw_models.graph.synapses import AnySynapse, Conv, Dense, Sparse, parts

RELAY_WEIGHT = 2


@dataclass(frozen=True)
class Window:
    """When a population takes part in a sample.

    Attributes:
        first: step in which a message may reach it first.
        fire_from: step in which its last message arrives, and it may fire first.
        last: step in which it may fire last; of the readout, when it is read.
    """

    first: int
    fire_from: int
    last: int

    def fires(self, step: int) -> bool:
        """Whether it may fire in this chip step."""
        return self.fire_from <= step <= self.last


def input_steps(source: Input, num_steps: int) -> int:
    """Steps in which the input of a staged graph sends: direct input once, spikes T times."""
    return 1 if source.encoding == "direct" else num_steps


def find_windows(
    source: Input,
    nodes: Sequence[Node],
    incoming: Mapping[str, Sequence[AnySynapse]],
    num_steps: int,
) -> dict[str, Window]:
    """Windows by node name, the input's among them.

    Args:
        source: the input.
        nodes: in an order in which every synapse leads from an earlier to a later one.
        incoming: synapses by their target.
        num_steps: T.
    """
    windows = {source.name: Window(1, 1, input_steps(source, num_steps))}
    for node in nodes:
        feeds = [
            (windows[synapse.source], part.delay)
            for synapse in incoming[node.name]
            for part in parts(synapse)
        ]
        first = min(window.fire_from + delay for window, delay in feeds)
        if isinstance(node, Neuron) and node.relay:
            fire_from = max(window.fire_from + delay for window, delay in feeds)
        else:
            fire_from = max(window.last + delay for window, delay in feeds)
        length = 1 if isinstance(node, Readout) else num_steps
        windows[node.name] = Window(first, fire_from, fire_from + length - 1)
    return windows


def interval(windows: Mapping[str, Window]) -> int:
    """Steps after which the next sample may enter: no population holds two samples at once."""
    return max(window.last + 1 - window.first for window in windows.values())


def check_staged(
    source: Input, nodes: Sequence[Node], incoming: Mapping[str, Sequence[AnySynapse]]
) -> None:
    """Refuse what staged firing has no meaning for.

    Raises:
        GraphError: says which node or synapse, and why.
    """
    kinds = {source.name: source, **{node.name: node for node in nodes}}
    require(
        isinstance(nodes[-1], Readout),
        f"node {nodes[-1].name!r}: a staged graph ends in a readout",
    )
    for node in nodes:
        if isinstance(node, Readout):
            require(
                not np.any(node.bias),
                f"readout {node.name!r}: adds its bias in every step; a staged one starts at it, "
                "give it as v0",
            )
        else:
            require(
                isinstance(node, Neuron),
                f"node {node.name!r}: a {type(node).__name__} sends changes, no levels; make the "
                "graph pipelined",
            )
            assert isinstance(node, Neuron)
            if node.relay:
                _check_relay(node, incoming[node.name], kinds)
            else:
                _check_waiting(node)
    _check_paths(source, nodes, incoming)


def _check_waiting(node: Neuron) -> None:
    """A population that waits keeps all that arrives until it fires."""
    kept = (
        (not np.any(node.dv) and node.du == fixed.DECAY_UNITY - 1, "leaks"),
        (node.reset == "subtract", "resets to zero"),
        (node.refractory == 0, "rests after a spike"),
        (not np.any(node.bias_mant), "takes a bias in every step; give it in v0"),
        (bool(np.all(node.vth > 0)), "has a threshold of 0"),
    )
    for holds, does in kept:
        require(
            holds,
            f"neuron {node.name!r}: {does}, so its spikes are no level of what arrived; make the "
            "graph pipelined",
        )


def _check_relay(
    node: Neuron, feeds: Sequence[AnySynapse], kinds: Mapping[str, Input | Node]
) -> None:
    """A relay hands on the largest of prefix trains: it forgets at once, and any tap fires it."""
    where = f"relay {node.name!r}"
    forgets = node.reset == "zero" and bool(np.all(node.dv == fixed.DECAY_UNITY - 1))
    bare = not (np.any(node.v0) or np.any(node.bias_mant) or node.refractory)
    require(
        forgets and bare and bool(np.all(node.vth == 1)) and node.du == fixed.DECAY_UNITY - 1,
        f"{where}: needs vth 1, dv and du 4095, reset zero, and no v0, bias or rest",
    )
    require(len(feeds) == 1, f"{where}: {len(feeds)} synapses feed it; a relay has one")
    (synapse,) = feeds
    require(
        isinstance(kinds[synapse.source], Neuron),
        f"{where}: reads {synapse.source!r}, whose spikes are no prefixes; pool behind a "
        "population",
    )
    plain = isinstance(synapse, Conv | Dense | Sparse) and synapse.pool == 1
    require(
        plain and synapse.weight_exp == 0 and len({part.delay for part in parts(synapse)}) == 1,
        f"{where}: its synapse has a pool, an exponent or several delays; give it none",
    )
    weights = synapse.data if isinstance(synapse, Sparse) else synapse.weight  # type: ignore[union-attr]
    require(
        set(np.unique(weights)) <= {0, RELAY_WEIGHT},
        f"{where}: its weights are not {RELAY_WEIGHT} a tap",
    )


def _check_paths(
    source: Input, nodes: Sequence[Node], incoming: Mapping[str, Sequence[AnySynapse]]
) -> None:
    """Every population leads to the readout, or nobody would know when it is over."""
    leads = {nodes[-1].name}
    for node in reversed(nodes):
        if node.name in leads:
            leads.update(synapse.source for synapse in incoming[node.name])
    lost = [name for name in (source.name, *(node.name for node in nodes)) if name not in leads]
    require(
        not lost,
        f"node {lost[0] if lost else ''!r}: does not lead to the readout; leave it out",
    )
