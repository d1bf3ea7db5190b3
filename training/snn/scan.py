"""A population of neurons over time, as one operation with its own backward pass.

Forward, at local step t, with theta, leak and V0 of each neuron::

    V(t) = leak * U(t-1) + I(t);  s(t) = 1 where V(t) > theta else 0
    U(t) = V(t) - theta * s(t)  (or 0 where it fired);  U(-1) = V0

Backward, sigma(t) the surrogate's slope and k(t) what reaches U(t) from the step after it::

    g(t)     = dL/ds(t)                                          detached reset
    g(t)     = dL/ds(t) - theta * k(t)  (or V(t) for theta)      attached reset
    dL/dV(t) = sigma(t) * g(t) / theta + k(t)  (k is 0 where a hard reset fired)
    k(t-1)   = leak * dL/dV(t)

Autograd would keep some five tensors a step. This keeps one byte a neuron and step where the slope
depends on spike times alone, and the potential where it depends on that. On CPUs both passes are
compiled (``compiled_scan``); the plain form here serves every other device, and says what the
compiled one must give.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spikeship.hw_models import fixed
from spikeship.hw_models.errors import InputError
from spikeship.training.snn import compiled_scan
from spikeship.training.snn.surrogates import NEVER, TimingSurrogate, surrogate

UNITS = 2**fixed.STATE_SHIFT
RAIL = fixed.STATE_RAIL / UNITS
HALF_UNIT = 1 / 128

Recompute = Callable[[], Tensor]


@dataclass(frozen=True)
class Rule:
    """What a population does beside its numbers.

    Attributes:
        hard: whether a spike sets V to 0 rather than subtracting theta.
        surrogate_name: slope of the backward pass.
        attached: whether gradients pass through the reset.
        integers: whether the decisions are the integers' own: V in weight units, clipped to the
            rails, compared with half a state unit above theta, the leak truncated to state units.
    """

    hard: bool = False
    surrogate_name: str = "linear"
    attached: bool = False
    integers: bool = False

    @property
    def offset(self) -> float:
        """What is added to theta where it is compared."""
        return HALF_UNIT if self.integers else 0.0

    def needs_potentials(self, learns: bool) -> bool:
        """Whether the backward pass needs V and not only the spikes."""
        timing = isinstance(surrogate(self.surrogate_name), TimingSurrogate)
        return learns or not timing or (self.attached and self.hard)


def scan(
    weighted: Tensor,
    threshold: Tensor,
    leak: Tensor,
    v0: Tensor,
    rule: Rule,
    recompute: Recompute | None = None,
    pool: int = 1,
) -> tuple[Tensor, Tensor]:
    """Run a population over time.

    Args:
        weighted: its weighted input, shape (time, batch, …), float32, float64 or bfloat16; the
            potential of bfloat16 input is float32.
        threshold: theta, broadcast to a sample's shape; gradients reach it.
        leak: factor on V from step to step, likewise.
        v0: V before the first step, broadcast likewise; a constant.
        rule: the rest.
        recompute: gives ``weighted`` again, so that no potential need be kept for backward.
        pool: average the spikes over squares of this side, as an average pool after the
            population would; only where ``can_pool``.

    Returns:
        Spikes, 0 or 1, of the input's shape and type, or their averages; and the spikes as bytes,
        without gradient: empty where no gradient is wanted.
    """
    result: tuple[Tensor, Tensor] = _Scan.apply(  # type: ignore[no-untyped-call]
        weighted, threshold, leak, v0, rule, recompute, pool
    )
    return result


def can_pool(weighted: Tensor, surrogate_name: str) -> bool:
    """Whether ``scan`` can pool: images on a CPU whose channels lie next to each other.

    Args:
        weighted: weighted input, (time, batch, channel, height, width).
        surrogate_name: slope of the neurons; it must be one of the compiled ones.
    """
    compiled = _engine(weighted, surrogate_name) is _Compiled
    return compiled and not weighted.is_contiguous() and _channels_last(weighted)


def pooled(fired: Tensor, side: int, kind: torch.dtype) -> Tensor:
    """Average spikes in bytes, as ``scan`` gives them where it can pool, over squares."""
    steps, batch, channels, height, width = fired.shape
    shape = (steps * batch, channels, height // side, width // side)
    out = torch.empty(shape, dtype=kind, memory_format=torch.channels_last)
    one = torch.ones((), dtype=_working(kind)).numpy()[()]
    compiled_scan.pool(_pictures(fired.flatten(0, 1)), side, one, _pictures(out))
    return out.view(steps, batch, *shape[1:])


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        weighted: Tensor,
        threshold: Tensor,
        leak: Tensor,
        v0: Tensor,
        rule: Rule,
        recompute: Recompute | None,
        pool: int,
    ) -> tuple[Tensor, Tensor]:
        if pool > 1 and not can_pool(weighted, rule.surrogate_name):
            raise InputError(f"weighted input of shape {tuple(weighted.shape)} cannot be pooled")
        learns = ctx.needs_input_grad[1], ctx.needs_input_grad[2]
        grows = any(ctx.needs_input_grad)
        potentials_needed = rule.needs_potentials(any(learns))
        engine = _engine(weighted, rule.surrogate_name)
        spikes, fired, potentials = engine.forward(
            weighted,
            threshold,
            leak,
            v0,
            rule,
            send=pool == 1,
            keep_spikes=grows or pool > 1,
            keep_potentials=grows and potentials_needed and recompute is None,
        )
        if pool > 1:
            spikes = pooled(fired, pool, weighted.dtype)
        ctx.set_materialize_grads(False)
        if grows:
            kept = potentials if potentials_needed else fired
            ctx.save_for_backward(kept, threshold, leak, v0)
            ctx.rule, ctx.learns, ctx.pool = rule, learns, pool
            ctx.recompute = recompute if potentials_needed else None
        ctx.mark_non_differentiable(fired)
        return spikes, fired

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        kept, threshold, leak, v0 = ctx.saved_tensors
        if grads[0] is None:
            return None, None, None, None, None, None, None
        rule: Rule = ctx.rule
        engine = _engine(grads[0], rule.surrogate_name)
        if ctx.recompute is not None:
            with torch.no_grad():
                weighted = ctx.recompute()
                _, _, kept = engine.forward(
                    weighted,
                    threshold,
                    leak,
                    v0,
                    rule,
                    send=False,
                    keep_spikes=False,
                    keep_potentials=True,
                )
        result, theta_grad, leak_grad = engine.backward(
            grads[0], kept, threshold, leak, v0, rule, ctx.learns, ctx.pool
        )
        return result, theta_grad, leak_grad, None, None, None, None


class _Plain:
    """Step by step in torch, on any device."""

    @staticmethod
    def forward(
        weighted: Tensor,
        threshold: Tensor,
        leak: Tensor,
        v0: Tensor,
        rule: Rule,
        *,
        send: bool,
        keep_spikes: bool,
        keep_potentials: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        kind = _working(weighted.dtype)
        theta, leak = threshold.to(kind), leak.to(kind)
        leaky = bool((leak != 1).any())
        spikes, fired, potentials = _room(weighted, send, keep_spikes, keep_potentials)
        v = v0.to(kind).expand(weighted.shape[1:]).clone()
        for t in range(len(weighted)):
            if leaky and rule.integers:
                v = (torch.trunc(leak.double() * v.double() * UNITS) / UNITS).to(kind)
            elif leaky:
                v = v * leak
            v = v + weighted[t]
            if rule.integers:
                v = v.clamp(-RAIL, RAIL)
            if keep_potentials:
                potentials[t] = v
            fires = v > theta + rule.offset
            if send:
                spikes[t] = fires
            if keep_spikes:
                fired[t] = fires
            v = v.masked_fill(fires, 0.0) if rule.hard else torch.where(fires, v - theta, v)
        return spikes, fired, potentials

    @staticmethod
    def backward(
        grad: Tensor,
        kept: Tensor,
        threshold: Tensor,
        leak: Tensor,
        v0: Tensor,
        rule: Rule,
        learns: tuple[bool, bool],
        pool: int,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        kind = _working(grad.dtype)
        theta, keep = threshold.to(kind), leak.to(kind)
        slope = surrogate(rule.surrogate_name)
        with_potentials = kept.dtype != torch.uint8
        fires = kept > theta + rule.offset if with_potentials else kept.bool()
        if isinstance(slope, TimingSurrogate):
            table = slope.table(len(grad), theta)
            last = torch.full_like(grad[0], -NEVER, dtype=torch.int64)
            slopes = torch.empty_like(grad, dtype=kind)
            for t in range(len(grad)):
                slopes[t] = torch.take(table, t - last)
                last.masked_fill_(fires[t], t)
        else:
            slopes = slope.slope(kept / theta - 1)
        result = torch.empty_like(grad)
        theta_grad = torch.zeros_like(grad[0], dtype=kind)
        leak_grad = torch.zeros_like(theta_grad)
        carried = torch.zeros_like(theta_grad)
        start = v0.to(kind).expand(theta_grad.shape)
        for t in range(len(grad) - 1, -1, -1):
            received = grad[t].to(kind)
            if rule.attached:
                received = received - (kept[t] if rule.hard else theta) * carried
            through = slopes[t] * received / theta
            value = through + (carried.masked_fill(fires[t], 0.0) if rule.hard else carried)
            if any(learns):
                theta_grad -= through * kept[t] / theta
                if not rule.hard:
                    theta_grad -= carried * fires[t]
                before = start
                if t > 0:
                    reset = 0.0 if rule.hard else kept[t - 1] - theta
                    before = torch.where(fires[t - 1], reset, kept[t - 1])
                leak_grad += value * before
            result[t] = value
            carried = keep * value
        return (
            result,
            _reduced(theta_grad, threshold, learns[0]),
            _reduced(leak_grad, leak, learns[1]),
        )


class _Compiled:
    """The same by ``compiled_scan``, on CPUs."""

    @staticmethod
    def forward(
        weighted: Tensor,
        threshold: Tensor,
        leak: Tensor,
        v0: Tensor,
        rule: Rule,
        *,
        send: bool,
        keep_spikes: bool,
        keep_potentials: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        kind = _working(weighted.dtype)
        weighted = _dense(weighted)
        spikes, fired, potentials = _room(weighted, send, keep_spikes, keep_potentials)
        scalar = torch.empty((), dtype=kind).numpy().dtype.type
        theta, keep, start = (_population(value, weighted) for value in (threshold, leak, v0))
        compiled_scan.forward(
            _array(weighted),
            compiled_scan.Neurons(theta, keep, start, rule.hard, scalar(rule.offset)),
            rule.integers,
            scalar(RAIL),
            compiled_scan.Sent(
                _array(spikes, weighted.dtype), _array(fired), _array(potentials, kind)
            ),
        )
        return spikes, fired, potentials

    @staticmethod
    def backward(
        grad: Tensor,
        kept: Tensor,
        threshold: Tensor,
        leak: Tensor,
        v0: Tensor,
        rule: Rule,
        learns: tuple[bool, bool],
        pool: int,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        kind = _working(grad.dtype)
        # in the memory order of what was kept, whatever order the gradient comes in
        kept = _dense(kept)
        result = torch.empty_like(kept, dtype=grad.dtype)
        if pool > 1:
            grad = _in_order(grad)
        elif grad.stride() != result.stride():
            grad = torch.empty_like(result).copy_(grad)
        like = torch.zeros((), dtype=kind)
        scalar = like.numpy().dtype.type
        kind_of_slope, constant = compiled_scan.SLOPES[rule.surrogate_name]
        slope = surrogate(rule.surrogate_name)
        table = like.new_empty(len(grad))
        if isinstance(slope, TimingSurrogate):
            table = slope.table(len(grad), like)
        with_potentials = kept.dtype != torch.uint8
        empty = torch.empty(0, 0, dtype=kind)
        sums = [
            torch.empty_like(kept[0], dtype=kind) if wanted else like.new_empty(0)
            for wanted in learns
        ]
        theta, keep, start = (_population(value, result) for value in (threshold, leak, v0))
        compiled_scan.backward(
            result[0].numel(),
            _array(grad),
            compiled_scan.Neurons(theta, keep, start, rule.hard, scalar(rule.offset)),
            rule.attached,
            compiled_scan.Slope(kind_of_slope, scalar(constant), table.numpy()),
            _array(empty.to(torch.uint8) if with_potentials else kept),
            _array(kept if with_potentials else empty),
            compiled_scan.Pool(
                _windows(kept.shape[2:], pool), grad[0, 0].numel(), scalar(1 / pool**2)
            ),
            compiled_scan.Gradients(
                _array(result),
                *(
                    _array(total[None]).reshape(-1) if total.numel() else total.numpy()
                    for total in sums
                ),
            ),
        )
        return (
            result,
            _reduced(sums[0], threshold, learns[0]),
            _reduced(sums[1], leak, learns[1]),
        )


def _engine(weighted: Tensor, surrogate_name: str) -> type[_Plain] | type[_Compiled]:
    """Compiled code on CPUs, for the slopes it knows; torch's operations for all others."""
    known = surrogate_name in compiled_scan.SLOPES
    return _Compiled if known and weighted.device.type == "cpu" else _Plain


def _working(kind: torch.dtype) -> torch.dtype:
    """Potentials of bfloat16 input are float32."""
    return torch.float64 if kind == torch.float64 else torch.float32


def _room(
    weighted: Tensor, send: bool, keep_spikes: bool, keep_potentials: bool
) -> tuple[Tensor, ...]:
    """Unwritten spikes, spikes in bytes and potentials, each empty where it is not wanted."""
    kinds = weighted.dtype, torch.uint8, _working(weighted.dtype)
    return tuple(
        torch.empty_like(weighted, dtype=kind)
        if wanted
        else torch.empty(0, dtype=torch.uint8, device=weighted.device)
        for kind, wanted in zip(kinds, (send, keep_spikes, keep_potentials), strict=True)
    )


def _reduced(total: Tensor, like: Tensor, wanted: bool) -> Tensor | None:
    """Sum over the batch and over what ``like`` is broadcast to."""
    return total.sum_to_size(like.shape).to(like.dtype) if wanted else None


def _dense(x: Tensor) -> Tensor:
    """Give ``x`` such memory that time is outermost and nothing lies between its values."""
    return x if x.is_contiguous() or _channels_last(x) else x.contiguous()


def _channels_last(x: Tensor) -> bool:
    return x.ndim == 5 and x.permute(0, 1, 3, 4, 2).is_contiguous()


def _in_order(x: Tensor) -> Tensor:
    """Give images (time, batch, channel, height, width) memory with channels innermost."""
    folded = x.flatten(0, 1).contiguous(memory_format=torch.channels_last)
    return folded.view(x.shape)


def _pictures(x: Tensor) -> Any:
    """Memory of images as (samples, height, width, channels), bfloat16 as its bits."""
    return _bits(x.permute(0, 2, 3, 1))


def _windows(shape: Sequence[int], pool: int) -> Any:
    """Place of each neuron's window in a pool's result, both with channels innermost."""
    if pool == 1:
        return torch.empty(0, dtype=torch.int32).numpy()
    channels, height, width = shape
    rows, columns = torch.arange(height) // pool, torch.arange(width) // pool
    window = rows[:, None] * (width // pool) + columns
    places = window[:, :, None] * channels + torch.arange(channels)
    return places.reshape(-1).to(torch.int32).numpy()


def _bits(x: Tensor) -> Any:
    return x.view(torch.uint16).numpy() if x.dtype == torch.bfloat16 else x.numpy()


def _array(x: Tensor, empty_kind: torch.dtype | None = None) -> Any:
    """Memory of a dense tensor as (time, neurons), bfloat16 as its bits."""
    if x.numel() == 0:
        return _bits(x.reshape(0, 0).to(empty_kind or x.dtype))
    if not x.is_contiguous() and _channels_last(x):
        x = x.permute(0, 1, 3, 4, 2)
    return _bits(x.detach().reshape(len(x), -1))


def _population(value: Tensor, weighted: Tensor) -> Any:
    """One value a neuron of a sample, in the memory order of ``weighted``."""
    value = value.detach().to(_working(weighted.dtype)).expand(weighted.shape[2:])
    if not weighted.is_contiguous() and _channels_last(weighted):
        value = value.permute(1, 2, 0)
    return value.contiguous().reshape(-1).numpy()
