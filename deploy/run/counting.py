"""A network run over images for an estimate: its events, which neurons sent, then its cost."""

from dataclasses import dataclass

from spikeship.deploy.io.inputs import Images
from spikeship.deploy.run.evaluate import Evaluation, Progress, Running, evaluate_graph
from spikeship.hw_models import chips
from spikeship.hw_models.estimate import Estimate, estimate
from spikeship.hw_models.events.counts import EventCounts
from spikeship.hw_models.events.traffic import Traffic, TrafficRecorder
from spikeship.hw_models.graph import FixedGraph
from spikeship.hw_models.placement.placement import Placement, Rules
from spikeship.hw_models.placer.place import place


@dataclass(frozen=True, eq=False)
class Counted:
    """A network with what it did.

    Attributes:
        graph: the network.
        counts: its events.
        traffic: its messages by neuron and step.
        accuracy: share of right answers, 0..1; None without labels.
    """

    graph: FixedGraph
    counts: EventCounts
    traffic: Traffic
    accuracy: float | None


def count(
    graph: FixedGraph,
    images: Images,
    *,
    seed: int,
    num_steps: int | None = None,
    running: Running | None = None,
    progress: Progress | None = None,
) -> Counted:
    """Run a network over images and count what an estimate needs.

    Args:
        graph: the network.
        images: what to run.
        seed: of the encoding.
        num_steps: T; the graph's own by default.
        running: threads, memory, device.
        progress: is given the number of images done since its last call.

    Raises:
        ValueError: images the graph cannot take.
        StateOverflowError: a sum left 24 bits.
    """
    recorder = TrafficRecorder(graph)
    found: Evaluation = evaluate_graph(
        graph,
        images,
        seed=seed,
        num_steps=num_steps,
        running=running,
        recorder=recorder,
        progress=progress,
    )
    assert found.counts is not None  # the simulator always counts
    right = images.correct(found.predictions)
    accuracy = None if right is None else right / len(found.predictions)
    return Counted(graph, found.counts, recorder.traffic(), accuracy)


def place_on(
    counted: Counted,
    chip: str,
    *,
    rules: Rules = Rules(),  # noqa: B008  (frozen)
    max_chips: int | None = None,
) -> Placement:
    """Place a counted network on a chip, split as is best for its own messages.

    Args:
        counted: the network as it ran.
        chip: name of the chip.
        rules: how axons and kernels are counted.
        max_chips: chips there are; None for as many as it takes.
    """
    return place(
        counted.graph, chips.get(chip), rules=rules, traffic=counted.traffic, max_chips=max_chips
    )


def estimate_on(counted: Counted, placement: Placement, *, sensitivity: bool = True) -> Estimate:
    """Estimate what a counted network costs on its placement; ``estimate`` says the rest."""
    return estimate(
        counted.graph,
        counted.counts,
        chips.get(placement.chip),
        traffic=counted.traffic,
        placement=placement,
        sensitivity=sensitivity,
    )
