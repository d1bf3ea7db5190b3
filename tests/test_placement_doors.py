"""What cannot be placed at all is refused by name and reason, before anything is counted."""

from typing import Any

import numpy as np
import pytest
from placed_graphs import LOIHI1, chain, dense_graph

from spikeship.hw_models.events.traffic import Traffic
from spikeship.hw_models.graph import Delta, GraphError, Input, Neuron, Readout, SigmaDelta
from spikeship.hw_models.placement.placement import PlacementError, Rules
from spikeship.hw_models.placer.place import place


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (-1,)])
@pytest.mark.parametrize("kind", [Input, Neuron, Delta, SigmaDelta, Readout])
def test_a_node_has_neurons(kind: Any, shape: tuple[int, ...]) -> None:
    fields = {} if kind in (Input, Readout) else {"vth": np.array(1)}
    with pytest.raises(GraphError, match=r"node 'x': shape \(.*\) holds no neurons"):
        kind("x", shape, **fields)


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"axons": "both"}, "axons is 'both', not one of population, single"),
        ({"kernels": "x"}, "kernels is 'x', not one of shared, unshared"),
        ({"axons": None}, "axons is None"),
    ],
)
def test_rules_are_words_that_are_known(rules: dict[str, Any], words: str) -> None:
    with pytest.raises(PlacementError, match=words):
        Rules(**rules)


@pytest.mark.parametrize("value", [0, -1, 2.5, float("nan"), float("inf"), True, "4"])
@pytest.mark.parametrize("name", ["cores", "max_chips"])
def test_cores_and_chips_are_whole_numbers(name: str, value: Any) -> None:
    with pytest.raises(PlacementError, match=f"{name}: .* is no number of them"):
        place(dense_graph(4, 4), LOIHI1, **{name: value})


@pytest.mark.parametrize("value", [float("nan"), -5.0, float("inf")])
@pytest.mark.parametrize("even", [False, True])
def test_traffic_is_of_counts(value: float, even: bool) -> None:
    def sent(steps: int, bad: bool) -> Any:
        each = np.ones((steps, 1) if even else (steps, 4), np.float32)
        each[-1, -1] = value if bad else 1.0
        return np.broadcast_to(each, (steps, 4))

    graph = chain(4, 4, 4)
    for bad in ("input", "n1"):
        messages = {
            "input": sent(3, bad == "input"),
            "n1": sent(5, bad == "n1"),
            "n2": sent(5, False),
        }
        with pytest.raises(PlacementError, match=f"traffic of node '{bad}': no number of messages"):
            place(graph, LOIHI1, traffic=Traffic(messages))


def test_traffic_has_steps() -> None:
    graph = chain(4, 4, 4)
    sent = {"input": np.zeros((0, 4)), "n1": np.zeros((2, 4)), "n2": np.zeros((2, 4))}
    with pytest.raises(PlacementError, match="traffic of node 'input': no number of messages"):
        place(graph, LOIHI1, traffic=Traffic(sent))
