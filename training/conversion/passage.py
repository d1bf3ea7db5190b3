"""Calibration messages on their way through a network, one neuron layer at a time.

What each layer sent is held for all images, so that a layer may be changed, balanced or calibrated
on what really reaches it, and no layer runs more often than it is changed.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from spikeship.training.ann.network import INPUT, Network
from spikeship.training.snn.form import sample_shapes
from spikeship.training.snn.neurons import SpikingNeuron

# weighted input is held from measuring it to using it up to so many bytes
_HELD_BYTES = 2**31
# values of the widest layer that are run at once: over time for the neurons (24 MiB in float32,
# which malloc hands out again instead of asking the system for it), and within that for
# convolutions (4 MiB, near a core's cache) and dense layers (32 MiB, so that weights are read less)
_OVER_TIME, _CONV, _DENSE = 6 * 2**20, 2**20, 2**23
# a convolution of fewer channels has no blocked form, and is faster with channels last
_FEW_CHANNELS = 16


class Passage:
    """Messages held where they are in a network, a byte a value, until their last reader is done.

    Args:
        network: in eval mode from now on; its weights may change until a layer that they feed is
            visited.
        messages: int8, shape (images, T, *input_shape).
        visits: the neurons, and the readout's layer, that will be received at, in the network's
            order, each once.
        batch_size: images run at once; by default what is fastest.

    Attributes:
        samples: images times T.
    """

    def __init__(
        self,
        network: Network,
        messages: Tensor,
        visits: Sequence[str],
        batch_size: int | None = None,
    ) -> None:
        self._network = network.eval()
        self._like = next(network.parameters())
        self._images, self._steps = messages.shape[:2]
        self.samples = self._images * self._steps
        self._shapes = sample_shapes(network)
        self._batch_size = batch_size
        self._sent = {INPUT: messages.transpose(0, 1)}
        self._reads = {name: self._senders(name) for name in visits}

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a layer's result for one sample."""
        return self._shapes[name]

    def reads(self, name: str) -> bool:
        """Whether a later visit than a neuron's own reads what it sends."""
        return any(name in senders for later, senders in self._reads.items() if later != name)

    def receive(self, name: str, *, again: bool = True) -> "Received":
        """Weighted input of a neuron, or of the readout; ``again``: it will be read twice."""
        width = self._width(name)
        images = self._batch_size or max(1, _OVER_TIME // (width * self._steps))
        return Received(self, name, range(0, self._images, images), again)

    @torch.no_grad()
    def send(self, name: str, neuron: SpikingNeuron, received: "Received") -> None:
        """Let a neuron fire with what it received, and drop what no later visit reads."""
        if self.reads(name):
            shape = self._steps, self._images, *self._shapes[name]
            sent = torch.empty(shape, dtype=torch.int8, device=self._like.device)
            for part, images in enumerate(received.parts()):
                sent[:, images] = neuron(received.take(part))
            self._sent[name] = sent
        del self._reads[name]
        wanted = set().union(*self._reads.values())
        self._sent = {sender: sent for sender, sent in self._sent.items() if sender in wanted}

    @torch.no_grad()
    def weighted(self, name: str, images: slice) -> Tensor:
        """Weighted input of some images, shape (time, images, …)."""
        layer = self._network[name]
        fed_by = layer.inputs[0] if isinstance(layer.module, SpikingNeuron) else name
        sent = {sender: self._sent[sender][:, images].flatten(0, 1) for sender in self._reads[name]}
        count = len(next(iter(sent.values())))
        result = self._like.new_empty(count, *self._shapes[name])
        most = _DENSE if len(self._shapes[name]) == 1 else _CONV
        for start in range(0, count, max(1, most // self._width(name))):
            chunk = slice(start, start + max(1, most // self._width(name)))
            known = {sender: spikes[chunk].to(self._like) for sender, spikes in sent.items()}
            result[chunk] = self._value(fed_by, known)
        return result.view(self._steps, -1, *self._shapes[name])

    def _width(self, name: str) -> int:
        """Values of the widest of a layer's result and what it comes from."""
        return max(math.prod(self._shapes[near]) for near in (name, *self._reads[name]))

    def _value(self, name: str, known: dict[str, Tensor]) -> Tensor:
        if name in known:
            return known[name]
        layer = self._network[name]
        inputs = [self._value(source, known) for source in layer.inputs]
        if isinstance(layer.module, nn.Conv2d) and layer.module.in_channels < _FEW_CHANNELS:
            inputs = [x.contiguous(memory_format=torch.channels_last) for x in inputs]
        result: Tensor = layer.module(*inputs)
        return result

    def _senders(self, name: str) -> set[str]:
        """Neurons, and the input, whose messages reach a layer without a neuron between."""
        senders: set[str] = set()
        for source in self._network[name].inputs:
            if source == INPUT or isinstance(self._network[source].module, SpikingNeuron):
                senders.add(source)
            else:
                senders |= self._senders(source)
        return senders


class Received:
    """Weighted input of one layer in parts, (time, images, …) each, held as far as memory allows.

    Args:
        passage: where it comes from.
        name: of the neuron, or of the readout's layer.
        starts: each part's first image.
        again: whether to hold anything.
    """

    def __init__(self, passage: Passage, name: str, starts: range, again: bool) -> None:
        self._passage, self._name, self._starts = passage, name, starts
        self._held: list[Tensor | None] = [None] * len(starts)
        self._room = _HELD_BYTES if again else 0

    def parts(self) -> list[slice]:
        """The images of each part."""
        return [slice(start, start + self._starts.step) for start in self._starts]

    def __iter__(self) -> Iterator[Tensor]:
        for part, images in enumerate(self.parts()):
            held = self._held[part]
            if held is None:
                held = self._passage.weighted(self._name, images)
                if held.nbytes <= self._room:
                    self._room -= held.nbytes
                    self._held[part] = held
            yield held

    def shift(self, by: Tensor) -> None:
        """Add to what is held what the layers' biases, and so what is not held, have gained."""
        for held in self._held:
            if held is not None:
                held.add_(by)

    def take(self, part: int) -> Tensor:
        """Return a part, which is not held any longer."""
        held, self._held[part] = self._held[part], None
        if held is None:
            held = self._passage.weighted(self._name, self.parts()[part])
        return held

    @property
    def count(self) -> int:
        """Number of values in all parts."""
        return self._passage.samples * math.prod(self._passage.shape(self._name))
