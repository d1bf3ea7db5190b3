"""Layers that keep for backward how to make their input again from bytes, not the input itself.

A weighted layer's gradient needs its input: spikes, perhaps pooled or with elements dropped, four
bytes a value. What the neurons keep for their own backward pass says the same in one byte, so each
value carries a way to make it again, and only that is kept.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

Again = Callable[[slice], Tensor]
EVERY = slice(None)
# a convolution's input and its gradient go through in parts of about so many values
_PART = 2**22
# up to so many samples, writing a dense layer's gradient takes longer than computing it
_FEW_SAMPLES = 512


class Value(NamedTuple):
    """A value between layers.

    Attributes:
        tensor: the value, time and batch folded into its first axis.
        again: makes it anew for a slice of the steps, without gradient, as a tensor that nothing
            else holds; None where nothing will ask for it.
    """

    tensor: Tensor
    again: Again | None = None


def run(module: nn.Module, inputs: tuple[Value, ...], steps: int) -> Value:
    """Run a layer without state on its inputs.

    Plain convolutions, dense layers and pools keep nothing of their input's size; other modules
    keep what autograd keeps for them. ``steps`` are folded into the first axis, before the batch.
    """
    known = all(value.again is not None for value in inputs) and torch.is_grad_enabled()
    if not known:
        return Value(module(*(value.tensor for value in inputs)))
    again = [value.again for value in inputs if value.again is not None]
    device = inputs[0].tensor.device.type
    # backward runs outside of the autocast that forward ran in
    casts, kind = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)

    def anew(part: slice) -> Tensor:
        with torch.autocast(device, kind, enabled=casts):
            result: Tensor = module(*(make(part) for make in again))
        return result

    # by what they do: rounding of their weights (qat) makes a type of its own
    weighs = type(module).forward in (nn.Conv2d.forward, nn.Linear.forward)
    if weighs and not isinstance(getattr(module, "padding", 0), str):
        tensor = _Weighted.apply(  # type: ignore[no-untyped-call]
            inputs[0].tensor, module.weight, module.bias, module, again[0], steps
        )
    elif type(module) is nn.AvgPool2d:
        tensor = _Pool.apply(inputs[0].tensor, module)  # type: ignore[no-untyped-call]
    else:
        tensor = module(*(value.tensor for value in inputs))
    return Value(tensor, anew)


class _Weighted(torch.autograd.Function):
    """A convolution or dense layer."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        module: nn.Conv2d | nn.Linear,
        again: Again,
        steps: int,
    ) -> Tensor:
        device, ctx.given = x.device.type, weight.dtype
        if torch.is_autocast_enabled(device):
            kind = torch.get_autocast_dtype(device)
            x, weight = x.to(kind), weight.to(kind)
            bias = None if bias is None else bias.to(kind)
        ctx.save_for_backward(weight)
        ctx.module, ctx.again, ctx.steps = module, again, steps
        ctx.shape = x.shape
        if isinstance(module, nn.Linear):
            return functional.linear(x, weight, bias)
        return functional.conv2d(
            x, weight, bias, module.stride, module.padding, module.dilation, module.groups
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (weight,), module = ctx.saved_tensors, ctx.module
        grad = grads[0].to(weight.dtype)
        needs = ctx.needs_input_grad
        with torch.no_grad():
            if isinstance(module, nn.Conv2d):
                grad_x, grad_weight, grad_bias = _conv_gradients(ctx, grad, weight)
            else:
                x = ctx.again(EVERY).to(weight.dtype)
                grad_x = grad @ weight if needs[0] else None
                grad_weight = _weight_gradient(grad, x, ctx.given) if needs[1] else None
                grad_bias = grad.sum(0) if needs[2] else None
        given = ctx.given
        return (
            grad_x,
            None if grad_weight is None else grad_weight.to(given),
            None if grad_bias is None else grad_bias.to(given),
            None,
            None,
            None,
        )


def _conv_gradients(ctx: Any, grad: Tensor, weight: Tensor) -> tuple[Tensor | None, ...]:
    """Gradients of input, weights and bias, the input made again in parts."""
    module, steps, needs = ctx.module, ctx.steps, ctx.needs_input_grad[:3]
    batch = len(grad) // steps
    size = max(1, _PART * steps // max(ctx.shape.numel(), grad.numel()))
    whole = None
    if needs[0]:
        whole = torch.empty(
            ctx.shape, dtype=grad.dtype, device=grad.device, memory_format=torch.channels_last
        )
    sums: list[Tensor | None] = [None, None]
    for begin in range(0, steps, size):
        part = slice(begin, min(begin + size, steps))
        rows = slice(part.start * batch, part.stop * batch)
        x = ctx.again(part).to(weight.dtype)
        found = torch.ops.aten.convolution_backward(
            grad[rows],
            x,
            weight,
            [len(weight)] if needs[2] else None,
            module.stride,
            module.padding,
            module.dilation,
            False,
            [0, 0],
            module.groups,
            needs,
        )
        if whole is not None:
            whole[rows] = found[0]
        for place, more in enumerate(found[1:]):
            before = sums[place]
            sums[place] = more if before is None or more is None else before + more
    return whole, *sums


def _weight_gradient(grad: Tensor, x: Tensor, kind: torch.dtype) -> Tensor:
    """Gradient of a dense layer's weights, in the weights' own type where that costs nothing.

    In bfloat16 the result would be written twice, once rounded. With few samples the factors are
    small, and widening them lets the product, still of bfloat16 numbers, come out in float32.
    """
    if grad.dtype != torch.bfloat16 or grad.device.type != "cpu" or len(grad) > _FEW_SAMPLES:
        return grad.mT @ x
    backend: Any = torch.backends.mkldnn
    matmul = backend.matmul
    before = matmul.fp32_precision
    matmul.fp32_precision = "bf16"
    try:
        return grad.to(kind).mT @ x.to(kind)
    finally:
        matmul.fp32_precision = before


class _Pool(torch.autograd.Function):
    """An average pool whose kernel is its stride and divides its input."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, module: nn.AvgPool2d) -> Tensor:
        result: Tensor = module(x)
        ctx.side = x.shape[-1] // result.shape[-1]
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad, side = grads[0] / ctx.side**2, ctx.side
        # each value once for every element of its window, in the order they lie in memory
        if not grad.is_contiguous(memory_format=torch.channels_last):
            samples, channels, height, width = grad.shape
            spread = grad[:, :, :, None, :, None].expand(-1, -1, -1, side, -1, side)
            return spread.reshape(samples, channels, height * side, width * side), None
        grad = grad.permute(0, 2, 3, 1)
        samples, height, width, channels = grad.shape
        spread = grad[:, :, None, :, None].expand(-1, -1, side, -1, side, -1)
        whole = spread.reshape(samples, height * side, width * side, channels)
        return whole.permute(0, 3, 1, 2), None
