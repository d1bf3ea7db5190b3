"""Pools of foreign networks as the kinds a Network holds: averages and maxima over a kernel."""

from collections.abc import Sequence

from torch import nn

from spikeship.training import choices
from spikeship.training.ann.sides import sides
from spikeship.training.frontends.refusal import RefusalError

MaxPool = choices.MaxPool
Sizes = int | Sequence[int | None] | None


def adaptive_average(shape: Sequence[int] | None, output: Sizes) -> list[nn.Module]:
    """Give the layers that average (batch, channel, height, width) to ``output`` positions.

    Args:
        shape: of what is averaged, batch axis first; None where it is not known, behind a node
            that was refused.
        output: height and width, or one number for both; None keeps a side.

    Raises:
        RefusalError: positions would not all be averages of squares of one size.
    """
    if shape is None:
        return [nn.AvgPool2d(1)]
    if len(shape) != 4:
        raise RefusalError(f"reads shape {tuple(shape[1:])}; give it (channel, height, width)")
    sides = tuple(shape[2:])
    wanted = tuple(output) if isinstance(output, Sequence) else (output, output)
    sizes = [side if size is None else size for side, size in zip(sides, wanted, strict=True)]
    kernel = [side // max(size, 1) for side, size in zip(sides, sizes, strict=True)]
    even = all(k * size == side for k, size, side in zip(kernel, sizes, sides, strict=True))
    if not even or kernel[0] != kernel[1]:
        raise RefusalError(
            f"averages {sides[0]} x {sides[1]} positions to {sizes[0]} x {sizes[1]}, not over "
            "squares of one size; give images or an output size that divide so"
        )
    return [nn.AvgPool2d(kernel[0])] if kernel[0] > 1 else []


def global_average(
    shape: Sequence[int] | None, axes: Sequence[int], keeps: bool
) -> list[nn.Module]:
    """Give the layers that take a mean over these axes.

    Args:
        shape: as for :func:`adaptive_average`.
        axes: must be those of height and width, from the front or the back.
        keeps: whether the axes stay, with one position each; otherwise the result is flat.

    Raises:
        RefusalError: other axes, or positions that are no square.
    """
    rank = 4 if shape is None else len(shape)
    if sorted(axis % rank for axis in axes) != [2, 3]:
        raise RefusalError(
            f"takes the mean over axes {list(axes)} of {rank}; only over height and width, (2, 3)"
        )
    pool = adaptive_average(shape, 1)
    return pool if keeps else [*pool, nn.Flatten()]


def max_pool(
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> nn.MaxPool2d:
    """Give a max pool.

    Raises:
        RefusalError: it counts windows that are not whole, or returns places too.
    """
    kernel = sides(kernel_size)
    if ceil_mode or return_indices:
        raise RefusalError("has ceil_mode or returns indices; use a max pool without")
    # torch takes no more padding than half a window
    if any(2 * pad > side for pad, side in zip(sides(padding), kernel, strict=True)):
        raise RefusalError(f"pads {sides(padding)} around windows of {kernel}; pad less")
    step = kernel if stride is None else sides(stride)
    return nn.MaxPool2d(kernel, step, sides(padding), sides(dilation))


def average_for_max(
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> nn.AvgPool2d:
    """Give the average pool that may stand for a max pool, once the network is fine-tuned.

    Raises:
        RefusalError: its kernel is not its stride, or it has more than that.
    """
    kernel = sides(kernel_size)
    plain = sides(padding) == (0, 0) and sides(dilation) == (1, 1)
    if kernel != sides(stride or kernel_size) or not plain or ceil_mode or return_indices:
        raise RefusalError(
            f"no average stands for a max pool of {kernel[0]} x {kernel[1]} whose windows overlap, "
            "are padded or dilated; keep it (--max-pool keep) and convert with --timing staged"
        )
    return nn.AvgPool2d(kernel)
