"""Rows of a validation file: a workload described, and what was measured of it.

docs/validation.md describes the format. A file that does not keep it is refused in one line that
names the file, the row, the field and what it takes.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from spikeship.deploy.validation.fields import MOST_NEURONS, Fields, RowError
from spikeship.deploy.validation.layers import Layer, read_layer
from spikeship.deploy.validation.measured import FIELDS as MEASURED
from spikeship.deploy.validation.measured import Measured, measured
from spikeship.deploy.validation.taken_for_granted import taken
from spikeship.hw_models import chips
from spikeship.hw_models.json_text import parse

FORMAT, VERSION = "spikeship validation rows", 1
FITTED = "fitted"
MOST_STEPS = 20_000


@dataclass(frozen=True)
class Workload:
    """A network and how it was run.

    Attributes:
        chip: name of the chip.
        steps: T of one inference.
        pipelined: inferences follow each other without a pause; else each drains alone.
        input_shape: shape of the input, spikes.
        input_rate: None for the row's.
        layers: in order, each after what feeds it.
        rate: spikes a neuron and step wherever a layer says none; None: fitted, or not needed.
        synops_per_step: synaptic operations of the whole network, from which that rate follows.
        reset: of all neurons.
    """

    chip: str
    steps: int
    pipelined: bool
    input_shape: tuple[int, ...]
    input_rate: float | None
    layers: tuple[Layer, ...]
    rate: float | None
    synops_per_step: float | None
    reset: Literal["subtract", "zero"]

    @property
    def fitted(self) -> bool:
        """Whether its firing rate is the fitted one."""
        return self.open_rate and self.rate is None and self.synops_per_step is None

    @property
    def open_rate(self) -> bool:
        """Whether the input or a layer has no rate of its own."""
        return None in (self.input_rate, *(layer.rate for layer in self.layers))


@dataclass(frozen=True)
class Row:
    """A measured workload.

    Attributes:
        name: of the row.
        source: who measured it.
        note: remark on the measurement.
        calibrate: whether the constants are fitted to it.
        output: size of what is read out; the last layer's where the row does not say.
        workload: what ran.
        measured: what that took.
        assumed: what nobody says and the row or the format takes for granted, a text each.
    """

    name: str
    source: str
    note: str
    calibrate: bool
    output: int
    workload: Workload
    measured: Measured
    assumed: tuple[str, ...]


def read_rows(path: Path, *, shipped: bool = False) -> tuple[Row, ...]:
    """Read a file of rows.

    Args:
        path: the file.
        shipped: whether it is our own, whose rows may say ``calibrate`` and ``logs``.

    Raises:
        RowError: it cannot be read, or a row is damaged.
    """
    try:
        data = parse(path.read_bytes())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise RowError(f"{path}: not read: {reason}; give a JSON file of rows") from None
    top = Fields(data, str(path)).keys({"format", "version", "about", "rows"})
    version = data.get("version")
    if data.get("format") != FORMAT or type(version) is not int or version != VERSION:
        raise RowError(f"{path}: no file of rows: 'format' takes {FORMAT!r}, 'version' {VERSION}")
    if not isinstance(data.get("rows"), list) or not data["rows"]:
        raise top.fail("rows", "a list of at least one row")
    rows = tuple(
        _row(Fields(each, f"{path}, row {i + 1}"), shipped) for i, each in enumerate(data["rows"])
    )
    names = [row.name for row in rows]
    if len(set(names)) != len(names):
        raise RowError(f"{path}: row names must differ, got {', '.join(names)}")
    return rows


ROW = {
    "name", "source", "note", "chip", "steps", "pipelined", "input", "output", "layers", "rate",
    "synops_per_step", "reset", "assumed", "measured",
}  # fmt: skip
SHIPPED = {"logs", "calibrate"}  # of our own rows: where they come from, and that they are fitted


def _row(at: Fields, shipped: bool) -> Row:
    at.keys(ROW | SHIPPED)
    named = Fields(at.data, f"{at.where} ({at.text('name')})")
    for field in sorted(SHIPPED & set(named.data)):
        if not shipped:
            raise named.fail(field, "nothing outside the shipped rows: leave it out")
    workload = _workload(named)
    assumed = named.data.get("assumed", [])
    if not isinstance(assumed, list):
        raise named.fail("assumed", "a list of texts")
    said = [Fields({"assumed": text}, named.where).text("assumed") for text in assumed]
    size = math.prod(workload.layers[-1].shape) * workload.layers[-1].copies
    return Row(
        name=named.text("name"),
        source=named.text("source"),
        note=named.text("note") if "note" in named.data else "",
        calibrate=named.flag("calibrate", False),
        output=named.count("output", size, most=MOST_NEURONS),
        workload=workload,
        measured=measured(named.inside("measured", MEASURED), workload.chip),
        assumed=(*said, *taken(named.data)),
    )


def _workload(at: Fields) -> Workload:
    chip = at.text("chip")
    if chip not in chips.CHIPS:
        raise at.fail("chip", f"one of {', '.join(chips.CHIPS)}")
    entered = at.inside("input", {"shape", "rate"})
    listed = at.data.get("layers")
    if not isinstance(listed, list) or not listed:
        raise at.fail("layers", "a list of at least one layer")
    bits = chips.get(chip).weight_bits.value
    layers: list[Layer] = []
    for i, each in enumerate(listed):
        layers.append(read_layer(Fields(each, f"{at.where}, layer {i + 1}"), layers, bits))
    fitted = at.data.get("rate") == FITTED
    found = Workload(
        chip=chip,
        steps=at.count("steps", None, most=MOST_STEPS),
        pipelined=at.flag("pipelined", True),
        input_shape=entered.sizes("shape", (1, 3)),
        input_rate=entered.number("rate", most=1, zero=True),
        layers=tuple(layers),
        rate=None if fitted else at.number("rate", most=1),
        synops_per_step=at.number("synops_per_step"),
        reset=at.choice("reset", ("zero", "subtract"), "zero"),
    )
    said = [fitted, found.rate is not None, found.synops_per_step is not None].count(True)
    if found.open_rate and said != 1:
        raise RowError(
            f"{at.where}: give 'rate' (spikes a neuron and step, at most 1, or {FITTED!r}) or "
            "'synops_per_step', one of them, or a rate of its own to the input and every layer"
        )
    if said and not found.open_rate:
        raise RowError(
            f"{at.where}: the input and every layer have a rate of their own: leave 'rate' and "
            "'synops_per_step' out"
        )
    return found
