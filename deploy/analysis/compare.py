"""Every stage on the same images, the chip's estimate and the GPU's row beside it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeship.deploy.analysis.gpu_row import gpu_reference, read_gpu_result
from spikeship.deploy.errors import DeployError
from spikeship.deploy.io.classifier import Ann
from spikeship.deploy.io.inputs import Images, messages_of
from spikeship.deploy.io.int8_classifier import quantize_int8
from spikeship.deploy.report.pictures import ReportFigures
from spikeship.deploy.report.placement_picture import figure_of
from spikeship.deploy.report.report import write_report
from spikeship.deploy.run.evaluate import Evaluation, evaluate_graph, evaluate_network, wilson
from spikeship.deploy.run.verify import Verification, verify
from spikeship.hw_models import chips
from spikeship.hw_models.estimate import Estimate, estimate
from spikeship.hw_models.events.counts import EventCounts, count_events
from spikeship.hw_models.events.recording import Recording
from spikeship.hw_models.events.traffic import TrafficRecorder
from spikeship.hw_models.graph import FixedGraph, Neuron
from spikeship.hw_models.placement.placement import Placement
from spikeship.training.snn.spiking_network import SpikingNetwork


@dataclass(frozen=True, eq=False)
class Stages:
    """The networks to compare; those that are None get no row.

    Attributes:
        ann: the trained classifier.
        converted: the spiking network before fine-tuning.
        hybrid: the one after.
        graph: its integers.
        chip: for the estimate.
        lava_images: how many of the images run on real Lava too (0: none).
        calibration: training images for the classifier's int8 row; None leaves it out.
        gpu_result: what benchmarks/gpu_reference.py measured of the classifier, maybe elsewhere.
    """

    ann: Ann
    graph: FixedGraph
    converted: SpikingNetwork | None = None
    hybrid: SpikingNetwork | None = None
    chip: str = "loihi2"
    lava_images: int = 0
    calibration: Images | None = None
    gpu_result: Path | None = None


@dataclass(frozen=True, eq=False)
class Comparison:
    """What a comparison gave: the JSON object without its report, pictures, and Lava's check."""

    result: dict[str, Any]
    figures: ReportFigures
    verification: Verification | None

    def __repr__(self) -> str:
        known = [row for row in self.result["rows"] if row["accuracy"] is not None]
        rows = ", ".join(f"{row['stage']} {row['accuracy']:.2%}" for row in known)
        return f"<Comparison: {rows or 'no labels'}>"

    def write(self, path: Path) -> dict[str, Any]:
        """Write the HTML report and return the JSON object with its path."""
        return {**self.result, "report": str(write_report(self.result, self.figures, path))}


class _Rows:
    """Builds the table, each row beside the one before it."""

    def __init__(self, images: Images) -> None:
        self.images = images
        self.rows: list[dict[str, Any]] = []
        self.before: NDArray[np.int64] | None = None

    def add(
        self, stage: str, predictions: NDArray[np.int64], *, aside: bool = False, **figures: Any
    ) -> None:
        """Add a row; nothing is held against one ``aside``, which no later stage is made from."""
        count = len(predictions)
        correct = self.images.correct(predictions)
        agreement = None
        if self.before is not None:
            agreement = float(np.mean(predictions == self.before[:count]))
        self.rows.append(
            {
                "stage": stage,
                "accuracy": None if correct is None else correct / count,
                "correct": correct,
                "images": count,
                "ci95": None if correct is None else list(wilson(correct, count)),
                "agreement_with_previous": agreement,
                **dict.fromkeys(
                    ("num_steps", "chip_steps", "synops", "energy_j", "latency_s"), None
                ),
                **figures,
            }
        )
        if not aside:
            self.before = predictions


def compare(stages: Stages, images: Images, *, seed: int) -> Comparison:
    """Run every stage on the same images, with the same messages.

    Args:
        stages: the networks.
        images: what to run.
        seed: of the encoding.

    Raises:
        ValueError: a stage that does not fit the images.
        LavaError: Lava did not finish.
        GpuError: the GPU's result cannot be read, or is of another classifier.
    """
    gpu = None
    if stages.gpu_result is not None:  # read first: what is wrong is said before the work
        gpu = read_gpu_result(stages.gpu_result, macs=stages.ann.macs())
    shape = tuple(images.values.shape[1:])
    for name, network in (
        ("ANN", stages.ann.network),
        ("converted network", stages.converted and stages.converted.network),
        ("hybrid network", stages.hybrid and stages.hybrid.network),
    ):
        if network is not None and network.input_shape != shape:
            raise DeployError(
                f"{name}: takes {network.input_shape}, the images are {shape}; compare stages of "
                "one network"
            )
    rows = _Rows(images)
    rows.add("ann", stages.ann.predict(images.values))
    if stages.ann.onnx is not None:
        rows.add("onnxruntime", stages.ann.predict_with_onnxruntime(images.values))
    if stages.calibration is not None:
        opponent = quantize_int8(stages.ann.network, stages.calibration.values)
        rows.add("int8", opponent.predict(images.values), aside=True)
    by_step: dict[str, Sequence[float]] = {}
    for name, network in (("converted", stages.converted), ("hybrid", stages.hybrid)):
        if network is not None:
            found = evaluate_network(network, images, seed=seed)
            rows.add(name, found.predictions, num_steps=network.num_steps)
            _note_steps(by_step, name, found, images)
    traffic = TrafficRecorder(stages.graph)
    integer = evaluate_graph(stages.graph, images, seed=seed, recorder=traffic)
    assert integer.counts is not None  # the simulator always counts
    cost = estimate(stages.graph, integer.counts, chips.get(stages.chip), traffic=traffic.traffic())
    rows.add("integer", integer.predictions, **_figures(integer.counts, cost))
    _note_steps(by_step, "integer", integer, images)
    verification = None
    if stages.lava_images:
        verification = _on_lava(stages, images, rows, seed, cost.placement)
    result = {
        "rows": rows.rows,
        "gpu": (gpu or gpu_reference(stages.ann, images)).to_json(),
        "chip": cost.to_json(),
        "notes": list(stages.graph.metadata.get("notes", [])),
    }
    if verification is not None:
        result["verify"] = verification.to_json()
    figures = ReportFigures(
        accuracy_by_step=by_step,
        synops_by_layer=integer.counts.per_inference()["layers"],
        raster=_raster(stages.graph, images, seed),
        raster_label=_raster_label(images, integer.predictions),
        placement=figure_of(cost),
    )
    return Comparison(result, figures, verification)


def _figures(counts: EventCounts, cost: Estimate) -> dict[str, Any]:
    energy = cost.to_json()["energy_j"]
    return {
        "num_steps": counts.num_steps,
        "chip_steps": counts.chip_steps,
        "synops": counts.per_inference()["synops"]["effective"],
        "energy_j": energy["dynamic"] + energy["static"],
        "latency_s": cost.latency_s,
    }


def _note_steps(
    by_step: dict[str, Sequence[float]], name: str, found: Evaluation, images: Images
) -> None:
    if found.correct_by_step is not None:
        by_step[name] = [int(n) / len(images.values) for n in found.correct_by_step]


def _on_lava(
    stages: Stages, images: Images, rows: _Rows, seed: int, placement: Placement
) -> Verification:
    graph, few = stages.graph, images.first(stages.lava_images)
    messages = messages_of(graph, few, seed=seed)
    found = verify(graph, messages, "lava")
    counts = count_events(graph, found.recording.nodes, messages)
    traffic = TrafficRecorder(graph)
    traffic(found.recording)
    cost = estimate(
        graph, counts, chips.get(stages.chip), traffic=traffic.traffic(), placement=placement
    )
    predictions = found.recording.scores(graph).argmax(axis=1).astype(np.int64)
    rows.add("lava", predictions, **_figures(counts, cost))
    return found


def _raster(graph: FixedGraph, images: Images, seed: int) -> dict[str, NDArray[np.bool_]]:
    kept: list[Recording] = []
    evaluate_graph(graph, images.first(1), seed=seed, recorder=kept.append)
    (recording,) = kept
    chip_steps = graph.chip_steps(recording.num_steps)
    return {
        node.name: recording.nodes[node.name][0].reshape(chip_steps, -1) != 0
        for node in graph.nodes
        if isinstance(node, Neuron)
    }


def _raster_label(images: Images, predictions: NDArray[np.int64]) -> str:
    label = "" if images.labels is None else f", class {images.labels[0]}"
    return f"test image 0 of {images.data['name']}{label}, answered {predictions[0]}"
