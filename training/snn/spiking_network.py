"""A spiking network: neurons, layers without state, and how images become messages."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from spikeship.hw_models.errors import InputError
from spikeship.training import choices
from spikeship.training.ann.network import Layer, Network
from spikeship.training.snn.encoding import InputCoding
from spikeship.training.snn.neurons import HeldDropout, SpikingNeuron
from spikeship.training.snn.recompute import EVERY, Value, run
from spikeship.training.snn.scan import can_pool, pooled

Timing = choices.Timing


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


class Readout(Protocol):
    """How the class scores come from what the last layer gives at every step."""

    def check(self, device: torch.device) -> None:
        """Check that the precision in force on a device can hold the network's numbers."""
        ...

    def sum(self, outputs: Tensor) -> Tensor:
        """Sum outputs of shape (time, batch, classes) over time."""
        ...


class RealReadout:
    """A sum of real numbers, in float32 or wider."""

    def check(self, device: torch.device) -> None:
        """Take any precision."""

    def sum(self, outputs: Tensor) -> Tensor:
        """Sum outputs of shape (time, batch, classes) over time."""
        # sums of half precision would be rounded at every step
        return outputs.sum(0, dtype=torch.promote_types(outputs.dtype, torch.float32))


class SpikingNetwork(nn.Module):
    """A network of spiking neurons that ends in an accumulator, and how it is to be fed.

    Args:
        network: layers ``Conv2d``, ``Linear``, ``AvgPool2d``, ``Flatten``, ``Add``, ``Scale``,
            ``HeldDropout`` and ``SpikingNeuron``, where it is staged also ``MaxPool2d``; the last
            is the ``Linear`` that is read out.
        coding: how an input becomes messages; its scale is already in the first weights.
        num_steps: T it was made for.
        ranges: smallest and largest weighted input W·s (all branches, without bias) seen by each
            neuron and, under the last layer's name, by the readout.
        data: JSON object, ``name``, ``mean`` and ``std`` of the data set.
        provenance: JSON object, how the network came to be.
        readout: how class scores come from the last layer; a sum of real numbers by default.
        timing: ``pipelined``, or ``staged``: each population waits for its whole input and then
            fires, so one pass over counts of spikes is the whole sample, biases enter once, and
            the network belongs to its ``num_steps``.

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
        readout: Readout | None = None,
        timing: Timing = "pipelined",
    ) -> None:
        super().__init__()
        if num_steps < 1:
            raise InputError(f"num_steps must be at least 1, got {num_steps}")
        self.network = network
        self.coding = coding
        self.num_steps = num_steps
        self.ranges = dict(ranges or {})
        self.data = dict(data or {})
        self.provenance = dict(provenance or {})
        self.readout = readout or RealReadout()
        self.timing: Timing = timing
        self.checkpointing = False

    @property
    def neurons(self) -> dict[str, SpikingNeuron]:
        """The neurons by name, in order."""
        return {
            layer.name: layer.module
            for layer in self.network.layers
            if isinstance(layer.module, SpikingNeuron)
        }

    def input_steps(self, num_steps: int | None = None) -> int:
        """Steps of the messages that the network takes for T: direct input to a staged one, 1.

        Args:
            num_steps: T; its own where None.

        Raises:
            InputError: a staged network of another T.
        """
        if self.timing == "pipelined":
            return num_steps or self.num_steps
        if num_steps not in (None, self.num_steps):
            raise InputError(
                f"a staged network belongs to its T = {self.num_steps}, not {num_steps}; convert "
                "it for that T"
            )
        return 1 if self.coding.encoding == "direct" else self.num_steps

    def forward(self, messages: Tensor) -> Tensor:
        """Return the readout R, shape (batch, classes): the last layer's sum over all steps.

        Args:
            messages: whole numbers of any dtype, shape (batch, time, *input_shape).

        Raises:
            InputError: messages of another shape, or a precision that cannot hold the network's
                numbers.
        """
        return self.readout.sum(self.outputs(messages))

    def outputs(self, messages: Tensor) -> Tensor:
        """Return what the readout receives at every step, shape (time, batch, classes).

        Of a staged network all of it is one step.
        Spikes that only a pool reads are averaged as they are made, and never held.

        Args:
            messages: as for ``forward``.

        Raises:
            InputError: as for ``forward``.
        """
        last: Value | None = None
        # one after the other, so that none is held while the next layer runs
        for layer, inputs, result in self._run(messages, self._pools()):
            if layer.name == self.network.output:
                last = result
            del inputs, result
        assert last is not None  # a network ends in its output
        return _unfolded(last.tensor, self._folding(messages))

    def walk(self, messages: Tensor) -> Iterator[Activity]:
        """Run the network; yield what each neuron and, last, the readout received and sent.

        Of a staged network that is one step, with counts in place of spikes.
        A value is dropped once its last reader has run; a caller that drops what is yielded
        holds no more than the network needs.

        Args:
            messages: as for ``forward``.

        Raises:
            InputError: as for ``forward``.
        """
        folded = self._folding(messages)
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
        self.readout.check(messages.device)
        shape = self.network.input_shape
        if messages.ndim != len(shape) + 2 or tuple(messages.shape[2:]) != shape:
            raise InputError(
                f"messages have shape {tuple(messages.shape)}, the network takes (batch, time, "
                f"{', '.join(map(str, shape))}); encode images of its input shape"
            )
        if self.timing == "staged":
            if messages.shape[1] != self.input_steps():
                raise InputError(
                    f"messages have {messages.shape[1]} steps, a staged network of "
                    f"T = {self.num_steps} takes {self.input_steps()}; encode them for it"
                )
            messages = messages.sum(1, keepdim=True)
        folded = self._folding(messages)
        done: set[str] = set()

        def call(layer: Layer, inputs: tuple[Value, ...]) -> Value:
            module = layer.module
            if isinstance(module, SpikingNeuron) and self.timing == "staged":
                return Value(module.count(inputs[0].tensor, self.num_steps), None)
            if isinstance(module, SpikingNeuron):
                pool = pools.get(layer.name, 1)
                if pool > 1 and can_pool(
                    _unfolded(inputs[0].tensor, folded), module.surrogate_name
                ):
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
        sides: dict[str, int] = {}
        if self.timing == "staged":
            return sides
        for name in self.neurons:
            readers = self.network.consumers(name)
            pool = readers[0].module if len(readers) == 1 else None
            if type(pool) is nn.AvgPool2d:
                kernel = pool.kernel_size
                sides[name] = kernel if isinstance(kernel, int) else kernel[0]
        return sides

    def _folding(self, messages: Tensor) -> tuple[int, int]:
        """Steps and images that are run."""
        return 1 if self.timing == "staged" else messages.shape[1], messages.shape[0]

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
