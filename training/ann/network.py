"""Network: a directed acyclic graph of named modules, the one form every door leads to."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, overload

import torch
from torch import Tensor, nn

from spikeship.hw_models.errors import InputError
from spikeship.hw_models.names import name_problem

INPUT = "input"
_Value = TypeVar("_Value")
_MOST_SUMMANDS = 10_000


@dataclass(frozen=True)
class Layer:
    """One module of a network and the names of the layers (or ``"input"``) it reads."""

    name: str
    module: nn.Module
    inputs: tuple[str, ...]


class Add(nn.Module):
    """The sum of two or more branches of one shape."""

    def forward(self, *branches: Tensor) -> Tensor:
        """Add the branches."""
        return torch.stack(branches).sum(0) if len(branches) > 2 else branches[0] + branches[1]


class Network(nn.Module):
    """Named layers in an order in which each reads only earlier ones; the last is the output.

    Args:
        layers: the layers in topological order.
        input_shape: shape of one sample, ``(channel, height, width)`` or ``(features,)``.

    Raises:
        ValueError: a name is taken twice, a layer reads something that does not come before it,
            or there is no layer.
    """

    def __init__(self, layers: Sequence[Layer], input_shape: Sequence[int]) -> None:
        super().__init__()
        if not layers:
            raise InputError("network has no layers")
        self.layers = tuple(layers)
        self.input_shape = tuple(int(n) for n in input_shape)
        known = {INPUT}
        self._by_name = {layer.name: layer for layer in self.layers}
        readers: dict[str, dict[str, Layer]] = {}
        for layer in self.layers:
            problem = name_problem(layer.name)
            if problem is not None:
                raise InputError(f"layer {layer.name[:60]!r}: {problem}; rename it")
            if layer.name in known:
                raise InputError(f"layer {layer.name!r} appears twice; names must differ")
            for source in layer.inputs:
                if source not in known:
                    raise InputError(
                        f"layer {layer.name!r} reads {source!r}, which does not come before it"
                    )
                readers.setdefault(source, {})[layer.name] = layer
            known.add(layer.name)
            # torch keeps '.' for its own paths, and a layer may be called as an attribute of ours
            key = f"at/{layer.name.replace('.', '/')}"
            if key in self._modules:
                raise InputError(
                    f"layer {layer.name!r}: another's name differs in '.' and '/' alone; rename it"
                )
            self.add_module(key, layer.module)
        self._readers = {name: tuple(them.values()) for name, them in readers.items()}

    @property
    def output(self) -> str:
        """Name of the layer whose result is the network's."""
        return self.layers[-1].name

    def __getitem__(self, name: str) -> Layer:
        """Return the layer of this name (KeyError when there is none)."""
        return self._by_name[name]

    def consumers(self, name: str) -> tuple[Layer, ...]:
        """Layers that read ``name``."""
        return self._readers.get(name, ())

    def summands(self, name: str) -> list[str]:
        """Layers (or ``"input"``) that a sum adds, those of sums within it included.

        Of a layer that is no sum, the layer itself.

        Raises:
            InputError: sums of sums that add up to more branches than any network has.
        """
        found, waiting = [], [name]
        while waiting:
            each = waiting.pop()
            if each != INPUT and isinstance(self[each].module, Add):
                waiting += reversed(self[each].inputs)
            else:
                found.append(each)
            if len(found) > _MOST_SUMMANDS:
                raise InputError(
                    f"layer {name!r}: adds more than {_MOST_SUMMANDS} branches; put activations "
                    "between its sums"
                )
        return found

    @overload
    def walk(self, x: Tensor) -> Iterator[tuple[Layer, tuple[Tensor, ...], Tensor]]: ...

    @overload
    def walk(
        self, x: _Value, call: Callable[[Layer, tuple[_Value, ...]], _Value]
    ) -> Iterator[tuple[Layer, tuple[_Value, ...], _Value]]: ...

    def walk(
        self, x: Any, call: Callable[[Layer, tuple[Any, ...]], Any] | None = None
    ) -> Iterator[tuple[Layer, tuple[Any, ...], Any]]:
        """Run the network and yield each layer with its inputs and its result, in order.

        A value is dropped once its last reader has run; a caller that drops what is yielded
        holds no more activations than the network needs.

        Args:
            x: what the layers that read ``"input"`` get.
            call: how a layer is run on its inputs; by default its module is called.
        """
        readers = {name: len(self.consumers(name)) for name in (INPUT, *self._names())}
        values = {INPUT: x}
        for layer in self.layers:
            inputs = tuple(values[source] for source in layer.inputs)
            for source in set(layer.inputs):
                readers[source] -= 1
                if readers[source] == 0:
                    del values[source]
            result = layer.module(*inputs) if call is None else call(layer, inputs)
            values[layer.name] = result
            yield layer, inputs, result
            del inputs, result

    def forward(self, x: Tensor) -> Tensor:
        """Return the last layer's result for a batch ``x`` of shape ``(batch, *input_shape)``."""
        result = x
        for _, _, value in self.walk(x):
            result = value
        return result

    def _names(self) -> tuple[str, ...]:
        return tuple(layer.name for layer in self.layers)
