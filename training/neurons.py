"""Spiking neurons over time, and the network made of them.

At local step t a neuron takes what its inputs emitted at their own step t::

    V <- leak * V + I(t);   s(t) = 1 where V > theta else 0;   V <- V - theta * s(t)   (or V <- 0)

Nothing crosses layers out of step, so a layer is computed for all T steps at once: stateless
layers see time and batch folded into one axis, neurons scan contiguous slices of time.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from spikeship.training.encoding import InputCoding
from spikeship.training.network import Layer, Network
from spikeship.training.surrogates import NEVER, Surrogate, TimingSurrogate, surrogate

Reset = Literal["subtract", "zero"]


class _Scan(torch.autograd.Function):
    """A population of neurons over time, with its own backward pass.

    Autograd would keep some five tensors a step. This keeps one byte a neuron and step where the
    slope depends on spike times, and the potential where it depends on that. No gradient passes
    through the reset.
    """

    @staticmethod
    def forward(
        ctx: Any,
        weighted: Tensor,
        threshold: Tensor,
        leak: float,
        v0: float,
        reset: Reset,
        slope: Surrogate,
    ) -> Tensor:
        timing = isinstance(slope, TimingSurrogate)
        history = None
        if ctx.needs_input_grad[0]:
            history = torch.empty_like(weighted, dtype=torch.bool if timing else weighted.dtype)
        spikes = torch.empty_like(weighted)
        v = torch.full_like(weighted[0], v0)
        for t in range(len(weighted)):
            if leak != 1.0:
                v.mul_(leak)
            v.add_(weighted[t])
            fired = v > threshold
            if history is not None:
                history[t] = fired if timing else v
            spikes[t] = fired
            if reset == "subtract":
                v.addcmul_(spikes[t], threshold, value=-1)
            else:
                v.masked_fill_(fired, 0.0)
        if history is not None:
            ctx.save_for_backward(history, threshold)
            ctx.rule = leak, reset, slope
        return spikes

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        history, threshold = ctx.saved_tensors
        leak, reset, slope = ctx.rule
        timing = isinstance(slope, TimingSurrogate)
        result = torch.empty_like(history, dtype=grad.dtype)
        # first what reaches V at each step through that step's spike …
        if timing:
            table = slope.table(len(grad), grad)
            last = torch.full_like(grad[0], -NEVER, dtype=torch.int64)
            for t in range(len(grad)):
                result[t] = torch.take(table, t - last)
                last.masked_fill_(history[t], t)
        else:
            for t in range(len(grad)):
                result[t] = slope.slope(history[t] / threshold - 1)
        result.mul_(grad).div_(threshold)
        # … then, backwards, what V hands on to the next step
        for t in range(len(grad) - 2, -1, -1):
            if reset == "subtract":
                result[t].add_(result[t + 1], alpha=leak)
            else:
                fired = history[t] if timing else history[t] > threshold
                result[t].add_(result[t + 1].masked_fill(fired, 0.0), alpha=leak)
        return result, None, None, None, None, None


class SpikingNeuron(nn.Module):
    """Integrate-and-fire neurons with an optional leak, one population.

    Args:
        threshold: theta, positive: one value, or a tensor that broadcasts to the population's
            shape, such as (channel, 1, 1).
        leak: factor on V from step to step, 0..1; 1 keeps it all.
        v0: V before the first step.
        reset: ``subtract`` theta at a spike, or set V to ``zero``.
        surrogate_name: slope for the backward pass, a name in ``surrogates.SURROGATES``.

    Raises:
        ValueError: a value outside its range, or an unknown surrogate.
    """

    threshold: Tensor

    def __init__(
        self,
        threshold: Tensor | float,
        *,
        leak: float = 1.0,
        v0: float = 0.0,
        reset: Reset = "subtract",
        surrogate_name: str = "linear",
    ) -> None:
        super().__init__()
        theta = torch.as_tensor(threshold)
        if not bool((theta > 0).all()):
            raise ValueError(f"threshold must be positive, got {float(theta.min())}")
        if not 0.0 <= leak <= 1.0:
            raise ValueError(f"leak must lie in 0..1, got {leak}")
        if reset not in ("subtract", "zero"):
            raise ValueError(f"reset {reset!r} is not known; use subtract or zero")
        surrogate(surrogate_name)
        self.register_buffer("threshold", theta)
        self.leak = leak
        self.v0 = v0
        self.reset: Reset = reset
        self.surrogate_name = surrogate_name

    def forward(self, weighted: Tensor) -> Tensor:
        """Turn weighted input of shape (time, batch, …) into spikes, 0 or 1, of that shape."""
        spikes: Tensor = _Scan.apply(  # type: ignore[no-untyped-call]
            weighted,
            self.threshold,
            self.leak,
            self.v0,
            self.reset,
            surrogate(self.surrogate_name),
        )
        return spikes

    def extra_repr(self) -> str:
        """Say what ``repr`` shows."""
        return f"leak={self.leak}, v0={self.v0}, reset={self.reset}, {self.surrogate_name}"


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
            raise ValueError(f"dropout must lie in 0 <= p < 1, got {p}")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Drop elements of ``x``, shape (time, batch, …), in training; else return it."""
        if not self.training:
            return x
        keep = 1.0 - self.p
        return x * torch.empty_like(x[0]).bernoulli_(keep).div_(keep)

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


class Activity(NamedTuple):
    """What one neuron, or the readout, did for a batch.

    Attributes:
        name: of the neuron, or of the last weighted layer.
        weighted: its weighted input with the bias, shape (time, batch, …).
        spikes: what it sent, same shape; None for the readout, which sends nothing.
    """

    name: str
    weighted: Tensor
    spikes: Tensor | None


class SpikingNetwork(nn.Module):
    """A network of spiking neurons that ends in an accumulator, and how it is to be fed.

    Args:
        network: layers ``Conv2d``, ``Linear``, ``AvgPool2d``, ``Flatten``, ``Add``, ``Scale``,
            ``HeldDropout`` and ``SpikingNeuron``; the last is the ``Linear`` that is read out.
        coding: how an input becomes messages; its scale is already in the first weights.
        num_steps: T it was made for.
        ranges: smallest and largest weighted input W·s (all branches, without bias) seen by each
            neuron and, under the last layer's name, by the readout.
        data: JSON object, ``name``, ``mean`` and ``std`` of the data set.
        provenance: JSON object, how the network came to be.
    """

    def __init__(
        self,
        network: Network,
        coding: InputCoding,
        num_steps: int,
        *,
        ranges: Mapping[str, tuple[float, float]] | None = None,
        data: Mapping[str, Any] | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if num_steps < 1:
            raise ValueError(f"num_steps must be at least 1, got {num_steps}")
        self.network = network
        self.coding = coding
        self.num_steps = num_steps
        self.ranges = dict(ranges or {})
        self.data = dict(data or {})
        self.provenance = dict(provenance or {})

    @property
    def neurons(self) -> dict[str, SpikingNeuron]:
        """The neurons by name, in order."""
        return {
            layer.name: layer.module
            for layer in self.network.layers
            if isinstance(layer.module, SpikingNeuron)
        }

    def forward(self, messages: Tensor) -> Tensor:
        """Return the readout R, shape (batch, classes): the last layer's sum over all steps.

        Args:
            messages: whole numbers of any dtype, shape (batch, time, *input_shape).

        Raises:
            ValueError: messages of another shape.
        """
        for name, weighted, spikes in self.walk(messages):
            if name == self.network.output:
                return weighted.sum(0)
            # not kept while the next layer runs
            del weighted, spikes
        raise AssertionError("a network ends in its output")

    def walk(self, messages: Tensor) -> Iterator[Activity]:
        """Run the network; yield what each neuron and, last, the readout received and sent.

        A value is dropped once its last reader has run; a caller that drops what is yielded
        holds no more than the network needs.

        Args:
            messages: as for ``forward``.

        Raises:
            ValueError: messages of another shape.
        """
        shape = self.network.input_shape
        if messages.ndim != len(shape) + 2 or tuple(messages.shape[2:]) != shape:
            raise ValueError(
                f"messages have shape {tuple(messages.shape)}, the network takes (batch, time, "
                f"{', '.join(map(str, shape))}); encode images of its input shape"
            )
        folded = messages.shape[1], messages.shape[0]

        def call(layer: Layer, inputs: tuple[Tensor, ...]) -> Tensor:
            if not isinstance(layer.module, SpikingNeuron | HeldDropout):
                result: Tensor = layer.module(*inputs)
                return result
            (x,) = inputs
            result = layer.module(x.view(*folded, *x.shape[1:]))
            return result.flatten(0, 1)

        for layer, inputs, result in self.network.walk(self._fold(messages), call):
            if isinstance(layer.module, SpikingNeuron):
                weighted, spikes = (x.view(*folded, *x.shape[1:]) for x in (*inputs, result))
                yield Activity(layer.name, weighted, spikes)
                del weighted, spikes
            elif layer.name == self.network.output:
                yield Activity(layer.name, result.view(*folded, *result.shape[1:]), None)
            del inputs, result

    def _fold(self, messages: Tensor) -> Tensor:
        folded = messages.transpose(0, 1).flatten(0, 1).to(next(self.parameters()))
        if folded.ndim == 4:
            folded = folded.contiguous(memory_format=torch.channels_last)
        return folded
