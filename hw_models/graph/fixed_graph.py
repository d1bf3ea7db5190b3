"""FixedGraph: what a chip runs. Its nodes and synapses, and what must hold between them."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from spikeship.hw_models import fixed
from spikeship.hw_models.graph.checks import (
    MAX_GRADED,
    Array,
    Shape,
    Timing,
    check_name,
    require,
)
from spikeship.hw_models.graph.nodes import (
    GradedNode,
    Input,
    Neuron,
    Node,
    Readout,
)
from spikeship.hw_models.graph.synapses import (
    AnySynapse,
    Conv,
    Dense,
    Identity,
    parts,
    pooled_shape,
    weight_sums,
)
from spikeship.hw_models.graph.windows import (
    Window,
    check_staged,
    find_windows,
    input_steps,
    interval,
)


def _size(shape: Shape) -> int:
    return int(np.prod(shape, dtype=np.int64))


@dataclass(frozen=True, eq=False)
class FixedGraph:
    """A network in integers.

    Attributes:
        input: the input node.
        nodes: neurons and, last, the readout (or, read from a file, a last neuron), in an order
            in which every forward synapse leads from an earlier to a later one.
        synapses: all connections.
        num_steps: the T it was made for; None where the file has none.
        gated: whether nodes run only in their own T steps (every pipelined graph that we make) or
            in every chip step from 1 on (graphs read from ``.net`` files, and staged ones).
        timing: ``pipelined``: a node runs as soon as something arrives. ``staged``: it waits until
            all has arrived, then fires for T steps; such a graph belongs to its ``num_steps``.
        metadata: JSON values only: provenance, data, what the float network said.

    Raises:
        GraphError: shapes, delays or widths that no chip could run, by name and reason.
    """

    input: Input
    nodes: tuple[Node, ...]
    synapses: tuple[AnySynapse, ...]
    num_steps: int | None = None
    gated: bool = True
    metadata: Mapping[str, Any] = field(default_factory=dict)
    timing: Timing = "pipelined"

    def __post_init__(self) -> None:
        object.__setattr__(self, "nodes", tuple(self.nodes))
        object.__setattr__(self, "synapses", tuple(self.synapses))
        require(len(self.nodes) > 0, "graph has no nodes")
        names = [self.input.name, *(node.name for node in self.nodes)]
        for name in names:
            check_name("node", name)
        twice = next((name for name, count in Counter(names).items() if count > 1), None)
        require(twice is None, f"node {twice!r}: appears twice; names must differ")
        for synapse in self.synapses:
            check_name("synapse", synapse.name)
        require(
            self.num_steps is None or self.num_steps >= 1,
            f"graph: num_steps must be at least 1, got {self.num_steps}",
        )
        require(
            self.timing in ("pipelined", "staged"),
            f"graph: unknown timing {self.timing!r}; pipelined or staged",
        )
        if self.timing == "staged":
            require(self.num_steps is not None, "graph: a staged one belongs to its T; give it")
            object.__setattr__(self, "gated", False)
        self._check_shapes()
        object.__setattr__(self, "_depths", self._find_depths())
        object.__setattr__(self, "_windows", self._find_windows())
        self._check_sums()

    def __repr__(self) -> str:
        neurons = sum(int(np.prod(node.shape)) for node in self.nodes)
        made = [str(self.metadata[key]) for key in ("chip",) if key in self.metadata]
        if "weight_bits" in self.metadata:
            made.append(f"{self.metadata['weight_bits']}-bit weights")
        said = "".join(f", {word}" for word in made)
        return (
            f"<FixedGraph: {len(self.nodes)} layers, {neurons:,} neurons, T = {self.num_steps}"
            f"{said}>"
        )

    @property
    def depths(self) -> Mapping[str, int]:
        """For every node its d: the sum of the delays from the input to it (input: 0)."""
        depths: Mapping[str, int] = self.__dict__["_depths"]
        return depths

    @property
    def output(self) -> Node:
        """The last node: the readout."""
        return self.nodes[-1]

    @property
    def windows(self) -> Mapping[str, Window]:
        """For every node of a staged graph when it fires, the input's among them."""
        windows: Mapping[str, Window] = self.__dict__["_windows"]
        return windows

    @property
    def drain(self) -> int:
        """D: the depth of the output, the steps a pipelined sample takes beyond its T."""
        return self.depths[self.output.name]

    def chip_steps(self, num_steps: int) -> int:
        """Chip steps of one sample: T + D, or when a staged graph's readout is read.

        Raises:
            GraphError: a staged graph of another T.
        """
        if self.timing == "staged":
            self._check_steps(num_steps)
            return self.windows[self.output.name].last
        return num_steps + self.drain

    @property
    def interval(self) -> int | None:
        """Steps after which the next sample may enter a staged graph; None where pipelined."""
        return interval(self.windows) if self.windows else None

    def input_steps(self, num_steps: int) -> int:
        """Steps of the input's messages: T, or 1 of direct input to a staged graph.

        Raises:
            GraphError: a staged graph of another T.
        """
        if self.timing == "staged":
            self._check_steps(num_steps)
            return input_steps(self.input, num_steps)
        return num_steps

    def steps_of(self, given: int) -> int:
        """T of messages of so many steps; see :meth:`input_steps`.

        Raises:
            GraphError: a staged graph takes messages of other steps.
        """
        if self.timing != "staged":
            return given
        assert self.num_steps is not None
        wanted = input_steps(self.input, self.num_steps)
        require(
            given == wanted,
            f"input {self.input.name!r}: messages of {given} steps, and a staged network of "
            f"T = {self.num_steps} takes {wanted}; encode them for it",
        )
        return self.num_steps

    def _check_steps(self, num_steps: int) -> None:
        require(
            num_steps == self.num_steps,
            f"graph: a staged network belongs to its T = {self.num_steps}, not {num_steps}; "
            "quantize it for that T",
        )

    def node(self, name: str) -> Input | Node:
        """Return the node of this name.

        Raises:
            KeyError: there is none.
        """
        return self._by_name[name]

    def incoming(self, name: str) -> tuple[AnySynapse, ...]:
        """Synapses that feed the node of this name."""
        return self._feeding.get(name, ())

    @cached_property
    def _by_name(self) -> dict[str, Input | Node]:
        return {node.name: node for node in (self.input, *self.nodes)}

    @cached_property
    def _feeding(self) -> dict[str, tuple[AnySynapse, ...]]:
        into: dict[str, list[AnySynapse]] = {}
        for synapse in self.synapses:
            into.setdefault(synapse.target, []).append(synapse)
        return {name: tuple(synapses) for name, synapses in into.items()}

    def __copy__(self) -> "FixedGraph":
        """A copy that may be given other nodes and synapses: it looks them up anew."""
        made = object.__new__(type(self))
        known = {"_by_name", "_feeding"}
        made.__dict__.update({k: v for k, v in self.__dict__.items() if k not in known})
        return made

    def max_message(self, synapse: AnySynapse) -> int:
        """Largest magnitude of a message after the synapse's pool."""
        source = self.node(synapse.source)
        largest = source.max_message if isinstance(source, Input) else 1
        if isinstance(source, GradedNode):
            largest = MAX_GRADED
        return largest * synapse.pool**2

    def signed(self, synapse: AnySynapse) -> bool:
        """Whether the synapse's messages may be negative."""
        source = self.node(synapse.source)
        return isinstance(source, GradedNode) or (isinstance(source, Input) and source.signed)

    def bounded(self, name: str) -> bool:
        """Whether input_bound says something of a node: no graded neuron feeds it.

        Sums of a graded neuron's messages are checked in every run, not beforehand.
        """
        return not any(
            isinstance(self.node(synapse.source), GradedNode) for synapse in self.incoming(name)
        )

    def input_bound(self, name: str) -> int:
        """Largest magnitude of ``a`` that the weights let arrive at a node in one step."""
        low = high = 0
        for synapse in self.incoming(name):
            message, signed = self.max_message(synapse), self.signed(synapse)
            top = bottom = np.zeros(1, np.int64)
            for part in parts(synapse):
                positive, negative = weight_sums(part)
                if signed:
                    positive = negative = positive + negative
                # a right shift rounds down, so a negative sum may end one unit further out
                top = top + fixed.shift(positive * message, synapse.weight_exp)
                bottom = bottom - fixed.shift(-negative * message, synapse.weight_exp)
            high += int(top.max(initial=0))
            low += int(bottom.max(initial=0))
        return max(low, high)

    def state_bound(self, name: str) -> int:
        """Largest magnitude, weight units, that a staged node's potential may reach in any step.

        Start and weights alone: every message of a sample counts, in the order that is worst.
        """
        node = self.node(name)
        assert isinstance(node, Neuron | Readout) and self.num_steps is not None
        unit = 1 << (fixed.STATE_SHIFT if isinstance(node, Neuron) else 0)
        high, low = _per_channel(node.v0, node.shape), -_per_channel(-node.v0, node.shape)
        for synapse in self.incoming(name):
            source = self.node(synapse.source)
            steps = self.num_steps
            if isinstance(source, Input):
                steps = input_steps(source, steps)
            message = steps * self.max_message(synapse)
            for part in parts(synapse):
                positive, negative = weight_sums(part)
                if self.signed(synapse):
                    positive = negative = positive + negative
                up = fixed.shift(positive * message, synapse.weight_exp)
                # a right shift rounds down in every step
                down = -fixed.shift(-negative * message, synapse.weight_exp)
                down = down + (steps if synapse.weight_exp < 0 else 0)
                high = high + unit * _per_channel(up, node.shape)
                low = low - unit * _per_channel(down, node.shape)
        return -(-max(int(high.max()), -int(low.min()), 0) // unit)

    def _check_shapes(self) -> None:
        order = {self.input.name: -1} | {node.name: i for i, node in enumerate(self.nodes)}
        fed = {synapse.target for synapse in self.synapses}
        for synapse in self.synapses:
            where = f"synapse {synapse.name!r}"
            for end in (synapse.source, synapse.target):
                require(end in order, f"{where}: there is no node {end!r}")
            source, target = self.node(synapse.source), self.node(synapse.target)
            require(not isinstance(target, Input), f"{where}: the input cannot be a target")
            require(
                not isinstance(source, Readout),
                f"{where}: {synapse.source!r} is a readout, which sends nothing",
            )
            if self.gated or self.timing == "staged":
                require(
                    order[synapse.source] < order[synapse.target],
                    f"{where}: leads back from {synapse.source!r} to {synapse.target!r}; "
                    f"a {'gated' if self.gated else 'staged'} graph has no loops",
                )
            self._check_ends(synapse, source.shape, target.shape)
            require(
                isinstance(source, Input) or synapse.delay > 0,
                f"{where}: only an input's messages arrive without delay; give it a delay of 1",
            )
            require(
                isinstance(source, GradedNode) or self.max_message(synapse) <= MAX_GRADED,
                f"{where}: its pooled messages leave 24 bits; use a smaller pool or max_message",
            )
            require(
                not (isinstance(synapse, Dense) and synapse.pool > 1 and synapse.delay < 2),
                f"{where}: a dense synapse with a pool takes a delay of at least 2",
            )
            require(
                not self.gated or len({part.delay for part in parts(synapse)}) == 1,
                f"{where}: its delays differ, and a gated graph has one delay into each node; "
                "make the graph ungated",
            )
        for node in self.nodes:
            require(node.name in fed, f"node {node.name!r}: no synapse feeds it")
            require(
                sum(synapse.delay == 0 for synapse in self.incoming(node.name)) < 2,
                f"node {node.name!r}: the input leads to it twice without delay, and Lava connects "
                "two ports once; give one of the identities a delay of 1",
            )

    @staticmethod
    def _check_ends(synapse: AnySynapse, source: Shape, target: Shape) -> None:
        where = f"synapse {synapse.name!r}"
        pooled = pooled_shape(source, synapse.pool, synapse.name)
        if isinstance(synapse, Conv):
            FixedGraph._check_conv(synapse, pooled, target)
            return
        if isinstance(synapse, Identity):
            require(
                _size(source) == _size(target) and (synapse.delay > 0 or source == target),
                f"{where}: an identity{'' if synapse.delay else ' without delay'} cannot lead "
                f"from shape {source} to shape {target}",
            )
            return
        rows, columns = (
            synapse.weight.shape if isinstance(synapse, Dense) else (synapse.rows, synapse.columns)
        )
        require(
            (rows, columns) == (_size(target), _size(pooled)),
            f"{where}: a {rows} x {columns} matrix cannot lead from shape {pooled} "
            f"to shape {target}",
        )

    @staticmethod
    def _check_conv(synapse: Conv, pooled: Shape, target: Shape) -> None:
        where = f"synapse {synapse.name!r}"
        out, per_group, *_ = synapse.weight.shape
        require(len(pooled) == 3, f"{where}: a convolution needs a (c, h, w) source, got {pooled}")
        require(
            pooled[0] == per_group * synapse.groups and out % synapse.groups == 0,
            f"{where}: {synapse.groups} groups of {per_group} channels do not fit {pooled[0]}",
        )
        require(
            synapse.output_shape(pooled) == target,
            f"{where}: gives shape {synapse.output_shape(pooled)}, its target has {target}",
        )
        require(
            synapse.weight_exp == 0 or synapse.delay > 1,
            f"{where}: Lava's Conv ignores weight_exp; give it a delay of 2 or scale vth instead",
        )

    def _find_depths(self) -> dict[str, int]:
        order = {self.input.name: -1} | {node.name: i for i, node in enumerate(self.nodes)}
        depths = {self.input.name: 0}
        for node in self.nodes:
            arrivals = {
                (i, synapse.name): depths[synapse.source] + synapse.longest
                for i, synapse in enumerate(self.incoming(node.name))
                if order[synapse.source] < order[node.name]
            }
            require(bool(arrivals), f"node {node.name!r}: nothing before it feeds it")
            require(
                not self.gated or len(set(arrivals.values())) == 1,
                f"node {node.name!r}: paths into it differ in delay "
                f"({', '.join(f'{name} {d}' for (_, name), d in arrivals.items())}); "
                "lengthen the delay of the short one",
            )
            depths[node.name] = max(arrivals.values())
        return depths

    def _find_windows(self) -> dict[str, Window]:
        if self.timing != "staged":
            return {}
        assert self.num_steps is not None
        check_staged(self.input, self.nodes, self._feeding)
        return find_windows(self.input, self.nodes, self._feeding, self.num_steps)

    def _check_sums(self) -> None:
        for node in self.nodes:
            bound = self.input_bound(node.name)
            if isinstance(node, Neuron) and node.overflow == "proved":
                _check_proof(node, bound)
                reach = self.state_bound(node.name) if self.timing == "staged" else 0
                require(
                    reach <= fixed.INPUT_LIMIT,
                    f"node {node.name!r}: its potential may reach {reach} while it waits, beyond "
                    f"the {fixed.INPUT_LIMIT} that 24 bits hold; quantize with a larger scale",
                )
            if not self.bounded(node.name):
                continue
            widest = fixed.READOUT_RAIL if isinstance(node, Neuron) else fixed.STATE_RAIL
            require(
                bound <= widest,
                f"node {node.name!r}: its weights' sums reach {bound}, which no engine carries "
                f"exactly (at most {widest}); use a larger scale or a smaller weight_exp",
            )
            if isinstance(node, Readout) and self.num_steps is not None:
                steps = self.num_steps if self.gated else self.chip_steps(self.num_steps)
                total = steps * (bound + int(np.abs(node.bias).max(initial=0)))
                total += int(np.abs(node.v0).max(initial=0))
                if self.timing == "staged":
                    total = self.state_bound(node.name)
                require(
                    total <= fixed.READOUT_RAIL,
                    f"readout {node.name!r}: {steps} steps may reach {total}, beyond "
                    "32 bits; use fewer steps or a larger scale",
                )


def _per_channel(values: Array, shape: Shape) -> Array:
    """Largest value of each channel of a node, from one for all, one a channel, or all."""
    rows = values if values.ndim == len(shape) and values.size > 1 else values.reshape(-1)
    if rows.ndim == 1 and rows.size == _size(shape):
        rows = rows.reshape(shape)
    largest: Array = rows.reshape(rows.shape[0], -1).max(axis=1)
    return largest


def _check_proof(node: Neuron, bound: int) -> None:
    require(
        bound <= fixed.INPUT_LIMIT,
        f"node {node.name!r}: its weights' sums reach {bound}, beyond the "
        f"{fixed.INPUT_LIMIT} that 24 bits hold; quantize with a larger scale",
    )
    require(
        node.du == fixed.DECAY_UNITY - 1,
        f"node {node.name!r}: keeps current (du below {fixed.DECAY_UNITY - 1}), so its "
        "weights' sums prove nothing; call its overflow observed or unchecked",
    )
