"""Populations: a node's parameters in the engine's order, its state, and its steps.

One class a kind of node, one row each in the table at the end.
"""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spikeship.hw_models import fixed
from spikeship.hw_models.graph import Delta, Neuron, Node, Readout, SigmaDelta
from spikeship.hw_models.graph.layout import per_neuron
from spikeship.hw_models.graph.windows import Window
from spikeship.hw_models.reference.interpreter import StateOverflowError
from spikeship.hw_models.simulator.cpu.scan import LEAKY, NEVER, PLAIN, WRAPPING, scan
from spikeship.hw_models.simulator.cpu.sigma_delta_scan import sigma_delta_scan

State = tuple[NDArray[Any], ...]
# mypy takes a compiled function for one without parameters
_SCAN: Any = scan
_SIGMA_DELTA_SCAN: Any = sigma_delta_scan
NOT_KEPT = np.empty((0, 0, 0), np.int32)


class Met(NamedTuple):
    """What neurons met: how many neuron-steps at the lower and the upper rail, how many wraps."""

    lower: int = 0
    upper: int = 0
    wraps: int = 0

    def plus(self, other: "Met") -> "Met":
        """Add up."""
        return Met(*(a + b for a, b in zip(self, other, strict=True)))


class Population(ABC):
    """Neurons of one node.

    Attributes:
        name: name of the node.
        neurons: how many.
        sends: dtype of what they send.
    """

    sends: Any = np.int32

    def __init__(self, node: Node) -> None:
        self.name = node.name
        self.shape = node.shape
        self.neurons = int(np.prod(node.shape, dtype=np.int64))

    @abstractmethod
    def start(self, images: int) -> State:
        """State at the start of a sample: arrays (images, neurons)."""

    @abstractmethod
    def advance(
        self,
        state: State,
        activation: NDArray[Any],
        sent: NDArray[Any],
        *,
        chip_step: int,
        potentials: NDArray[np.int32] = NOT_KEPT,
        currents: NDArray[np.int32] = NOT_KEPT,
    ) -> Met:
        """Run some steps, the state changed in place.

        Args:
            state: of these images.
            activation: sums (images, steps or 1, neurons), float32 or int32; one step stands for
                every step.
            sent: where to write messages (of a readout: potentials), (images, steps, neurons).
            chip_step: the chip's number, from 0, of the first of these steps.
            potentials: where to write potentials after each step, or NOT_KEPT.
            currents: where to write currents, or NOT_KEPT.

        Raises:
            StateOverflowError: a state left its width.
        """

    def _flat(self, values: NDArray[Any], dtype: Any = np.int32) -> NDArray[Any]:
        return per_neuron(values, self.shape).astype(dtype)


class Spiking(Population):
    """Leaky integrate-and-fire neurons; state: current, potential, refractory steps left."""

    sends = np.uint8

    def __init__(self, node: Neuron, *, strict: bool = True, window: Window | None = None) -> None:
        super().__init__(node)
        self.window = window
        self.waits = strict and window is not None
        self.vth = self._flat(node.vth << fixed.STATE_SHIFT)
        self.bias = self._flat(node.bias)
        self.v0 = self._flat(node.v0)
        self.kept_u = np.int32(fixed.DECAY_UNITY - 1 - node.du)
        self.kept_v = self._flat(fixed.DECAY_UNITY - node.dv)
        self.soft = np.int32(-1 if node.reset == "subtract" else 0)
        self.refractory = np.int32(node.refractory)
        decays = self.kept_u != 0 or np.any(self.kept_v != fixed.DECAY_UNITY)
        self.mode = LEAKY if decays or node.refractory else PLAIN
        if not strict:
            self.mode = WRAPPING

    def start(self, images: int) -> State:
        """Current 0, potential V0, awake."""
        u, v, frozen = (np.zeros((images, self.neurons), np.int32) for _ in range(3))
        v[:] = self.v0
        return u, v, frozen

    def advance(
        self,
        state: State,
        activation: NDArray[Any],
        sent: NDArray[Any],
        *,
        chip_step: int,
        potentials: NDArray[np.int32] = NOT_KEPT,
        currents: NDArray[np.int32] = NOT_KEPT,
    ) -> Met:
        """Run some steps; see Population."""
        opens, closes = 0, NEVER
        if self.window is not None:
            opens, closes = self.window.fire_from - 1 - chip_step, self.window.last - chip_step
        lower, upper, wraps, first, worst, railed = _SCAN(
            activation,
            *state,
            self.vth,
            self.bias,
            self.kept_u,
            self.kept_v,
            self.soft,
            self.refractory,
            self.mode,
            opens,
            closes,
            sent,
            potentials,
            currents,
        )
        if first != NEVER:
            raise StateOverflowError(
                f"node {self.name!r}: its input reaches {worst >> fixed.STATE_SHIFT} weight units "
                f"in chip step {chip_step + first + 1}, beyond the {fixed.INPUT_LIMIT} that 24 "
                "bits hold; quantize with a larger scale"
            )
        if self.waits and railed != NEVER:
            raise StateOverflowError(
                f"node {self.name!r}: its potential leaves 24 bits in chip step "
                f"{chip_step + railed + 1} while it waits; quantize with a larger scale"
            )
        return Met(int(lower), int(upper), int(wraps))


class Graded(Population):
    """Sigma-delta neurons; state: sigma, activation, residue, error."""

    def __init__(self, node: Delta | SigmaDelta) -> None:
        super().__init__(node)
        self.adds_up = isinstance(node, SigmaDelta)
        self.vth = self._flat(node.vth << node.shift, np.int64)
        bias = node.bias << node.shift if isinstance(node, SigmaDelta) else np.zeros((), np.int64)
        self.bias = self._flat(np.broadcast_to(bias, node.shape), np.int64)
        self.rectified = isinstance(node, SigmaDelta) and node.activation == "relu"
        self.cumulative = node.cum_error
        self.shift, self.state_exp = node.shift, node.state_exp

    def start(self, images: int) -> State:
        """All 0."""
        return tuple(np.zeros((images, self.neurons), np.int64) for _ in range(4))

    def advance(
        self,
        state: State,
        activation: NDArray[Any],
        sent: NDArray[Any],
        *,
        chip_step: int,
        potentials: NDArray[np.int32] = NOT_KEPT,
        currents: NDArray[np.int32] = NOT_KEPT,
    ) -> Met:
        """Run some steps; see Population. They have no current: ``currents`` becomes 0."""
        currents[...] = 0
        first, worst = _SIGMA_DELTA_SCAN(
            activation,
            *state,
            self.vth,
            self.bias,
            self.adds_up,
            self.rectified,
            self.cumulative,
            self.shift,
            self.state_exp,
            sent,
            potentials,
        )
        if first != NEVER:
            raise StateOverflowError(
                f"node {self.name!r}: its state reaches {worst} in chip step "
                f"{chip_step + first + 1}, beyond the {fixed.STATE_RAIL} that 24 bits hold; use a "
                "larger scale"
            )
        return Met()


class Accumulating(Population):
    """The readout; state: its potential."""

    def __init__(self, node: Readout) -> None:
        super().__init__(node)
        self.bias = self._flat(node.bias, np.int64)
        self.v0 = self._flat(node.v0, np.int64)

    def start(self, images: int) -> State:
        """Potential V0."""
        return (np.repeat(self.v0[None], images, axis=0),)

    def advance(
        self,
        state: State,
        activation: NDArray[Any],
        sent: NDArray[Any],
        *,
        chip_step: int,
        potentials: NDArray[np.int32] = NOT_KEPT,
        currents: NDArray[np.int32] = NOT_KEPT,
    ) -> Met:
        """Run some steps; see Population. What it sends is its potential."""
        (v,) = state
        change = np.broadcast_to(activation, sent.shape).astype(np.int64) + self.bias
        total = change.cumsum(axis=1) + v[:, None]
        if total.size:
            first, worst = _first_beyond(activation, fixed.STATE_RAIL)
            if first != NEVER:
                raise StateOverflowError(
                    f"readout {self.name!r}: its input reaches {worst} in chip step "
                    f"{chip_step + first + 1}, beyond the {fixed.STATE_RAIL} that 24 bits hold; "
                    "use a larger scale"
                )
            first, worst = _first_beyond(total, fixed.READOUT_RAIL)
            if first != NEVER:
                raise StateOverflowError(
                    f"readout {self.name!r}: reaches {worst} in chip step "
                    f"{chip_step + first + 1}, beyond 32 bits; use fewer steps or a larger scale"
                )
            v[:] = total[:, -1]
        sent[...] = total
        if potentials.size:
            potentials[...] = total
        currents[...] = 0
        return Met()


def _first_beyond(values: NDArray[Any], limit: int) -> tuple[int, int]:
    """First step of (images, steps, neurons) with a magnitude beyond it, and the largest there."""
    worst = np.abs(values).max(axis=(0, 2))
    if worst.max() <= limit:
        return NEVER, 0
    first = int(np.argmax(worst > limit))
    return first, int(worst[first])


_POPULATIONS: dict[type, Any] = {
    Neuron: Spiking,
    Delta: Graded,
    SigmaDelta: Graded,
    Readout: Accumulating,
}


def population(node: Node, *, strict: bool = True, window: Window | None = None) -> Population:
    """Return the population of a node.

    Args:
        node: the node.
        strict: whether a current beyond 24 bits is an error; else it wraps.
        window: when it may fire, in a staged graph.

    Raises:
        TypeError: a kind of node the engine does not know.
    """
    kind = _POPULATIONS.get(type(node))
    if kind is None:
        raise TypeError(f"node {node.name!r}: the engine knows no {type(node).__name__}")
    if isinstance(node, Neuron):
        return Spiking(node, strict=strict, window=window)
    made: Population = kind(node)
    return made
