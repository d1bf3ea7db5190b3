"""Images to the messages of a network whose input layer has neurons."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spikeship.deploy.importers.netx_file import NetxError
from spikeship.hw_models.graph import FixedGraph


def input_messages(
    graph: FixedGraph, images: ArrayLike, num_steps: int | None = None
) -> NDArray[np.int32]:
    """Turn images into what netx gives the input layer: weight * x + bias, cut to integers.

    Args:
        graph: read by read_netx, with neurons in its input layer.
        images: real (images, *input shape), each shown in every step, or (images, T, *input
            shape), one frame a step; in the range the network was trained on.
        num_steps: T of still images; by default the graph's own, or 1 where it says none.

    Returns:
        int32 messages (images, T, *input shape).

    Raises:
        NetxError: the graph takes spikes, or images of another shape, not finite, or beyond its
            largest message.
    """
    transform: Mapping[str, Any] | None = graph.metadata.get("netx", {}).get("input")
    shape = graph.input.shape
    if transform is None:
        raise NetxError("input: this network takes spikes, not images; give (images, T, …) spikes")
    values = np.asarray(images, dtype=np.float64)
    still = values.ndim == len(shape) + 1
    if values.shape[1 if still else 2 :] != shape:
        raise NetxError(
            f"input: images have shape {values.shape}, the network takes (images, "
            f"{', '.join(map(str, shape))}), with or without a T after the images"
        )
    scaled = np.trunc(transform["weight"] * values + transform["bias"])
    top = graph.input.max_message
    if not np.all(np.abs(scaled) <= top):
        raise NetxError(
            f"input: weight * x + bias leaves -{top}..{top}; scale the images as in training"
        )
    messages = scaled.astype(np.int32)
    return (
        messages
        if not still
        else np.repeat(messages[:, None], num_steps or graph.num_steps or 1, axis=1)
    )
