"""Running integers: verify, simulate, predict, stream."""

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from spikeship.deploy.api.given import Integers, images_of, integers_of
from spikeship.deploy.api.sources import Data, File
from spikeship.deploy.io.inputs import messages_of
from spikeship.deploy.io.own_inputs import read_own
from spikeship.deploy.options.declare import filled
from spikeship.deploy.options.shared import for_integers
from spikeship.deploy.options.simulate import SimulateOptions, VerifyOptions
from spikeship.deploy.pipeline import predict as predicting
from spikeship.deploy.pipeline import verify as verifying
from spikeship.deploy.run import simulation
from spikeship.deploy.run.simulation import Simulation
from spikeship.deploy.run.verify import Verification
from spikeship.hw_models.simulator.stream import Stream
from spikeship.training.choices import Device


def verify(
    net: Integers, data: Data | None = None, *, limit: int = 1, seed: int = 0, **options: Any
) -> Verification:
    """Compare every spike of every layer with real Lava, or with the reference.

    Args:
        net: the quantized network or its file.
        data: run its test images; None for random messages of the network's kind.
        limit: how many images.
        seed: of the encoding or the messages.
        **options: of the verb ``verify``, such as ``against="reference"``.

    Raises:
        SpikeshipError: images that do not fit, or Lava did not finish.
    """
    graph, given = integers_of(net), filled(VerifyOptions, "verify", options)
    found = None if data is None else images_of(graph, data, limit)
    return verifying.verify(graph, given, images=found, count=limit, seed=seed)


def simulate(
    net: Integers,
    data: Data,
    *,
    limit: int | None = None,
    seed: int = 0,
    device: Device = "auto",
    **options: Any,
) -> Simulation:
    """Run a network in integers: accuracy and counts.

    Args:
        net: the quantized network or its file.
        data: its test images are run.
        limit: only the first so many.
        seed: of the encoding.
        device: the CPU unless ``cuda``.
        **options: of the verb ``simulate``, such as ``record="spikes.npz"``.

    Raises:
        SpikeshipError: options or images that cannot be used.
    """
    graph = integers_of(net)
    given = filled(SimulateOptions, "simulate", options)
    images = images_of(graph, data, limit)
    return simulation.simulate(graph, images, given, seed=seed, device=device)


def predict(
    net: Integers,
    source: File,
    *,
    limit: int | None = None,
    seed: int = 0,
    device: Device = "auto",
) -> list[predicting.Prediction]:
    """Say class and margin of your own inputs.

    Args:
        net: the quantized network or its file.
        source: a picture, or an ``.npz`` file of images.
        limit: only the first so many.
        seed: of the encoding.
        device: the CPU unless ``cuda``.

    Raises:
        SpikeshipError: it cannot be read, or has another shape.
    """
    graph = integers_of(net)
    images = read_own(Path(source), graph, limit)
    return predicting.predict(graph, images, seed=seed, device=for_integers(device))


def messages(net: Integers, data: Data, *, limit: int | None = None, seed: int = 0) -> NDArray[Any]:
    """Encode a set's test images as a network takes them.

    Args:
        net: the quantized network or its file.
        data: the set.
        limit: only the first so many images.
        seed: of the encoding.

    Returns:
        Whole numbers, shape (images, T, *input shape).

    Raises:
        SpikeshipError: images that do not fit.
    """
    graph = integers_of(net)
    return messages_of(graph, images_of(graph, data, limit), seed=seed)


def stream(net: Integers, *, images: int = 1) -> Stream:
    """Run a network on messages that come a few steps at a time, as from a sensor.

    Args:
        net: the quantized network or its file.
        images: how many run side by side.

    Returns:
        A stream; ``feed`` takes messages (images, steps, *input shape) and gives the scores after
        each step.
    """
    return Stream(integers_of(net), images=images)
