"""Loihi 1: 14 nm, 128 neuron cores in 32 tiles, asynchronous.

Two published sets of event costs exist: Davies et al. (simulated before silicon) and SANA-FE's fit
to a Nahuku board. The fit is one set that was fitted together, so its figures are the values used;
both sets make the range.
"""

from spikeship.hw_models.chips.spec import ChipSpec, Constant, EventCosts, Kind, Limit

_DAVIES = "Davies et al., IEEE Micro 38(1), 2018"
_TABLE = f"{_DAVIES}, Table 2 (0.75 V, pre-silicon)"
_SANAFE = "SANA-FE arch/loihi.yaml (fitted to a Nahuku board)"
_CORES_PER_TILE = 4


def _limit(value: int, unit: str, source: str = _DAVIES, kind: Kind = "stated") -> Limit:
    return Limit(value, unit, source, kind)


def _joules(value: float, low: float, high: float, source: str) -> Constant:
    """Picojoules in, joules kept."""
    return Constant(value * 1e-12, low * 1e-12, high * 1e-12, "J", source, "fitted")


def _seconds(value: float, low: float, high: float, source: str) -> Constant:
    """Nanoseconds in, seconds kept."""
    return Constant(value * 1e-9, low * 1e-9, high * 1e-9, "s", source, "fitted")


_BARRIER = f"{_SANAFE}; low: {_DAVIES}, 113 ns for one tile to 465 ns for 32"

LOIHI1 = ChipSpec(
    name="loihi1",
    cores_per_chip=_limit(128, "cores"),
    compartments_per_core=_limit(1024, "compartments"),
    soft_reset_compartments=_limit(
        2, "compartments", "NxTF (Rueckauer et al., 2021): soft reset needs a second compartment"
    ),
    synaptic_memory=_limit(128 * 1024 * 8, "bits"),
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
        synop=_joules(
            24.0,
            23.6,
            35.5,
            f"{_SANAFE}: convolution 24.0, sparse 33.6, dense 35.5 pJ; {_TABLE}: at least 23.6",
        ),
        neuron_update=_joules(
            72.8,
            51.2,
            81.0,
            f"{_SANAFE}: access 51.2 + update 21.6 pJ; {_TABLE}: 52 inactive, 81 active",
        ),
        spike_out=_joules(
            69.3, 0.0, 69.3, f"{_SANAFE}; low: {_TABLE} books a spike's making in the update"
        ),
        message_out=_joules(
            111.0,
            1.7,
            144.6,
            f"{_SANAFE}; low: {_TABLE}, spike within a tile; high: with the mesh's longest way, "
            "7 hops of 3.0 and 3 of 4.2 pJ",
        ),
        message_in=_joules(0.0, 0.0, 0.0, f"{_SANAFE}: 0 pJ, the synaptic operations hold it"),
    ),
    time=EventCosts(
        synop=_seconds(
            3.1,
            3.1,
            4.7,
            f"{_SANAFE}: convolution 3.1, dense 3.8, sparse 4.7 ns; {_TABLE}: at most 3.5",
        ),
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
    ),
    barriers=(
        (_CORES_PER_TILE, _seconds(600, 113, 600, _BARRIER)),
        (2 * _CORES_PER_TILE, _seconds(1000, 113, 1000, _BARRIER)),
        (4 * _CORES_PER_TILE, _seconds(1400, 113, 1400, _BARRIER)),
        (32 * _CORES_PER_TILE, _seconds(1800, 465, 1800, f"{_BARRIER}; fitted at 29 tiles")),
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
    notes=(
        "loihi1 has no clock: cycles are serial slots of the busiest core, time comes from event "
        "times in ns",
    ),
)
