"""Spiking neurons over time, and the network made of them.

At local step t a neuron takes what its inputs emitted at their own step t::

    V <- leak * V + I(t);   s(t) = 1 where V > theta else 0;   V <- V - theta * s(t)   (or V <- 0)

Nothing crosses layers out of step, so a layer is computed for all T steps at once: stateless
layers see time and batch folded into one axis, neurons scan over time (``scan``).
"""

from typing import Protocol

import torch
from torch import Tensor, nn

from spikeship.hw_models.errors import InputError
from spikeship.training import choices
from spikeship.training.snn.levels import levels
from spikeship.training.snn.scan import Recompute, Rule, scan
from spikeship.training.snn.surrogates import surrogate

Reset = choices.Reset

# a learnt threshold stays above this part of where it began
_LEAST_PART = 1e-3


class Numbers(Protocol):
    """The numbers that a population computes in."""

    integers: bool

    def fire(
        self, neuron: "SpikingNeuron", weighted: Tensor, recompute: Recompute | None, pool: int
    ) -> tuple[Tensor, Tensor]:
        """Spikes of the neuron, and the same in bytes; arguments as ``SpikingNeuron.fire``'s."""
        ...

    def constrain(self, neuron: "SpikingNeuron") -> None:
        """Bring the neuron's learnt values back into their range."""
        ...


class RealNumbers:
    """Floating-point numbers: the threshold and the leak as they are."""

    integers = False

    def fire(
        self, neuron: "SpikingNeuron", weighted: Tensor, recompute: Recompute | None, pool: int
    ) -> tuple[Tensor, Tensor]:
        """Spikes of the neuron, and the same in bytes; arguments as ``SpikingNeuron.fire``'s."""
        theta, leak = neuron.threshold, neuron.leak
        return scan(weighted, theta, leak, neuron.v0, neuron.rule, recompute, pool)

    def constrain(self, neuron: "SpikingNeuron") -> None:
        """Keep a learnt threshold positive, a learnt leak in 0..1."""
        if isinstance(neuron.threshold, nn.Parameter):
            neuron.threshold.clamp_(min=neuron.least_threshold)
        if isinstance(neuron.leak, nn.Parameter):
            neuron.leak.clamp_(0.0, 1.0)


class SpikingNeuron(nn.Module):
    """Integrate-and-fire neurons with an optional leak, one population.

    Args:
        threshold: theta, positive: one value, or a tensor that broadcasts to the population's
            shape, such as (channel, 1, 1).
        leak: factor on V from step to step, 0..1, likewise; 1 keeps it all.
        v0: V before the first step, likewise.
        reset: ``subtract`` theta at a spike, or set V to ``zero``.
        surrogate_name: slope for the backward pass, a name in ``surrogates.SURROGATES``.
        attached: whether gradients pass through the reset.
        numbers: what it computes in; real numbers by default.

    Raises:
        InputError: a value outside its range, or an unknown surrogate.
    """

    threshold: Tensor
    leak: Tensor
    v0: Tensor

    def __init__(
        self,
        threshold: Tensor | float,
        *,
        leak: Tensor | float = 1.0,
        v0: Tensor | float = 0.0,
        reset: Reset = "subtract",
        surrogate_name: str = "linear",
        attached: bool = False,
        numbers: Numbers | None = None,
    ) -> None:
        super().__init__()
        theta = torch.as_tensor(threshold)
        kept = torch.as_tensor(leak, dtype=theta.dtype)
        if not bool((theta > 0).all()):
            raise InputError(f"threshold must be positive, got {float(theta.min())}")
        if not bool(((kept >= 0) & (kept <= 1)).all()):
            raise InputError(f"leak must lie in 0..1, got {leak}")
        if reset not in ("subtract", "zero"):
            raise InputError(f"reset {reset!r} is not known; use subtract or zero")
        surrogate(surrogate_name)
        self.register_buffer("threshold", theta)
        self.register_buffer("leak", kept)
        self.register_buffer("v0", torch.as_tensor(v0, dtype=theta.dtype))
        self.reset: Reset = reset
        self.surrogate_name = surrogate_name
        self.attached = attached
        self.numbers = numbers or RealNumbers()
        # a learnt threshold's lower bound
        self.least_threshold = 0.0

    @property
    def rule(self) -> Rule:
        """What ``scan`` follows at each step."""
        zero, integers = self.reset == "zero", self.numbers.integers
        return Rule(zero, self.surrogate_name, self.attached, integers)

    def forward(self, weighted: Tensor) -> Tensor:
        """Turn weighted input of shape (time, batch, …) into spikes, 0 or 1, of that shape."""
        return self.fire(weighted)[0]

    def fire(
        self, weighted: Tensor, recompute: Recompute | None = None, pool: int = 1
    ) -> tuple[Tensor, Tensor]:
        """Spikes as ``forward``'s, and the same in bytes where backward will keep them.

        Args:
            weighted: weighted input, shape (time, batch, …).
            recompute: gives ``weighted`` again; then no potential is kept for backward.
            pool: side of the squares to average spikes over; see ``scan``.
        """
        return self.numbers.fire(self, weighted, recompute, pool)

    def count(self, weighted: Tensor, num_steps: int) -> Tensor:
        """Spikes in T steps of a population that waited for all of its input.

        Args:
            weighted: the sum of its input with the bias, shape (batch, …).
            num_steps: T.
        """
        return levels(weighted + self.v0, self.threshold, num_steps)

    def learn(self, *, threshold: bool = False, leak: bool = False) -> None:
        """Make theta or the leak parameters, one for every value they hold now."""
        for name, wanted in (("threshold", threshold), ("leak", leak)):
            value = getattr(self, name)
            if wanted and not isinstance(value, nn.Parameter):
                delattr(self, name)
                self.register_parameter(name, nn.Parameter(value.detach().clone()))
        self.least_threshold = _LEAST_PART * float(self.threshold.detach().min())

    @torch.no_grad()
    def constrain(self) -> None:
        """Bring what is learnt back into its range, as an optimizer's step may leave it."""
        self.numbers.constrain(self)

    def extra_repr(self) -> str:
        """Say what ``repr`` shows."""
        return f"reset={self.reset}, {self.surrogate_name}"


class HeldDropout(nn.Module):
    """Dropout whose mask is drawn once for the whole sequence of every sample.

    Args:
        p: chance of an element to be dropped, 0 <= p < 1.

    Raises:
        ValueError: ``p`` outside its range.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0.0 <= p < 1.0:
            raise InputError(f"dropout must lie in 0 <= p < 1, got {p}")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Drop elements of ``x``, shape (time, batch, …), in training; else return it."""
        return x * self.mask(x) if self.training else x

    def mask(self, x: Tensor) -> Tensor:
        """Draw a mask for ``x``: 0, or what keeps the mean, shape (batch, …)."""
        keep = 1.0 - self.p
        return torch.empty_like(x[0]).bernoulli_(keep).div_(keep)

    def extra_repr(self) -> str:
        """Say what ``repr`` shows."""
        return f"p={self.p}"


class Scale(nn.Module):
    """A fixed factor on each element: what brings an identity skip into its sum's unit.

    Args:
        factor: one value, or a tensor that broadcasts to a sample's shape.
    """

    factor: Tensor

    def __init__(self, factor: Tensor | float) -> None:
        super().__init__()
        self.register_buffer("factor", torch.as_tensor(factor))

    def forward(self, x: Tensor) -> Tensor:
        """Multiply ``x`` of shape (batch, …)."""
        return x * self.factor
