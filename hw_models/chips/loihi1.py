"""Loihi 1: 14 nm, 128 neuron cores in 32 tiles, asynchronous.

Two published sets of event costs exist: Davies et al. (simulated before silicon) and SANA-FE's fit
to a Nahuku board. The fit is one set that was fitted together, so its figures are the values used;
both sets make the range.
"""

from spikeship.hw_models.chips.host import LOIHI1_HOST
from spikeship.hw_models.chips.spec import ChipSpec, Constant, EventCosts, Kind, Limit

_DAVIES = "Davies et al., IEEE Micro 38(1), 2018"
_TABLE = f"{_DAVIES}, Table 2 (0.75 V, pre-silicon)"
_SANAFE = "SANA-FE arch/loihi.yaml (fitted to a Nahuku board)"


def _limit(value: int, unit: str, source: str = _DAVIES, kind: Kind = "stated") -> Limit:
    return Limit(value, unit, source, kind)


# the largest errors of whole workloads that the fit's authors report: what the fit may be short of
_ENERGY_ERROR, _TIME_ERROR = 0.117, 0.243


def _above(error: float) -> str:
    return f"; high: at least the fit's own largest error, {error:.1%}, above it"


def _joules(fitted: float, low: float, high: float, source: str) -> Constant:
    """Picojoules in, joules kept; the high end allows for the fit's own error."""
    most = max(high, fitted * (1 + _ENERGY_ERROR))
    source += _above(_ENERGY_ERROR)
    return Constant(fitted * 1e-12, low * 1e-12, most * 1e-12, "J", source, "fitted")


def _seconds(fitted: float, low: float, high: float, source: str) -> Constant:
    """Nanoseconds in, seconds kept; the high end allows for the fit's own error."""
    most = max(high, fitted * (1 + _TIME_ERROR))
    source += _above(_TIME_ERROR)
    return Constant(fitted * 1e-9, low * 1e-9, most * 1e-9, "s", source, "fitted")


def _barrier(fitted: float, low: float) -> Constant:
    source = (
        f"{_SANAFE}, latency_sync at 1, 2, 4 and 29 tiles, where it takes the smaller between two; "
        f"low: {_DAVIES}, 113 ns for one tile to 465 ns for 32"
    )
    return _seconds(fitted, low, fitted, source)


LOIHI1 = ChipSpec(
    name="loihi1",
    cores_per_chip=_limit(128, "cores"),
    cores_per_tile=_limit(4, "cores"),
    mesh_width=_limit(8, "tiles"),
    compartments_per_core=_limit(1024, "compartments"),
    soft_reset_compartments=_limit(
        2, "compartments", "NxTF (Rueckauer et al., 2021): soft reset needs a second compartment"
    ),
    synaptic_memory=_limit(128 * 1024 * 8, "bits"),
    core_memory=None,
    input_axons=_limit(4096, "axons"),
    output_axons=_limit(4096, "axons"),
    weight_bits=_limit(9, "bits"),
    max_delay=_limit(62, "steps"),
    message_bits=_limit(1, "bits"),
    kernel_rule=(
        "a convolution's weights are stored once a core, its sources sharing population axons "
        "(the rule by which published CNN mappings fit)"
    ),
    energy=EventCosts(
        synop_conv=_joules(24.0, 23.6, 24.0, f"{_SANAFE}, convolution; low: {_TABLE}"),
        synop_dense=_joules(35.5, 23.6, 35.5, f"{_SANAFE}, dense; low: {_TABLE}"),
        synop_sparse=_joules(33.6, 23.6, 33.6, f"{_SANAFE}, sparse; low: {_TABLE}"),
        neuron_update=_joules(
            72.8,
            51.2,
            81.0,
            f"{_SANAFE}: access 51.2 + update 21.6 pJ; {_TABLE}: 52 inactive, 81 active",
        ),
        spike_out=_joules(
            69.3, 0.0, 69.3, f"{_SANAFE}; low: {_TABLE} books a spike's making in the update"
        ),
        message_out=_joules(111.0, 1.7, 111.0, f"{_SANAFE}; low: {_TABLE}, spike within a tile"),
        message_in=_joules(0.0, 0.0, 0.0, f"{_SANAFE}: 0 pJ, the synaptic operations hold it"),
        hop_x=_joules(3.0, 3.0, 3.0, f"{_SANAFE}; {_TABLE}: 3.0, E-W"),
        hop_y=_joules(4.2, 4.0, 4.2, f"{_SANAFE}; low: {_TABLE}: 4.0, N-S"),
    ),
    time=EventCosts(
        synop_conv=_seconds(3.1, 3.1, 3.5, f"{_SANAFE}, convolution; {_TABLE}: at most 3.5"),
        synop_dense=_seconds(3.8, 3.5, 3.8, f"{_SANAFE}, dense; {_TABLE}: at most 3.5"),
        synop_sparse=_seconds(4.7, 3.5, 4.7, f"{_SANAFE}, sparse; {_TABLE}: at most 3.5"),
        neuron_update=_seconds(
            9.7,
            5.3,
            9.7,
            f"{_SANAFE}: access 6.0 + update 3.7 ns; {_TABLE}: 5.3 inactive, 8.4 active",
        ),
        spike_out=_seconds(
            30.0, 0.0, 30.0, f"{_SANAFE}; low: {_TABLE} books a spike's making in the update"
        ),
        message_out=_seconds(5.1, 2.1, 5.1, f"{_SANAFE}; low: {_TABLE}, spike within a tile"),
        message_in=_seconds(16.0, 0.0, 16.0, f"{_SANAFE}; low: {_TABLE} has no such row"),
        hop_x=_seconds(4.1, 4.1, 4.1, f"{_SANAFE}; {_TABLE}: 4.1, E-W"),
        hop_y=_seconds(6.5, 6.5, 6.5, f"{_SANAFE}; {_TABLE}: 6.5, N-S"),
    ),
    barriers=(
        (1, _barrier(600, 113)),
        (2, _barrier(1000, 113)),
        (4, _barrier(1400, 113)),
        (29, _barrier(1800, 465)),
    ),
    static_power=Constant(
        0.104,
        0.0295,
        0.104,
        "W",
        "Frady et al., 2020 (104 mW); low: Blouw et al., 2019, power logs before the first run "
        "(29.5 mW)",
        "measured",
    ),
    host=LOIHI1_HOST,
    notes=(
        "loihi1 has no clock: cycles are serial slots of the busiest core, time comes from event "
        "times in ns",
    ),
)
