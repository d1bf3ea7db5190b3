"""Spiking neurons over time, and the network made of them.

At local step t a neuron takes what its inputs emitted at their own step t::

    V <- leak * V + I(t);   s(t) = 1 where V > theta else 0;   V <- V - theta * s(t)   (or V <- 0)

Nothing crosses layers out of step, so a layer is computed for all T steps at once: stateless
layers see time and batch folded into one axis, neurons scan over time (``scan``).
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from spikeship.training.compact import EVERY, Value, run
from spikeship.training.encoding import InputCoding
from spikeship.training.network import Layer, Network
from spikeship.training.paper_frame import scan_paper
from spikeship.training.scan import Recompute, Rule, can_pool, pooled, scan
from spikeship.training.surrogates import surrogate

Reset = Literal["subtract", "zero"]
Timing = Literal["local", "paper"]

# a learnt threshold stays above this part of where it began
_LEAST_PART = 1e-3


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
        timing: ``local`` decides on the V of the step itself, as the chip does; ``paper`` on that
            of the step before (``paper_frame``).

    Raises:
        ValueError: a value outside its range, or an unknown surrogate.
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
        timing: Timing = "local",
    ) -> None:
        super().__init__()
        theta = torch.as_tensor(threshold)
        kept = torch.as_tensor(leak, dtype=theta.dtype)
        if not bool((theta > 0).all()):
            raise ValueError(f"threshold must be positive, got {float(theta.min())}")
        if not bool(((kept >= 0) & (kept <= 1)).all()):
            raise ValueError(f"leak must lie in 0..1, got {leak}")
        if reset not in ("subtract", "zero"):
            raise ValueError(f"reset {reset!r} is not known; use subtract or zero")
        if timing not in ("local", "paper") or (timing == "paper" and reset != "subtract"):
            raise ValueError(
                f"timing {timing!r} with reset {reset!r} is not known; use local, or paper with "
                "reset subtract"
            )
        surrogate(surrogate_name)
        self.register_buffer("threshold", theta)
        self.register_buffer("leak", kept)
        self.register_buffer("v0", torch.as_tensor(v0, dtype=theta.dtype))
        self.reset: Reset = reset
        self.surrogate_name = surrogate_name
        self.attached = attached
        self.timing: Timing = timing
        # decide as the integers do; for weighted input in weight units (qat)
        self.integers = False
        self._least = 0.0

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
        if self.timing == "paper":
            spikes = scan_paper(weighted, self.threshold, self.leak, self.v0, self.surrogate_name)
            return spikes, spikes.detach().to(torch.uint8)
        rule = Rule(self.reset == "zero", self.surrogate_name, self.attached, self.integers)
        return scan(weighted, self.threshold, self.leak, self.v0, rule, recompute, pool)

    def learn(self, *, threshold: bool = False, leak: bool = False) -> None:
        """Make theta or the leak parameters, one for every value they hold now."""
        for name, wanted in (("threshold", threshold), ("leak", leak)):
            value = getattr(self, name)
            if wanted and not isinstance(value, nn.Parameter):
                delattr(self, name)
                self.register_parameter(name, nn.Parameter(value.detach().clone()))
        self._least = _LEAST_PART * float(self.threshold.detach().min())

    @torch.no_grad()
    def constrain(self) -> None:
        """Bring what is learnt back into its range, as an optimizer's step may leave it."""
        if isinstance(self.threshold, nn.Parameter):
            self.threshold.clamp_(min=self._least)
        if isinstance(self.leak, nn.Parameter):
            self.leak.clamp_(0.0, 1.0)

    def extra_repr(self) -> str:
        """Say what ``repr`` shows."""
        return f"reset={self.reset}, {self.surrogate_name}, {self.timing}"


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

    Setting ``checkpointing`` keeps no potentials for backward and computes them again there: less
    memory with surrogates that depend on the potential, one more forward pass of each layer.
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
        self.checkpointing = False

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
        outputs = self.outputs(messages)
        # sums of half precision would be rounded at every step
        return outputs.sum(0, dtype=torch.promote_types(outputs.dtype, torch.float32))

    def outputs(self, messages: Tensor) -> Tensor:
        """Return what the readout receives at every step, shape (time, batch, classes).

        Spikes that only a pool reads are averaged as they are made, and never held.

        Args:
            messages: as for ``forward``.

        Raises:
            ValueError: messages of another shape.
        """
        last: Value | None = None
        # one after the other, so that none is held while the next layer runs
        for layer, inputs, result in self._run(messages, self._pools()):
            if layer.name == self.network.output:
                last = result
            del inputs, result
        assert last is not None  # a network ends in its output
        return _unfolded(last.tensor, (messages.shape[1], messages.shape[0]))

    def walk(self, messages: Tensor) -> Iterator[Activity]:
        """Run the network; yield what each neuron and, last, the readout received and sent.

        A value is dropped once its last reader has run; a caller that drops what is yielded
        holds no more than the network needs.

        Args:
            messages: as for ``forward``.

        Raises:
            ValueError: messages of another shape.
        """
        folded = messages.shape[1], messages.shape[0]
        for layer, inputs, result in self._run(messages, {}):
            if isinstance(layer.module, SpikingNeuron):
                weighted, spikes = (_unfolded(value.tensor, folded) for value in (*inputs, result))
                yield Activity(layer.name, weighted, spikes)
                del weighted, spikes
            elif layer.name == self.network.output:
                yield Activity(layer.name, _unfolded(result.tensor, folded), None)
            del inputs, result

    def _run(
        self, messages: Tensor, pools: Mapping[str, int]
    ) -> Iterator[tuple[Layer, tuple[Value, ...], Value]]:
        """Run all layers, each neuron named in ``pools`` together with the pool that reads it."""
        shape = self.network.input_shape
        if messages.ndim != len(shape) + 2 or tuple(messages.shape[2:]) != shape:
            raise ValueError(
                f"messages have shape {tuple(messages.shape)}, the network takes (batch, time, "
                f"{', '.join(map(str, shape))}); encode images of its input shape"
            )
        folded = messages.shape[1], messages.shape[0]
        done: set[str] = set()

        def call(layer: Layer, inputs: tuple[Value, ...]) -> Value:
            module = layer.module
            if isinstance(module, SpikingNeuron):
                pool = pools.get(layer.name, 1)
                if pool > 1 and can_pool(_unfolded(inputs[0].tensor, folded)):
                    done.add(layer.name)
                else:
                    pool = 1
                return self._fire(module, inputs[0], folded, pool)
            if isinstance(module, HeldDropout):
                return self._drop(module, inputs[0], folded)
            if layer.inputs[0] in done:
                return inputs[0]
            return run(module, inputs, folded[0])

        start = Value(self._fold(messages), lambda part: self._fold(messages[:, part]))
        return self.network.walk(start, call)

    def _pools(self) -> dict[str, int]:
        """Side of the pool that alone reads a neuron's spikes, by the neuron's name."""
        sides = {}
        for name, neuron in self.neurons.items():
            readers = self.network.consumers(name)
            pool = readers[0].module if len(readers) == 1 else None
            if type(pool) is nn.AvgPool2d and neuron.timing == "local":
                kernel = pool.kernel_size
                sides[name] = kernel if isinstance(kernel, int) else kernel[0]
        return sides

    def _fold(self, messages: Tensor) -> Tensor:
        like = next(self.parameters())
        folded = messages.transpose(0, 1).flatten(0, 1).to(like, copy=True)
        if folded.ndim == 4:
            folded = folded.contiguous(memory_format=torch.channels_last)
        return folded

    def _fire(
        self, neuron: SpikingNeuron, value: Value, folded: tuple[int, int], pool: int
    ) -> Value:
        recompute = None
        if self.checkpointing and value.again is not None:
            again = value.again

            def recompute() -> Tensor:
                return _unfolded(again(EVERY), folded)

        spikes, held = neuron.fire(_unfolded(value.tensor, folded), recompute, pool)
        kind = spikes.dtype

        def anew(part: slice) -> Tensor:
            some = held[part]
            return (some.to(kind) if pool == 1 else pooled(some, pool, kind)).flatten(0, 1)

        return Value(spikes.flatten(0, 1), anew if held.numel() else None)

    def _drop(self, dropout: HeldDropout, value: Value, folded: tuple[int, int]) -> Value:
        if not self.training:
            return value
        tensor = _unfolded(value.tensor, folded)
        mask = dropout.mask(tensor)
        again = value.again

        def anew(part: slice) -> Tensor:
            assert again is not None
            x = again(part)
            return x.view(-1, *mask.shape).mul_(mask).flatten(0, 1)

        return Value((tensor * mask).flatten(0, 1), None if again is None else anew)


def _unfolded(x: Tensor, folded: tuple[int, int]) -> Tensor:
    """Part the first axis into time and batch."""
    return x.view(*folded, *x.shape[1:])
