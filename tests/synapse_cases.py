"""Random synapses with messages, at the edges of what weights and messages may be."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import assume
from hypothesis import strategies as st

from spikeship.hw_models.graph import (
    AnySynapse,
    Conv,
    Dense,
    FixedGraph,
    GraphError,
    Input,
    Neuron,
    Shape,
)
from spikeship.hw_models.graph.layout import to_last
from spikeship.hw_models.reference import sums as reference_sums
from spikeship.hw_models.simulator.sums.sum_choice import Backend
from spikeship.hw_models.simulator.sums.sums import Sums

Array = npt.NDArray[Any]
BACKENDS: tuple[Backend | None, ...] = (None, "int8", "float32", "float64", "events")
# (least, largest, multiple of) weights, at the edges of what a synapse holds
WEIGHTS = [
    (-256, 254, 2),
    (-254, 254, 2),
    (-255, 255, 1),  # 9 bits
    (0, 255, 1),
    (-255, 0, 1),
    (-127, 127, 1),
    (-256, 192, 64),
    (0, 0, 1),
]
# (largest message, signed, dtype)
MESSAGES = [
    (1, False, np.uint8),
    (1, True, np.int8),
    (15, False, np.uint8),
    (63, True, np.int8),
    (127, True, np.int8),
    (127, False, np.uint8),
    (255, False, np.uint8),
    (300, True, np.int16),
    (30000, True, np.int32),
]


@dataclass
class Case:
    graph: FixedGraph
    synapse: AnySynapse
    messages: Array  # torch's order

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Print it in a line, as graphs.Case."""
        kind = type(self.synapse).__name__
        printer.text(f"Case({kind} from {self.shape} to {self.graph.output.shape})")

    @property
    def shape(self) -> Shape:
        return self.graph.input.shape

    def expected(self) -> Array:
        target = self.graph.output.shape
        sums = reference_sums.apply(self.synapse, self.messages.astype(np.int64), target)
        return to_last(sums, target).reshape(len(sums), -1)

    def check(self, backend: Backend | None, bound: int | None = None) -> Array:
        sums = Sums(self.graph, self.synapse, backend)
        found = sums(to_last(self.messages, self.shape), bound)
        assert found.dtype == sums.dtype in (np.float32, np.int32)
        assert np.array_equal(found, self.expected())
        return found

    def proved(self, backend: Backend) -> bool:
        sums = Sums(self.graph, self.synapse, backend)
        return bool(sums.backends[backend].proves(sums.message))


def make_case(synapse: AnySynapse, source: Shape, target: Shape, kind: Any, rng: Any) -> Case:
    largest, signed, dtype = kind
    entry = Input("input", source, "spikes", max_message=largest, signed=signed)
    node = Neuron("out", target, vth=np.array(1))
    try:
        graph = FixedGraph(entry, (node,), (synapse,))
    except GraphError:
        assume(False)  # sums beyond 32 bits
    shape = (int(rng.integers(1, 6)), *source)
    messages = rng.integers(-largest if signed else 0, largest + 1, shape)
    messages *= rng.random(shape) < rng.choice([0.0, 0.05, 0.4, 1.0])
    return Case(graph, synapse, messages.astype(dtype))


def weights(rng: Any, kind: Any, shape: Shape) -> Array:
    low, high, step = kind
    drawn = step * rng.integers(low // step, high // step + 1, shape)
    if rng.random() < 0.5:  # one output that leans to one side as far as it can
        drawn[0] = high if rng.random() < 0.5 else low
    drawn.flat[rng.integers(drawn.size)] = low
    drawn.flat[rng.integers(drawn.size)] = high
    if drawn.max() <= 0:  # one sign reaches less far
        drawn = np.maximum(drawn, -(255 // step * step))
    return np.asarray(drawn)


def _ends(weight: Array) -> dict[str, Any]:
    nine_bits = weight.min() < 0 < weight.max() and bool((weight % 2).any())
    bits = 9 if nine_bits else 8
    return {"source": "input", "target": "out", "num_weight_bits": bits, "weight": weight}


@st.composite
def convs(draw: st.DrawFn) -> Case:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pool = draw(st.sampled_from([1, 1, 2, 3]))
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    channels = groups * draw(st.integers(1, 9))
    height, width = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    kernel = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    kind = draw(st.sampled_from(WEIGHTS))
    shape = (groups * draw(st.integers(1, 9)), channels // groups, *kernel)
    synapse = Conv(
        name="conv",
        **_ends(weights(rng, kind, shape)),
        stride=(draw(st.integers(1, 3)), draw(st.integers(1, 3))),
        padding=(draw(st.integers(0, 3)), draw(st.integers(0, 3))),
        dilation=(draw(st.integers(1, 2)), draw(st.integers(1, 2))),
        groups=groups,
        pool=pool,
        weight_exp=draw(st.sampled_from([0, 0, 3, -1, -8])),
        delay=2,
    )
    target = synapse.output_shape((channels, height, width))
    assume(min(target) > 0)
    source = (channels, height * pool, width * pool)
    return make_case(synapse, source, target, draw(st.sampled_from(MESSAGES)), rng)


@st.composite
def denses(draw: st.DrawFn) -> Case:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    flat = draw(st.booleans())
    pool = 1 if flat else draw(st.integers(1, 2))
    pooled = (draw(st.integers(1, 5)), draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    source: Shape = (pooled[0], pooled[1] * pool, pooled[2] * pool)
    inputs = int(np.prod(pooled))
    target = draw(st.sampled_from([(1,), (7,), (70,), (3, 2, 4)]))
    kind = draw(st.sampled_from(WEIGHTS))
    synapse = Dense(
        name="dense",
        **_ends(weights(rng, kind, (int(np.prod(target)), inputs))),
        pool=pool,
        weight_exp=draw(st.sampled_from([0, 2, -2])),
        delay=2,
    )
    source = (inputs,) if flat else source
    return make_case(synapse, source, target, draw(st.sampled_from(MESSAGES)), rng)


def dense_graph(weight: Array, source: Input | None = None, **options: Any) -> FixedGraph:
    synapse = Dense(name="fc", source="input", target="out", weight=weight, **options)
    entry = source or Input("input", (weight.shape[1],), "spikes", signed=False)
    node = Neuron("out", (weight.shape[0],), vth=np.array(1))
    return FixedGraph(entry, (node,), (synapse,))
