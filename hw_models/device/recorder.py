"""What is kept of a run on a torch device, moved to the host node by node. This file uses torch."""

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from spikeship.hw_models.device.populations import Kept
from spikeship.hw_models.engine.recorder import Recorder


class DeviceRecorder(Recorder):
    """A recorder that takes tensors."""

    def take(self, name: str, sent: Tensor, states: Kept | None) -> None:
        """Take a node's messages and states, (steps, images, neurons)."""
        self.keep(name, _on_the_host(sent))
        if states is not None:
            self.keep_states(name, _on_the_host(states.potentials), _on_the_host(states.currents))


def _on_the_host(values: Tensor) -> NDArray[Any]:
    """Values (steps, images, neurons) as (images, steps, neurons); spikes (int8) as uint8."""
    narrow = values.view(torch.uint8) if values.dtype == torch.int8 else values
    moved: NDArray[Any] = narrow.transpose(0, 1).contiguous().cpu().numpy()
    return moved
