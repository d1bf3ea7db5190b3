"""Nodes on a torch device: their state, and what they do step after step, in integers.

This file uses torch. All arithmetic is on int32 and int64 tensors: additions, products, truncating
divisions, comparisons. Each is exact on every device, and no order of evaluation matters.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spikeship.hw_models import fixed
from spikeship.hw_models.graph import Delta, Neuron, Node, Readout, SigmaDelta
from spikeship.hw_models.graph.layout import per_neuron
from spikeship.hw_models.graph.windows import Window
from spikeship.hw_models.simulator.torch_device.checks import (
    Limit,
    Phase,
    Watch,
    beyond_24_bits,
    magnitude,
)

RAIL = fixed.STATE_RAIL
WEIGHT_UNIT = 1 << fixed.STATE_SHIFT


@dataclass
class State:
    """A population over the images of one chunk.

    Attributes:
        values: tensors (images, neurons) by Lava's names of them.
        rails: neuron-steps at the lower and at the upper rail, int64 (2,).
    """

    values: dict[str, Tensor]
    rails: Tensor


@dataclass(frozen=True)
class Kept:
    """Where to write what was asked for, tensors (steps, images, neurons)."""

    potentials: Tensor
    currents: Tensor


@dataclass(frozen=True)
class Span:
    """The steps that are run, and what to note in them.

    Attributes:
        first: the chip's number, from 0, of the first one.
        watch: where to note magnitudes.
        kept: where to write states, None for nowhere.
    """

    first: int
    watch: Watch
    kept: Kept | None = None


class DevicePopulation(ABC):
    """Neurons of one node.

    Attributes:
        neurons: how many.
        sends: type of what they send.
        state_bytes: bytes of a neuron's state, and of what is worked out from it in one step.
        copies_sums: whether all sums are copied to 64 bits.
    """

    sends: torch.dtype = torch.int32
    state_bytes = 72
    copies_sums = True

    def __init__(self, node: Node, device: torch.device) -> None:
        self.name, self.shape, self.device = node.name, node.shape, device
        self.neurons = int(np.prod(node.shape, dtype=np.int64))

    @abstractmethod
    def start(self, images: int) -> State:
        """State at the beginning of a sample."""

    @abstractmethod
    def advance(self, state: State, activation: Tensor, sent: Tensor, span: Span) -> None:
        """Run some steps; the state is changed in place.

        Args:
            state: of these images.
            activation: sums (steps, images, neurons), int32 or int64; may be overwritten.
            sent: where to write messages (of a readout: potentials), the same shape.
            span: which steps these are.
        """

    def _zeros(self, images: int, names: Mapping[str, torch.dtype]) -> State:
        shape = (images, self.neurons)
        values = {
            name: torch.zeros(shape, dtype=kind, device=self.device) for name, kind in names.items()
        }
        return State(values, torch.zeros(2, dtype=torch.int64, device=self.device))

    def _flat(self, values: NDArray[np.int64], kind: torch.dtype) -> Tensor:
        return torch.tensor(per_neuron(values, self.shape), dtype=kind, device=self.device)


class Spiking(DevicePopulation):
    """Leaky integrate-and-fire neurons.

    u is carried only where some of it is kept. It and a leaking v are 64 bits wide, for their
    products with 12-bit decays; a v without leak is 32 bits wide.
    """

    sends = torch.int8
    state_bytes = 40
    copies_sums = False

    def __init__(self, node: Neuron, device: torch.device, window: Window | None = None) -> None:
        super().__init__(node, device)
        self.window = window
        self.kept_u = fixed.DECAY_UNITY - 1 - node.du
        self.leaks = bool(np.any(node.dv))
        self.type = torch.int64 if self.leaks else torch.int32
        self.kept_v = self._flat(fixed.DECAY_UNITY - node.dv, torch.int64)
        self.vth = self._flat(node.vth << fixed.STATE_SHIFT, torch.int32)
        self.bias = self._flat(node.bias, torch.int32)
        self.v0 = self._flat(node.v0, self.type)
        self.lowest, self.highest = int(node.v0.min()), int(node.v0.max())
        self.drift = (int(node.bias.min()), int(node.bias.max()))
        self.soft, self.refractory = node.reset == "subtract", node.refractory
        self.limit = Limit(
            Phase.NODE,
            RAIL,
            lambda worst, step: (
                f"node {node.name!r}: its input reaches {worst >> fixed.STATE_SHIFT} weight units "
                f"in chip step {step}, beyond the {fixed.INPUT_LIMIT} that 24 bits hold; quantize "
                "with a larger scale"
            ),
        )

        # while a staged population waits, nothing may be lost at a rail
        self.wait_limit = Limit(
            Phase.NODE,
            RAIL,
            lambda worst, step: (
                f"node {node.name!r}: its potential leaves 24 bits in chip step {step} while it "
                "waits; quantize with a larger scale"
            ),
        )

    def start(self, images: int) -> State:
        """Current 0, potential V0, awake."""
        state = self._zeros(images, {"u": torch.int64, "v": self.type, "rest": torch.int8})
        state.values["v"] += self.v0
        return state

    def advance(self, state: State, activation: Tensor, sent: Tensor, span: Span) -> None:
        """Run some steps; see DevicePopulation."""
        v = state.values["v"]
        met = self._rails_met(activation)
        for t, drive in enumerate(self._drives(state.values["u"], activation, span)):
            before = v.clone() if self.refractory else None
            if self.leaks:
                v.mul_(self.kept_v).div_(fixed.DECAY_UNITY, rounding_mode="trunc")
            v.add_(drive)
            if before is not None:
                torch.where(state.values["rest"] == 0, v, before, out=v)
            if self.window is not None and any(met[t]):
                span.watch.add(self.wait_limit, magnitude(v, kept=0)[None], span.first + t)
            self._clip(v, state.rails, *met[t])
            if self.window is None or self.window.fires(span.first + t + 1):
                self._fire(state.values, sent[t])
            else:
                sent[t].zero_()
            if span.kept:
                span.kept.potentials[t].copy_(v)

    def _drives(self, u: Tensor, activation: Tensor, span: Span) -> Iterator[Tensor]:
        """What each step adds to v: current and bias."""
        if self.kept_u == 0:
            span.watch.add(self.limit, magnitude(activation) << fixed.STATE_SHIFT, span.first)
            activation.mul_(WEIGHT_UNIT)
            if span.kept:
                span.kept.currents.copy_(activation)
            yield from activation.add_(self.bias)
            return
        worst = []
        for t, arrived in enumerate(activation):
            u.mul_(self.kept_u).div_(fixed.DECAY_UNITY, rounding_mode="trunc")
            u.add_(arrived, alpha=WEIGHT_UNIT)
            worst.append(magnitude(u, kept=0))
            if span.kept:
                span.kept.currents[t].copy_(u)
            yield u + self.bias
        span.watch.add(self.limit, torch.stack(worst), span.first)

    def _rails_met(self, activation: Tensor) -> list[tuple[bool, bool]]:
        """Whether v may meet its lower and its upper rail, step by step.

        A look at the smallest and the largest sums of each step bounds v from both sides, and most
        steps then need no clipping. For a single step the look costs more than it saves.
        """
        if len(activation) == 1:
            return [(True, True)]
        sums = torch.stack(activation.flatten(1).aminmax(dim=1)).tolist()
        low, high, least, most = self.lowest, self.highest, 0, 0
        met = []
        for smallest, largest in zip(*sums, strict=True):
            # what is kept of u and v lies between them and 0
            least = (least if self.kept_u else 0) + WEIGHT_UNIT * smallest
            most = (most if self.kept_u else 0) + WEIGHT_UNIT * largest
            least, most = min(least, 0), max(most, 0)
            low = min(low, 0) + min(least + self.drift[0], 0)
            high = max(high, 0) + max(most + self.drift[1], 0)
            met.append((low < -RAIL, high > RAIL))
            low, high = max(low, -RAIL), min(high, RAIL)
        return met

    def _clip(self, v: Tensor, rails: Tensor, lower: bool, upper: bool) -> None:
        if lower:
            rails[0] += torch.count_nonzero(v < -RAIL)
        if upper:
            rails[1] += torch.count_nonzero(v > RAIL)
        if lower or upper:
            v.clamp_(-RAIL, RAIL)

    def _fire(self, values: dict[str, Tensor], sent: Tensor) -> None:
        v, rest = values["v"], values["rest"]
        fired = sent.view(torch.bool)
        torch.gt(v, self.vth, out=fired)
        if self.refractory:
            fired.logical_and_(rest == 0)
            rest.sub_(1).clamp_(min=0).masked_fill_(fired, self.refractory)
        if self.soft:
            v.addcmul_(sent, self.vth, value=-1)
        else:
            v.masked_fill_(fired, 0)


class Graded(DevicePopulation):
    """Delta and sigma-delta neurons, in 64 bits: what leaves 24 of them is an error."""

    def __init__(self, node: Delta | SigmaDelta, device: torch.device) -> None:
        super().__init__(node, device)
        self.shift, self.state_exp, self.cumulative = node.shift, node.state_exp, node.cum_error
        self.vth = self._flat(node.vth << node.shift, torch.int64)
        self.adds_up = isinstance(node, SigmaDelta)
        self.bias = torch.zeros((), dtype=torch.int64, device=device)
        self.rectified = False
        if isinstance(node, SigmaDelta):
            self.bias = self._flat(node.bias << node.shift, torch.int64)
            self.rectified = node.activation == "relu"
        self.limits = {
            key: beyond_24_bits(Phase.NODE, f"node {node.name!r}: {what}")
            for key, what in {
                "input": "its input",
                "sigma": "sigma",
                "x": "its state",
                "message": "its message",
            }.items()
        }

    def start(self, images: int) -> State:
        """All 0."""
        names = ("sigma", "act", "residue", "error")
        return self._zeros(images, dict.fromkeys(names, torch.int64))

    def advance(self, state: State, activation: Tensor, sent: Tensor, span: Span) -> None:
        """Run some steps; see DevicePopulation."""
        values = state.values
        worst: dict[str, list[Tensor]] = {key: [] for key in self.limits}
        for t, arrived in enumerate(activation.to(torch.int64)):
            worst["input"].append(magnitude(arrived, kept=0))
            if self.adds_up:
                x = values["sigma"].add_(arrived) + self.bias
                worst["sigma"].append(magnitude(values["sigma"], kept=0))
            else:
                x = arrived << self.shift
            if self.rectified:
                x.clamp_(min=0)
            worst["x"].append(magnitude(x, kept=0))
            message = self._changes(values, x) >> self.state_exp
            worst["message"].append(magnitude(message, kept=0))
            sent[t].copy_(message)
            if span.kept:
                span.kept.currents[t].zero_()
                span.kept.potentials[t].copy_(values["sigma" if self.adds_up else "act"])
        for key, found in worst.items():
            if found:
                span.watch.add(self.limits[key], torch.stack(found), span.first)

    def _changes(self, values: dict[str, Tensor], x: Tensor) -> Tensor:
        """What meets the threshold of a change is sent, the rest of it kept."""
        delta = x - values["act"] + values["residue"]
        error = values["error"].add_(delta) if self.cumulative else delta
        changes = delta.masked_fill(error.abs() < self.vth, 0)
        if self.cumulative:
            error.masked_fill_(changes != 0, 0)
        values["residue"] = delta.sub_(changes)
        values["act"] = x
        return changes


class Accumulating(DevicePopulation):
    """The readout: what it sends is its potential."""

    def __init__(self, node: Readout, device: torch.device) -> None:
        super().__init__(node, device)
        self.bias = self._flat(node.bias, torch.int64)
        self.v0 = self._flat(node.v0, torch.int64)
        where = f"readout {node.name!r}"
        self.input_limit = beyond_24_bits(Phase.NODE, f"{where}: its input")
        self.limit = Limit(
            Phase.NODE,
            fixed.READOUT_RAIL,
            lambda worst, step: (
                f"{where}: reaches {worst} in chip step {step}, beyond 32 bits; use fewer steps "
                "or a larger scale"
            ),
        )

    def start(self, images: int) -> State:
        """Potential V0."""
        state = self._zeros(images, {"v": torch.int64})
        state.values["v"] += self.v0
        return state

    def advance(self, state: State, activation: Tensor, sent: Tensor, span: Span) -> None:
        """Run some steps; see DevicePopulation."""
        span.watch.add(self.input_limit, magnitude(activation), span.first)
        total = activation.to(torch.int64, copy=True).add_(self.bias)
        total[0] += state.values["v"]
        total.cumsum_(0)
        span.watch.add(self.limit, magnitude(total), span.first)
        state.values["v"] = total[-1].clone()
        sent.copy_(total)
        if span.kept:
            span.kept.potentials.copy_(total)
            span.kept.currents.zero_()


_POPULATIONS: dict[type[Node], Callable[..., DevicePopulation]] = {
    Neuron: Spiking,
    Delta: Graded,
    SigmaDelta: Graded,
    Readout: Accumulating,
}


def population(node: Node, device: torch.device, window: Window | None = None) -> DevicePopulation:
    """The population of a node on a device; ``window``: when it fires, in a staged graph.

    Raises:
        TypeError: a kind of node the device path does not know.
    """
    kind = _POPULATIONS.get(type(node))
    if kind is None:
        raise TypeError(f"node {node.name!r}: the device path knows no {type(node).__name__}")
    if isinstance(node, Neuron):
        return Spiking(node, device, window)
    return kind(node, device)
