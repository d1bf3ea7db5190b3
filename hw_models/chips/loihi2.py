"""Loihi 2: Intel 4, at most 128 neuron cores, microcoded neurons, graded spikes.

Intel publishes no energy per operation. Every energy here is an estimate made from Loihi 1's: at
most as much as on Loihi 1 (a newer process costs no more), at least Loihi 1's divided by Intel's
speed-up of that event (energy falling as time does), and between the two on a logarithmic scale.
"""

from math import sqrt

from spikeship.hw_models.chips.loihi1 import LOIHI1
from spikeship.hw_models.chips.spec import ChipSpec, Constant, EventCosts, Kind, Limit

_INTEL = "Intel, Taking Neuromorphic Computing to the Next Level with Loihi 2, 2021"
_FACTORS = f"{_INTEL}: neuron update 2x, synaptic operation 5x, spike generation 10x faster"
_NEURON, _SYNOP, _SPIKE = 2.0, 5.0, 10.0


def _limit(value: int, unit: str, source: str = _INTEL, kind: Kind = "stated") -> Limit:
    return Limit(value, unit, source, kind)


def _estimated_j(loihi1: Constant, factor: float) -> Constant:
    source = (
        f"estimated: no energy per operation is public; between Loihi 1's figure ({loihi1.source}) "
        f"and that over {factor:g}, the middle on a logarithmic scale ({_FACTORS})"
    )
    return Constant(
        loihi1.value / sqrt(factor), loihi1.low / factor, loihi1.high, "J", source, "assumed"
    )


def _derived_s(loihi1: Constant, factor: float, reason: str) -> Constant:
    """Loihi 1's time and its spread, divided by a factor."""
    source = f"{reason}; from Loihi 1's ({loihi1.source})"
    value, low, high = (time / factor for time in (loihi1.value, loihi1.low, loihi1.high))
    return Constant(value, low, high, "s", source, "assumed")


def _at_most_as_loihi1(loihi1: Constant, factor: float, like: str) -> Constant:
    """Loihi 1's time divided by a factor, and anything from nothing to all of it."""
    source = (
        f"no figure of Loihi 2 is public; Loihi 1's over {factor:g}, taken {like}, and at most all "
        f"of it ({loihi1.source})"
    )
    return Constant(loihi1.value / factor, 0.0, loihi1.high, "s", source, "assumed")


_ENERGY, _TIME = LOIHI1.energy, LOIHI1.time
_AS_LOIHI1 = "no figure of Loihi 2 is public; assumed as on Loihi 1"

LOIHI2 = ChipSpec(
    name="loihi2",
    cores_per_chip=_limit(128, "cores"),
    cores_per_tile=_limit(LOIHI1.cores_per_tile.value, "cores", _AS_LOIHI1, "assumed"),
    mesh_width=_limit(LOIHI1.mesh_width.value, "tiles", _AS_LOIHI1, "assumed"),
    compartments_per_core=_limit(8192, "compartments"),
    soft_reset_compartments=_limit(
        1, "compartments", f"{_INTEL}: neurons are microcoded, so a reset rule costs no second one"
    ),
    synaptic_memory=_limit(128 * 1024 * 8, "bits", f"{_INTEL}: at most 128 of a core's 192 KB"),
    core_memory=_limit(192 * 1024 * 8, "bits", f"{_INTEL}: 192 KB a core"),
    input_axons=_limit(LOIHI1.input_axons.value, "axons", _AS_LOIHI1, "assumed"),
    output_axons=_limit(LOIHI1.output_axons.value, "axons", _AS_LOIHI1, "assumed"),
    weight_bits=_limit(8, "bits"),
    max_delay=_limit(LOIHI1.max_delay.value, "steps", _AS_LOIHI1, "assumed"),
    message_bits=_limit(32, "bits"),
    kernel_rule="a convolution's weights are stored once a core",
    energy=EventCosts(
        synop_conv=_estimated_j(_ENERGY.synop_conv, _SYNOP),
        synop_dense=_estimated_j(_ENERGY.synop_dense, _SYNOP),
        synop_sparse=_estimated_j(_ENERGY.synop_sparse, _SYNOP),
        neuron_update=_estimated_j(_ENERGY.neuron_update, _NEURON),
        spike_out=_estimated_j(_ENERGY.spike_out, _SPIKE),
        message_out=_estimated_j(_ENERGY.message_out, _SPIKE),
        message_in=_estimated_j(_ENERGY.message_in, _SYNOP),
        hop_x=_estimated_j(_ENERGY.hop_x, _SPIKE),
        hop_y=_estimated_j(_ENERGY.hop_y, _SPIKE),
    ),
    time=EventCosts(
        synop_conv=_derived_s(_TIME.synop_conv, _SYNOP, _FACTORS),
        synop_dense=_derived_s(_TIME.synop_dense, _SYNOP, _FACTORS),
        synop_sparse=_derived_s(_TIME.synop_sparse, _SYNOP, _FACTORS),
        neuron_update=_derived_s(_TIME.neuron_update, _NEURON, _FACTORS),
        spike_out=_derived_s(_TIME.spike_out, _SPIKE, _FACTORS),
        message_out=_derived_s(_TIME.message_out, _SPIKE, f"taken as spike generation, {_FACTORS}"),
        message_in=_at_most_as_loihi1(_TIME.message_in, _SYNOP, "as a synaptic operation"),
        hop_x=_at_most_as_loihi1(_TIME.hop_x, _SPIKE, "as spike generation"),
        hop_y=_at_most_as_loihi1(_TIME.hop_y, _SPIKE, "as spike generation"),
    ),
    barriers=(
        (
            1,
            Constant(
                sqrt(67e-9 * 200e-9),
                67e-9,
                200e-9,
                "s",
                f"{_INTEL}: a step can take less than 200 ns; candidates from 67 ns on, the middle "
                "on a logarithmic scale",
                "assumed",
            ),
        ),
    ),
    static_power=Constant(
        0.257,
        0.232,
        0.282,
        "W",
        "lava-dl's notebooks, 232 to 282 mW a chip; the middle",
        "measured",
    ),
    host=None,
    notes=(
        "loihi2 energies are estimated from Loihi 1's: no energy per operation of Loihi 2 is "
        "public, so the range is wide",
        "loihi2 event times are Loihi 1's divided by Intel's stated factors, not measured",
    ),
)
