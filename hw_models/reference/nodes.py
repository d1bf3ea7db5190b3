"""What the reference's nodes do in one step, written to be read: one function a kind of node."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from spikeship.hw_models import fixed
from spikeship.hw_models.graph import Array, Delta, Neuron, Node, Readout, SigmaDelta
from spikeship.hw_models.graph.windows import Window
from spikeship.hw_models.reference.sums import StateOverflowError, require_24_bits


@dataclass
class Population:
    """A node and its state over all images.

    Attributes:
        node: the node.
        state: arrays (images, *shape) by Lava's names of them: u, v, sigma, act, residue, error;
            ``rest`` counts down a neuron's refractory steps.
        rails: how many neuron-steps met the lower and the upper rail.
        strict: whether a current beyond 24 bits is an error, or wraps.
        wraps: how many sums and currents wrapped.
        window: when it may fire, of a staged graph; it integrates in every step.
    """

    node: Node
    state: dict[str, Array]
    rails: tuple[int, int] = (0, 0)
    strict: bool = True
    wraps: int = 0
    window: Window | None = None

    @property
    def potential(self) -> Array:
        """Its v; a sigma-delta neuron's sigma, a delta neuron's act."""
        return self.state[_POTENTIAL_OF[type(self.node)]]

    def step(self, activation: Array, step: int) -> Array:
        """Advance by one local step and return what is sent (a readout: its potential).

        Args:
            activation: what the synapses deliver, (images, *shape).
            step: index of the chip step, for errors.

        Raises:
            StateOverflowError: a sum or a state left its bits.
        """
        sent: Array = _STEP_OF[type(self.node)](self, self.node, activation, step)
        return sent


def start(
    node: Node, images: int, *, strict: bool = True, window: Window | None = None
) -> Population:
    """A node at the beginning of a sample."""
    shape = (images, *node.shape)
    state = {key: np.zeros(shape, np.int64) for key in _STATE_OF[type(node)]}
    if isinstance(node, Neuron | Readout):
        state["v"] += node.v0
    return Population(node, state, strict=strict, window=window)


def _neuron_step(population: Population, node: Neuron, activation: Array, step: int) -> Array:
    state = population.state
    current = fixed.decay(state["u"], node.du + 1) + (activation << fixed.STATE_SHIFT)
    worst = int(np.abs(current).max(initial=0))
    if not population.strict and worst <= fixed.WRAP_LIMIT:
        population.wraps += int(np.count_nonzero(np.abs(current) > fixed.STATE_RAIL))
        current = fixed.wrap_current(current)
    elif worst > fixed.STATE_RAIL:
        raise StateOverflowError(
            f"node {node.name!r}: its input reaches {worst >> fixed.STATE_SHIFT} weight units in "
            f"chip step {step + 1}, beyond the {fixed.INPUT_LIMIT} that 24 bits hold; quantize "
            "with a larger scale"
        )
    state["u"] = current
    awake = state["rest"] == 0
    moved = fixed.decay(state["v"], node.dv) + current + node.bias
    free = np.where(awake, moved, state["v"])
    v = fixed.saturate(free)
    if population.window is not None and population.strict and np.any(free != v):
        raise StateOverflowError(
            f"node {node.name!r}: its potential reaches {int(np.abs(free).max()) >> 6} weight "
            f"units in chip step {step + 1} while it waits, beyond the {fixed.INPUT_LIMIT} that 24 "
            "bits hold; quantize with a larger scale"
        )
    lower, upper = population.rails
    population.rails = (
        lower + int(np.count_nonzero(free < v)),
        upper + int(np.count_nonzero(free > v)),
    )
    threshold = np.broadcast_to(node.vth << fixed.STATE_SHIFT, v.shape)
    spikes = awake & (v > threshold)
    if population.window is not None and not population.window.fires(step + 1):
        spikes = np.zeros_like(spikes)
    after = v - threshold if node.reset == "subtract" else np.zeros_like(v)
    state["v"] = np.where(spikes, after, v)
    state["rest"] = np.where(spikes, node.refractory, np.maximum(state["rest"] - 1, 0))
    sent: Array = spikes.astype(np.int64)
    return sent


def _delta_step(population: Population, node: Delta, activation: Array, step: int) -> Array:
    require_24_bits(f"node {node.name!r}: its input", activation, step)
    return _encode(population.state, node, activation << node.shift, step)


def _sigma_delta_step(
    population: Population, node: SigmaDelta, activation: Array, step: int
) -> Array:
    state = population.state
    require_24_bits(f"node {node.name!r}: its input", activation, step)
    state["sigma"] = state["sigma"] + activation
    require_24_bits(f"node {node.name!r}: sigma", state["sigma"], step)
    x = state["sigma"] + (node.bias << node.shift)
    return _encode(state, node, np.maximum(x, 0) if node.activation == "relu" else x, step)


def _encode(state: dict[str, Array], node: Delta | SigmaDelta, x: Array, step: int) -> Array:
    """Send the part of a change that meets the threshold, keep the rest."""
    require_24_bits(f"node {node.name!r}: its state", x, step)
    threshold = node.vth << node.shift
    delta = x - state["act"] + state["residue"]
    if node.cum_error:
        state["error"] = state["error"] + delta
        sent = np.where(np.abs(state["error"]) >= threshold, delta, 0)
        state["error"] = np.where(sent != 0, 0, state["error"])
    else:
        sent = np.where(np.abs(delta) >= threshold, delta, 0)
    state["residue"] = delta - sent
    state["act"] = x
    message: Array = sent >> node.state_exp
    require_24_bits(f"node {node.name!r}: its message", message, step)
    return message


def _readout_step(population: Population, node: Readout, activation: Array, step: int) -> Array:
    require_24_bits(f"readout {node.name!r}: its input", activation, step)
    potential = population.state["v"] + activation + node.bias
    worst = int(np.abs(potential).max(initial=0))
    if worst > fixed.READOUT_RAIL:
        raise StateOverflowError(
            f"readout {node.name!r}: reaches {worst} in chip step {step + 1}, beyond 32 bits; use "
            "fewer steps or a larger scale"
        )
    population.state["v"] = potential
    return potential


_STEP_OF: dict[type[Node], Callable[..., Any]] = {
    Neuron: _neuron_step,
    Delta: _delta_step,
    SigmaDelta: _sigma_delta_step,
    Readout: _readout_step,
}
_STATE_OF: dict[type[Node], tuple[str, ...]] = {
    Neuron: ("u", "v", "rest"),
    Delta: ("act", "residue", "error"),
    SigmaDelta: ("sigma", "act", "residue", "error"),
    Readout: ("v",),
}
_POTENTIAL_OF: dict[type[Node], str] = {
    Neuron: "v",
    Delta: "act",
    SigmaDelta: "sigma",
    Readout: "v",
}
