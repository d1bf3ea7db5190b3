"""The frame of Rathi et al.'s own code: a neuron decides on the potential of the step before.

With leak 1 the spikes are those of ``scan``, one step later a layer, and a run loses the steps
that have not drained when it ends. No chip is built so; this is here to compare with the paper.
"""

import torch
from torch import Tensor

from spikeship.training.surrogates import NEVER, TimingSurrogate, surrogate


def scan_paper(
    weighted: Tensor, threshold: Tensor, leak: Tensor, v0: Tensor, surrogate_name: str
) -> Tensor:
    """Spikes of a population, ``s(t) = V(t-1) > theta; V(t) = leak V(t-1) + I(t) - theta s(t)``.

    Args:
        weighted: weighted input, shape (time, batch, …).
        threshold: theta, broadcast to a sample's shape.
        leak: factor on V from step to step, likewise.
        v0: V before the first step, likewise.
        surrogate_name: slope of the backward pass.

    Returns:
        0 or 1, of the input's shape; the subtraction passes no gradient to the spikes.
    """
    slope = surrogate(surrogate_name)
    v = v0.to(weighted).expand(weighted.shape[1:])
    table = slope.table(len(weighted), weighted) if isinstance(slope, TimingSurrogate) else None
    last = torch.full_like(v, -NEVER, dtype=torch.int64)
    spikes = []
    for t, current in enumerate(weighted.unbind()):
        z = v / threshold - 1
        fires = v.detach() > threshold
        steep = torch.take(table, t - last) if table is not None else slope.slope(z.detach())
        last = last.masked_fill(fires, t)
        spiked = fires.to(weighted.dtype)
        # worth the spike, with the slope along z
        spikes.append(spiked + steep * (z - z.detach()))
        v = leak * v + current - threshold * spiked
    return torch.stack(spikes)
