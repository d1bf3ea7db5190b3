"""Rows of a validation file: a workload described, and what was measured of it.

docs/validation.md describes the format. A file that does not keep it is refused in one line that
names the file, the row, the field and what it takes.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from spikeship.hw_models import chips

FORMAT, VERSION = "spikeship validation rows", 1
FITTED = "fitted"
MOST_NEURONS = 10_000_000
MOST_STEPS = 20_000

Connect = Literal["dense", "conv", "sparse"]
Part = Literal["dynamic", "chip", "static", "host"]


class RowError(ValueError):
    """A file of rows that cannot be used; the message says where and why."""


@dataclass(frozen=True)
class Layer:
    """One layer, or ``copies`` parallel chains of ``depth`` equal layers.

    Attributes:
        name: name of the layer.
        shape: (neurons,) or (channels, height, width).
        sources: the layers, or ``input``, that feed it; the ends of all chains of those.
        connect: how.
        depth, copies: length and number of the chains; 1 and 1 for a plain layer.
        cores: cores of each of its layers; None where they are not known.
        rate: spikes a neuron and step; None for the row's.
        kernel, stride, padding, groups: of a convolution.
        pool: side of the sum-pool before it.
        fan_in: synapses of each neuron of a sparse layer.
        weight_bits: width of the weights.
    """

    name: str
    shape: tuple[int, ...]
    sources: tuple[str, ...]
    connect: Connect
    depth: int = 1
    copies: int = 1
    cores: int | None = None
    rate: float | None = None
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    groups: int = 1
    pool: int = 1
    fan_in: int = 0
    weight_bits: int = 8


@dataclass(frozen=True)
class Workload:
    """A network and how it was run.

    Attributes:
        chip: name of the chip. steps: T of one inference.
        pipelined: inferences follow each other without a pause; else each drains alone.
        input_shape: shape of the input, spikes. input_rate: None for the row's.
        layers: in order, each after what feeds it.
        rate: spikes a neuron and step wherever a layer says none; None: fitted.
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
        return self.rate is None and self.synops_per_step is None


@dataclass(frozen=True)
class Measured:
    """What was measured, per inference.

    Attributes:
        runs: how often.
        time_s: seconds of the whole inference. chip_time_s: of the chip's part.
        host_time_s: of the host's part. time_spread_s: standard deviation over the runs.
        energy_j: by part: ``dynamic`` (all above idle, the host's with it), ``chip`` (neuron cores
            alone), ``static``, ``host``.
        cold: dynamic energy is above the idle before a first run, not above that after one.
        idle_rise_w: watts by which idle rises with the first run; None where not known.
    """

    runs: int
    time_s: float | None
    chip_time_s: float | None
    host_time_s: float | None
    time_spread_s: float | None
    energy_j: Mapping[Part, float]
    cold: bool
    idle_rise_w: float | None


@dataclass(frozen=True)
class Row:
    """A measured workload."""

    name: str
    source: str
    note: str
    calibrate: bool
    output: int | None
    workload: Workload
    measured: Measured


@dataclass(frozen=True)
class _At:
    """An object of the file, and where it stands there."""

    data: Any
    where: str

    def fail(self, key: str, takes: str) -> RowError:
        found = self.data.get(key, "nothing") if isinstance(self.data, Mapping) else self.data
        text = found if found == "nothing" else json.dumps(found)[:60]
        return RowError(f"{self.where}: {key!r} takes {takes}, got {text}")

    def keys(self, known: set[str]) -> "_At":
        if not isinstance(self.data, Mapping):
            raise RowError(f"{self.where}: takes an object, got {json.dumps(self.data)[:60]}")
        unknown = sorted(set(self.data) - known)
        if unknown:
            fields = ", ".join(sorted(known))
            raise RowError(f"{self.where}: {unknown[0]!r} is unknown; the fields are {fields}")
        return self

    def text(self, key: str, default: str | None = None) -> str:
        value = self.data.get(key, default)
        if not isinstance(value, str) or not value.strip() or not value.isprintable():
            raise self.fail(key, "a text of one line")
        return value

    def choice(self, key: str, choices: tuple[str, ...], default: str) -> Any:
        value = self.data.get(key, default)
        if value not in choices:
            raise self.fail(key, f"one of {', '.join(choices)}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self.data.get(key, default)
        if not isinstance(value, bool):
            raise self.fail(key, "true or false")
        return value

    def count(self, key: str, default: int | None, least: int = 1, most: int = 10**6) -> int:
        value = self.data.get(key, default)
        if type(value) is not int or not least <= value <= most:
            raise self.fail(key, f"a whole number in {least}..{most}")
        return value

    def number(self, key: str, most: float = math.inf, zero: bool = False) -> float | None:
        value = self.data.get(key)
        if value is None:
            return None
        known = isinstance(value, int | float) and not isinstance(value, bool)
        if not known or not math.isfinite(value) or not 0 <= value <= most or (value == 0) > zero:
            upper = "" if most == math.inf else f" up to {most:g}"
            raise self.fail(key, f"a number {'from' if zero else 'above'} 0{upper}")
        return float(value)

    def sizes(self, key: str, lengths: tuple[int, ...], least: int = 1) -> tuple[int, ...]:
        value = self.data.get(key)
        plain = isinstance(value, list) and all(type(n) is int and n >= least for n in value)
        if not plain or len(value) not in lengths or math.prod(value) > MOST_NEURONS:
            raise self.fail(key, f"a list of {' or '.join(map(str, lengths))} whole numbers")
        return tuple(value)

    def pair(self, key: str, default: tuple[int, int], least: int = 1) -> tuple[int, int]:
        if key not in self.data:
            return default
        first, second = self.sizes(key, (2,), least)
        return first, second

    def inside(self, key: str, known: set[str]) -> "_At":
        return _At(self.data.get(key, {}), f"{self.where}, {key!r}").keys(known)


def read_rows(path: Path) -> tuple[Row, ...]:
    """Read a file of rows.

    Raises:
        RowError: it cannot be read, or a row is damaged.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise RowError(f"{path}: not read: {reason}; give a JSON file of rows") from None
    top = _At(data, str(path)).keys({"format", "version", "about", "rows"})
    if data.get("format") != FORMAT or data.get("version") != VERSION:
        raise RowError(f"{path}: no file of rows: 'format' takes {FORMAT!r}, 'version' {VERSION}")
    if not isinstance(data.get("rows"), list) or not data["rows"]:
        raise top.fail("rows", "a list of at least one row")
    rows = tuple(_row(_At(each, f"{path}, row {i + 1}")) for i, each in enumerate(data["rows"]))
    names = [row.name for row in rows]
    if len(set(names)) != len(names):
        raise RowError(f"{path}: row names must differ, got {', '.join(names)}")
    return rows


_ROW = {
    "name", "source", "note", "logs", "calibrate", "chip", "steps", "pipelined", "input", "output",
    "layers", "rate", "synops_per_step", "reset", "measured",
}  # fmt: skip


def _row(at: _At) -> Row:
    at.keys(_ROW)
    named = _At(at.data, f"{at.where} ({at.text('name')})")
    return Row(
        name=named.text("name"),
        source=named.text("source"),
        note=named.text("note") if "note" in named.data else "",
        calibrate=named.flag("calibrate", False),
        output=named.count("output", None) if "output" in named.data else None,
        workload=_workload(named),
        measured=_measured(named.inside("measured", _MEASURED)),
    )


def _workload(at: _At) -> Workload:
    chip = at.text("chip")
    if chip not in chips.CHIPS:
        raise at.fail("chip", f"one of {', '.join(chips.CHIPS)}")
    entered = at.inside("input", {"shape", "rate"})
    listed = at.data.get("layers")
    if not isinstance(listed, list) or not listed:
        raise at.fail("layers", "a list of at least one layer")
    layers: list[Layer] = []
    for i, each in enumerate(listed):
        layers.append(_layer(_At(each, f"{at.where}, layer {i + 1}"), layers))
    fitted = at.data.get("rate") == FITTED
    rate = None if fitted else at.number("rate", most=1)
    synops = at.number("synops_per_step")
    if [fitted, rate is not None, synops is not None].count(True) != 1:
        raise RowError(
            f"{at.where}: give 'rate' (spikes a neuron and step, at most 1, or {FITTED!r}) or "
            "'synops_per_step', one of them"
        )
    return Workload(
        chip=chip,
        steps=at.count("steps", None, most=MOST_STEPS),
        pipelined=at.flag("pipelined", True),
        input_shape=entered.sizes("shape", (1, 3)),
        input_rate=entered.number("rate", most=1, zero=True),
        layers=tuple(layers),
        rate=rate,
        synops_per_step=synops,
        reset=at.choice("reset", ("zero", "subtract"), "zero"),
    )


_LAYER = {
    "name", "shape", "from", "connect", "depth", "copies", "cores", "rate", "kernel", "stride",
    "padding", "groups", "pool", "fan_in", "weight_bits",
}  # fmt: skip


def _layer(at: _At, before: list[Layer]) -> Layer:
    at.keys(_LAYER)
    known = {"input", *(layer.name for layer in before)}
    name = at.text("name")
    if name in known:
        raise RowError(f"{at.where}: the name {name!r} is taken; layers need names of their own")
    sources = at.data.get("from")
    if (
        not isinstance(sources, list)
        or not sources
        or not all(isinstance(s, str) and s in known for s in sources)
    ):
        raise at.fail("from", f"a list of names among {', '.join(sorted(known))}")
    connect = at.choice("connect", get_args(Connect), "dense")
    shape = at.sizes("shape", (1, 3))
    if connect == "conv" and len(shape) != 3:
        raise at.fail("shape", "[channels, height, width] for a convolution")
    return Layer(
        name=name,
        shape=shape,
        sources=tuple(sources),
        connect=connect,
        depth=at.count("depth", 1, most=1000),
        copies=at.count("copies", 1, most=1000),
        cores=at.count("cores", None) if "cores" in at.data else None,
        rate=at.number("rate", most=1, zero=True),
        kernel=at.pair("kernel", (3, 3)),
        stride=at.pair("stride", (1, 1)),
        padding=at.pair("padding", (0, 0), least=0),
        groups=at.count("groups", 1),
        pool=at.count("pool", 1),
        fan_in=at.count("fan_in", None) if connect == "sparse" else 0,
        weight_bits=at.count("weight_bits", 8, least=2, most=8),
    )


_MEASURED = {"runs", "idle", "time_s", "power_w", "energy_j"}


def _measured(at: _At) -> Measured:
    time = at.inside("time_s", {"inference", "chip", "host", "spread"})
    power = at.inside("power_w", {"running", "idle_before", "idle_after", "spread"})
    energy = at.inside("energy_j", set(get_args(Part)))
    seconds = time.number("inference")
    parts = {part: energy.number(part) for part in get_args(Part)}
    running, idle = power.number("running"), power.number("idle_before", zero=True)
    if running is not None:
        if idle is None or seconds is None or idle >= running or parts["dynamic"] is not None:
            raise RowError(
                f"{power.where}: 'running' needs 'idle_before' below it, an inference's time, and "
                "no dynamic energy beside it"
            )
        parts["dynamic"] = (running - idle) * seconds
    after = power.number("idle_after", zero=True)
    found = Measured(
        runs=at.count("runs", 1),
        time_s=seconds,
        chip_time_s=time.number("chip"),
        host_time_s=time.number("host"),
        time_spread_s=time.number("spread", zero=True),
        energy_j={part: value for part, value in parts.items() if value is not None},
        cold=at.choice("idle", ("warm", "cold"), "warm") == "cold",
        idle_rise_w=None if after is None or idle is None else max(0.0, after - idle),
    )
    if not found.energy_j and seconds is None and found.chip_time_s is None:
        raise RowError(f"{at.where}: nothing is measured; give 'time_s', 'power_w' or 'energy_j'")
    return found
