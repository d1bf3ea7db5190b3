"""The keyword spotter on conventional hardware: measured joules, and published models beside them.

Reference rows: nothing here is fitted, and no chip estimate enters.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from spikeship.deploy.validation.activity import count, rates_of
from spikeship.deploy.validation.layers import Layer
from spikeship.deploy.validation.network import build
from spikeship.deploy.validation.rows import Row
from spikeship.deploy.validation.tables import columns
from spikeship.hw_models import energy_models

DEVICES = Path(__file__).with_name("conventional.json")


@dataclass(frozen=True)
class Device:
    """One device and batch.

    Attributes:
        device: its name.
        batch: inferences at a time.
        dynamic_j: measured joules an inference above idle.
        total_j: with idle.
        model: the published model of such a device; None where there is none.
        model_j: what that says of the network, whatever the batch.
    """

    device: str
    batch: int
    dynamic_j: float
    total_j: float
    model: str | None
    model_j: float | None

    def to_json(self) -> dict[str, Any]:
        """Return measured and modelled apart."""
        return {
            "device": self.device,
            "batch": self.batch,
            "measured": {"dynamic_j": self.dynamic_j, "total_j": self.total_j},
            "estimated": {"model": self.model, "energy_j": self.model_j},
        }


def devices(rows: Sequence[Row], path: Path = DEVICES) -> tuple[list[Device], str]:
    """Read the measured devices, ask the models, and say who measured.

    Args:
        rows: among them, the network that ran.
        path: the file.
    """
    data = json.loads(path.read_text())
    (row,) = (row for row in rows if row.name == data["network"])
    said = _modelled(row, {one["model"] for one in data["rows"] if "model" in one})
    found = []
    for one in data["rows"]:
        measured, model = one["measured"], one.get("model")
        each = 1 / measured["inferences_per_s"]
        found.append(
            Device(
                one["device"],
                one["batch"],
                (measured["running_w"] - measured["idle_w"]) * each,
                measured["running_w"] * each,
                model,
                said.get(model),
            )
        )
    return found, data["source"]


def _modelled(row: Row, models: set[str]) -> dict[str, float]:
    """Joules of the row's network by models that count connections, not spikes.

    On these devices the outputs are computed as well.
    """
    last = row.workload.layers[-1].name
    layers = (*row.workload.layers, Layer("out", (row.output,), (last,), "dense"))
    network = build(replace(row.workload, layers=layers))
    rates = rates_of(replace(row.workload, layers=layers), network, 0.0)
    counts = count(network, rates, row.workload.steps)
    return {
        model: energy_models.get(model).energy(network.graph, counts).energy_j for model in models
    }


def listed(found: Sequence[Device], source: str, row: Row) -> Iterator[str]:
    """The devices as text."""
    joules = row.measured.energy_j["dynamic"]
    yield "the keyword spotter as an ANN on conventional hardware, mJ an inference above idle"
    yield f"({source}):"
    head = ("device", "batch", "measured", "with idle", "model", "estimated", "error")
    yield from columns([head, *(_cells(each) for each in found)])
    yield f"measured on Loihi 1, batch 1, by the same authors: {joules * 1e3:.3g} mJ above idle"
    yield ""


def _cells(each: Device) -> tuple[str, ...]:
    cells = (
        each.device,
        str(each.batch),
        f"{each.dynamic_j * 1e3:.3g}",
        f"{each.total_j * 1e3:.3g}",
    )
    if each.model_j is None:
        return (*cells, "-", "-", "-")
    error = each.model_j / each.dynamic_j - 1
    return (*cells, str(each.model), f"{each.model_j * 1e3:.3g}", f"{error:+.1%}")
