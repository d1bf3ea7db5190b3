"""Weights for what quantized layers say: each layer solved anew for its classifier's results.

Layer by layer, with all before it quantized already: weights by ridge least squares from the
layer's quantized inputs to the classifier's pre-activations, then the bound of the activation by
least squares, then the bias so that the mean behind the activation is the classifier's. No
gradients; some hundred images suffice.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from spikeship.training import choices
from spikeship.training.ann.network import Add, Layer, Network
from spikeship.training.conversion.units import MessageScale
from spikeship.training.snn.form import ACTIVATIONS
from spikeship.training.snn.levels import levels

Correction = choices.Correction

# ridge towards the trained weights, as a share of the inputs' mean square
_RIDGE = 0.1
# least squares look at so many positions for each input of a neuron, at least and at most
_ROWS_PER_INPUT, _LEAST_ROWS = 8, 16_384
# a bound is sought among parts of the largest value, on so many values a channel
_PARTS = torch.arange(1, 65, dtype=torch.float64) / 64
_VALUES = 8_192
_MATCHES = 8


class Values(NamedTuple):
    """What a layer gives for the calibration images: the classifier's, and the quantized one's."""

    true: Tensor
    quantized: Tensor


@dataclass
class Fitted:
    """A classifier whose weights were fitted, and the bounds of its activations.

    Attributes:
        ann: the classifier, weights in its own numbers.
        bounds: by activation, one number or (channel, 1, 1).
    """

    ann: Network
    bounds: dict[str, MessageScale] = field(default_factory=dict)


@torch.no_grad()
def fit(
    ann: Network,
    images: Tensor,
    quantized: Tensor,
    num_steps: int,
    correction: Correction,
    given: dict[str, MessageScale],
) -> Fitted:
    """Fit bounds and, if asked for, biases or weights, layer by layer.

    Args:
        ann: batch norm folded, run in eval mode; stays as it is.
        images: calibration images (images, *input_shape).
        quantized: the same as messages say them.
        num_steps: T, the number of levels above 0.
        correction: ``none``, the ``bias`` alone, or weights and bias (``refit``).
        given: bounds that are known, by activation; the others are sought.
    """
    fitting = _Fitting(copy.deepcopy(ann).eval(), num_steps, correction, given)
    for _ in fitting.made.ann.walk(Values(images, quantized), fitting.call):
        pass
    return fitting.made


class _Fitting:
    def __init__(
        self,
        ann: Network,
        num_steps: int,
        correction: Correction,
        given: dict[str, MessageScale],
    ) -> None:
        self.made = Fitted(ann)
        self.num_steps, self.correction, self.given = num_steps, correction, given
        self.draw = torch.Generator().manual_seed(0)

    def call(self, layer: Layer, inputs: Sequence[Values]) -> Values:
        """Run a layer on the true and on the quantized values, fitted first."""
        module = layer.module
        if isinstance(module, ACTIVATIONS):
            return self._activation(layer, inputs[0])
        true = module(*(each.true for each in inputs))
        quantized = module(*(each.quantized for each in inputs))
        if isinstance(module, nn.Conv2d | nn.Linear):
            if self.correction == "refit":
                self._solve(module, inputs[0].quantized, true)
                quantized = module(inputs[0].quantized)
            elif self.correction == "bias" and layer.name == self.made.ann.output:
                _shift(module, (true - quantized).mean(_but_channels(true)))
                quantized = module(inputs[0].quantized)
        elif isinstance(module, Add) and self.correction == "refit":
            quantized = self._take_up(layer, true, quantized)
        return Values(true, quantized)

    def _take_up(self, layer: Layer, true: Tensor, quantized: Tensor) -> Tensor:
        """Let a sum's last weighted branch take up the mean of what its other branches miss."""
        missed = (true - quantized).mean(_but_channels(true))
        for name in reversed(layer.inputs):
            module = self.made.ann[name].module if name != "input" else None
            if isinstance(module, nn.Conv2d | nn.Linear):
                _shift(module, missed)
                return quantized + _shaped(missed, quantized)
        return quantized

    def _activation(self, layer: Layer, before: Values) -> Values:
        true = layer.module(before.true)
        rows, wanted = self._sample(before.quantized, true)
        bound = self.given.get(layer.name)
        if bound is None:
            found = _bounds(rows, wanted, self.num_steps)
        else:
            found = torch.as_tensor(bound, dtype=torch.float64).reshape(-1).expand(len(rows))
        shift = torch.zeros(len(rows), dtype=torch.float64)
        if self.correction != "none":
            shift = _matched(rows, wanted, found, self.num_steps)
            self._shift_source(layer.inputs[0], shift)
        shaped = _shaped(found, true)
        self.made.bounds[layer.name] = shaped[0].double() if true.ndim == 4 else found.clone()
        theta = (shaped / self.num_steps).to(true)
        moved = before.quantized + _shaped(shift, true).to(true)
        said = levels(moved + theta / 2, theta, self.num_steps) * theta
        return Values(true, said)

    def _shift_source(self, name: str, shift: Tensor) -> None:
        """Add to the bias of the layer whose result an activation reads."""
        module = self.made.ann[name].module
        while isinstance(module, Add):
            weighted = [
                source
                for source in self.made.ann[name].inputs
                if source != "input"
                and isinstance(self.made.ann[source].module, nn.Conv2d | nn.Linear | Add)
            ]
            if not weighted:
                return
            name = weighted[-1]
            module = self.made.ann[name].module
        if isinstance(module, nn.Conv2d | nn.Linear):
            _shift(module, shift)

    def _solve(self, module: nn.Conv2d | nn.Linear, inputs: Tensor, wanted: Tensor) -> None:
        """Ridge least squares from a layer's inputs to what it should give."""
        groups = module.groups if isinstance(module, nn.Conv2d) else 1
        rows, targets = self._rows(module, inputs, wanted)
        of_group = rows.shape[1] // groups
        outputs = targets.shape[1] // groups
        weight = module.weight.detach().double().reshape(len(module.weight), -1)
        solved, bias = torch.empty_like(weight), torch.empty(len(weight), dtype=torch.float64)
        for group in range(groups):
            ins = slice(group * of_group, (group + 1) * of_group)
            outs = slice(group * outputs, (group + 1) * outputs)
            x, y = rows[:, ins].double(), targets[:, outs].double()
            x_mean, y_mean = x.mean(0), y.mean(0)
            x, y = x - x_mean, y - y_mean
            gram = x.T @ x / len(x)
            ridge = _RIDGE * gram.diagonal().mean() + torch.finfo(torch.float32).tiny
            pulled = x.T @ y / len(x) + ridge * weight[outs].T
            gram.diagonal().add_(ridge)
            solved[outs] = torch.linalg.solve(gram, pulled).T
            bias[outs] = y_mean - solved[outs] @ x_mean
        if not bool(torch.isfinite(solved).all()):
            return
        module.weight.copy_(solved.reshape(module.weight.shape))
        if module.bias is None:
            module.bias = nn.Parameter(torch.zeros(len(weight)).to(module.weight))
        module.bias.copy_(bias)

    def _rows(
        self, module: nn.Conv2d | nn.Linear, inputs: Tensor, wanted: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Inputs (rows, weights of a neuron) of some positions, and what is wanted there."""
        if isinstance(module, nn.Linear):
            return inputs, wanted
        padding = module.padding
        assert not isinstance(padding, str)
        fan = module.weight[0].numel() * module.groups
        positions = wanted.shape[2] * wanted.shape[3]
        most = max(_LEAST_ROWS, _ROWS_PER_INPUT * fan // module.groups)
        each = min(positions, -(-most // len(inputs)))
        rows, targets = [], []
        for x, y in zip(torch.split(inputs, 32), torch.split(wanted, 32), strict=True):
            unfolded = functional.unfold(
                x, module.kernel_size, module.dilation, padding, module.stride
            )
            some = torch.randperm(positions, generator=self.draw)[:each]
            rows.append(unfolded[:, :, some].transpose(1, 2).flatten(0, 1))
            targets.append(y.flatten(2)[:, :, some].transpose(1, 2).flatten(0, 1))
        return torch.cat(rows), torch.cat(targets)

    def _sample(self, before: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """Some values of each channel, (channels, values), before and behind an activation."""
        rows, targets = (each.movedim(1, 0).flatten(1) for each in (before, wanted))
        if rows.shape[1] > _VALUES:
            some = torch.randint(rows.shape[1], (_VALUES,), generator=self.draw)
            rows, targets = rows[:, some], targets[:, some]
        return rows.double(), targets.double()


def _bounds(rows: Tensor, wanted: Tensor, num_steps: int) -> Tensor:
    """Bound of each channel that leaves the smallest squared error of the levels."""
    # a channel that never fires takes part in nothing: any bound does
    top = torch.maximum(rows.amax(1), wanted.amax(1)).clamp_min(0.0)
    top = torch.where(top > 0, top, top.max().clamp_min(1e-6))
    best = torch.full_like(top, torch.inf)
    found = top.clone()
    for part in _PARTS:
        theta = (part * top / num_steps)[:, None]
        said = levels(rows + theta / 2, theta, num_steps) * theta
        error = (said - wanted).square().mean(1)
        better = error < best
        best, found = torch.where(better, error, best), torch.where(better, part * top, found)
    return found


def _matched(rows: Tensor, wanted: Tensor, bound: Tensor, num_steps: int) -> Tensor:
    """What to add to each channel so that the mean of its levels is what is wanted."""
    theta = (bound / num_steps)[:, None]
    goal = wanted.mean(1)
    shift = torch.zeros_like(bound)
    for _ in range(_MATCHES):
        said = levels(rows + shift[:, None] + theta / 2, theta, num_steps) * theta
        shift = shift + (goal - said.mean(1))
    # not beyond a level: a channel that is seldom on must not be moved by the few
    return shift.clamp(-theta[:, 0], theta[:, 0])


def _shift(module: nn.Conv2d | nn.Linear, by: Tensor) -> None:
    if module.bias is None:
        module.bias = nn.Parameter(torch.zeros(len(module.weight)).to(module.weight))
    module.bias.add_(by.to(module.bias))


def _but_channels(x: Tensor) -> tuple[int, ...]:
    return (0, *range(2, x.ndim))


def _shaped(by_channel: Tensor, like: Tensor) -> Tensor:
    return by_channel.reshape(1, -1, *[1] * (like.ndim - 2))
