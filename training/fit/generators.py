"""Everything that draws random numbers in training: Python, NumPy and torch, seeded and kept."""

import math
import random
from typing import Any

import numpy as np
import torch
from torch import Tensor


def seed_generators(*numbers: int) -> None:
    """Seed Python, NumPy and torch (all devices) from whole numbers, none negative."""
    mixed = int(np.random.SeedSequence(numbers).generate_state(1)[0])
    random.seed(mixed)
    np.random.seed(mixed)
    torch.manual_seed(mixed)


def generator_states(device: torch.device) -> dict[str, Tensor]:
    """Where the generators stand, those of one device, as tensors on the CPU."""
    _, words, gauss = random.getstate()
    drawn: dict[str, Any] = np.random.get_state(legacy=False)
    states = {
        "python": torch.tensor(words),
        # None is kept as NaN, which is never drawn
        "python gauss": torch.tensor(math.nan if gauss is None else gauss, dtype=torch.float64),
        "numpy": torch.from_numpy(drawn["state"]["key"].astype(np.int64)),
        "numpy place": torch.tensor([drawn["state"]["pos"], drawn["has_gauss"]]),
        "numpy gauss": torch.tensor(drawn["gauss"], dtype=torch.float64),
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore_generators(states: dict[str, Tensor], device: torch.device) -> None:
    """Set the generators to the states that :func:`generator_states` returned.

    The state of a CUDA device's generator is left out where there is none of it, or no device.
    """
    gauss = states["python gauss"].item()
    words = tuple(states["python"].tolist())
    random.setstate((3, words, None if math.isnan(gauss) else gauss))
    keys = states["numpy"].numpy().astype(np.uint32)
    place, has_gauss = states["numpy place"].tolist()
    np.random.set_state(("MT19937", keys, place, has_gauss, states["numpy gauss"].item()))
    torch.set_rng_state(states["torch"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
