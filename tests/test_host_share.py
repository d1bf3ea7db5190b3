"""The host's share of an inference: its ends at other T than that of its measurements."""

from dataclasses import replace

import numpy as np
import pytest

from spikeship.hw_models import chips
from spikeship.hw_models.chips.host import LOIHI1_COLD_STATIC, LOIHI1_HOST, LOIHI1_IDLE_RISE
from spikeship.hw_models.cost.host_share import HostShare, host_share
from spikeship.hw_models.events.counts import count_events
from spikeship.hw_models.events.traffic import Traffic
from spikeship.hw_models.graph import Dense, FixedGraph, Input, Neuron, Readout


def share(num_steps: int, known: bool = False) -> HostShare:
    graph = FixedGraph(
        Input("input", (3,), signed=False),
        (Readout("out", (2,)),),
        (Dense(name="fc", source="input", target="out", weight=np.full((2, 3), 2, np.int16)),),
        num_steps,
    )
    counts = count_events(graph, {}, np.ones((1, num_steps, 3), np.int8))
    chip = chips.get("loihi1")
    if known:
        chip = replace(chip, host=replace(LOIHI1_HOST, num_steps=None))
    return host_share(graph, chip, Traffic.even(graph, counts), num_steps)


@pytest.mark.parametrize(("num_steps", "least", "most"), [(1, 0.1, 1), (10, 1, 1), (100, 1, 10)])
def test_the_ends_hold_a_constant_an_inference_and_one_a_step(
    num_steps: int, least: float, most: float
) -> None:
    found = share(num_steps)
    joules, seconds = LOIHI1_HOST.joules, LOIHI1_HOST.seconds
    assert (found.energy_j, found.latency_s) == (joules.value, seconds.value)
    assert [found.low, found.high] == pytest.approx([joules.low * least, joules.high * most])
    ends = [found.latency_low_s, found.latency_high_s]
    assert ends == pytest.approx([seconds.low * least, seconds.high * most])
    assert ("cannot tell a constant an inference" in found.source) is (num_steps != 10)
    assert "keyword spotter took 3.37 ms in all, host included" in found.source


def test_a_constant_known_to_be_an_inferences_does_not_grow_with_the_steps() -> None:
    found = share(100, known=True)
    assert (found.latency_low_s, found.latency_high_s) == (
        LOIHI1_HOST.seconds.low,
        LOIHI1_HOST.seconds.high,
    )
    assert "T is" not in found.source


def test_a_cold_board_and_the_rise_of_its_idle_make_a_warm_one() -> None:
    cold, warm = LOIHI1_COLD_STATIC, chips.get("loihi1").static_power
    assert cold.value == cold.low == warm.low == 0.0295
    assert cold.high + LOIHI1_IDLE_RISE.low == pytest.approx(warm.high)
    # nowhere is the rise in both
    assert cold.value + LOIHI1_IDLE_RISE.value < warm.high < cold.high + LOIHI1_IDLE_RISE.value


def test_the_host_multiplies_by_weights_that_are_zero_too() -> None:
    """A dense product skips none: 2 values that are not 0, 3 outputs, once for all 4 steps."""
    weight = np.array([[2, 0, 2], [0, 2, 0], [0, 0, 0]], np.int16)
    graph = FixedGraph(
        Input("input", (3,), "direct", max_message=9),
        (Neuron("n", (3,), vth=np.array(5)), Readout("out", (1,))),
        (
            Dense(name="a", source="input", target="n", weight=weight),
            Dense(name="b", source="n", target="out", weight=np.full((1, 3), 2, np.int16)),
        ),
        num_steps=4,
    )
    spikes = {"n": np.zeros((1, graph.chip_steps(4), 3), np.int8)}
    counts = count_events(graph, spikes, np.tile([5, 0, -7], (1, 4, 1)))
    found = host_share(graph, chips.get("loihi1"), Traffic.even(graph, counts), 4)
    assert found.macs == pytest.approx(2 * 3)
    assert found.injected_values == 3 * 4
