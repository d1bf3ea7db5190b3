"""Staged graphs of every kind, small: each is what a quantized classifier would compile to."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeship.hw_models.graph import (
    Conv,
    Dense,
    FixedGraph,
    Identity,
    Input,
    Neuron,
    Readout,
    Sparse,
)


class Builder:
    """Adds layers to a staged graph, with seeded random weights."""

    def __init__(
        self,
        shape: tuple[int, ...],
        num_steps: int,
        seed: int = 0,
        encoding: str = "direct",
        max_message: int = 127,
    ) -> None:
        self.random = np.random.default_rng(seed)
        spikes = encoding != "direct"
        self.input = Input(
            name="input",
            shape=shape,
            encoding=encoding,  # type: ignore[arg-type]
            max_message=1 if spikes else max_message,
            signed=not spikes,
        )
        self.num_steps = num_steps
        self.shapes: dict[str, tuple[int, ...]] = {"input": shape}
        self.nodes: list[Any] = []
        self.synapses: list[Any] = []

    def weights(self, shape: tuple[int, ...]) -> NDArray[np.int64]:
        # of mixed signs, so even
        return 2 * self.random.integers(-16, 17, shape)

    def conv(self, source: str, target: str, out: int, side: int = 3, **options: Any) -> Conv:
        groups = options.get("groups", 1)
        pool = options.get("pool", 1)
        channels = self.shapes[source][0]
        synapse = Conv(
            name=f"{source} to {target}",
            source=source,
            target=target,
            weight=self.weights((out, channels // groups, side, side)),
            **options,
        )
        self.synapses.append(synapse)
        c, h, w = self.shapes[source]
        self.shapes.setdefault(target, synapse.output_shape((c, h // pool, w // pool)))
        return synapse

    def dense(self, source: str, target: str, out: int, **options: Any) -> None:
        size = int(np.prod(self.shapes[source])) // options.get("pool", 1) ** 2
        self.synapses.append(
            Dense(
                name=f"{source} to {target}",
                source=source,
                target=target,
                weight=self.weights((out, size)),
                **options,
            )
        )
        self.shapes.setdefault(target, (out,))

    def neuron(self, name: str, vth: Any = None, **options: Any) -> None:
        shape = self.shapes[name]
        if vth is None:
            vth = self.random.integers(40, 200, (shape[0],) + (1,) * (len(shape) - 1))
        vth = np.asarray(vth)
        start = self.random.integers(-2000, 2000, vth.shape) if vth.ndim else 0
        self.nodes.append(Neuron(name=name, shape=shape, vth=vth, v0=(vth << 5) + start, **options))

    def relay(
        self, source: str, name: str, side: int, stride: int = 0, padding: int = 0, delay: int = 1
    ) -> None:
        channels = self.shapes[source][0]
        stride = stride or side
        synapse = Conv(
            name=f"{source} to {name}",
            source=source,
            target=name,
            weight=np.full((channels, 1, side, side), 2),
            stride=(stride, stride),
            padding=(padding, padding),
            groups=channels,
            delay=delay,
        )
        self.synapses.append(synapse)
        self.shapes[name] = synapse.output_shape(self.shapes[source])
        self.nodes.append(
            Neuron(
                name=name,
                shape=self.shapes[name],
                vth=np.array(1),
                dv=np.array(4095),
                reset="zero",
                relay=True,
            )
        )

    def graph(self, out: int = 5) -> FixedGraph:
        last = self.nodes[-1].name
        self.dense(last, "out", out)
        return self.done()

    def done(self) -> FixedGraph:
        shape = self.shapes["out"]
        self.nodes.append(
            Readout(name="out", shape=shape, v0=self.random.integers(-500, 500, shape))
        )
        return FixedGraph(
            self.input,
            tuple(self.nodes),
            tuple(self.synapses),
            num_steps=self.num_steps,
            timing="staged",
        )


def chain(steps: int = 4, **options: Any) -> FixedGraph:
    build = Builder((2, 6, 6), steps, **options)
    build.conv("input", "a", 4)
    build.neuron("a")
    build.conv("a", "b", 4, padding=(1, 1))
    build.neuron("b")
    return build.graph()


def dense_only(steps: int = 4) -> FixedGraph:
    build = Builder((12,), steps)
    build.dense("input", "a", 9)
    build.neuron("a")
    build.dense("a", "b", 7)
    build.neuron("b")
    return build.graph()


def spikes_in(steps: int = 4) -> FixedGraph:
    return chain(steps, encoding="spikes")


def residual(steps: int = 4, skip_delay: int = 1) -> FixedGraph:
    build = Builder((2, 6, 6), steps)
    build.conv("input", "a", 4)
    build.neuron("a", 96)
    build.conv("a", "b", 4, padding=(1, 1))
    build.neuron("b")
    build.conv("b", "c", 4, padding=(1, 1))
    build.synapses.append(
        Conv(
            name="skip",
            source="a",
            target="c",
            weight=96 * np.ones((4, 1, 1, 1), np.int64),
            groups=4,
            delay=skip_delay,
        )
    )
    build.neuron("c")
    return build.graph()


def identity(steps: int = 4) -> FixedGraph:
    build = Builder((2, 6, 6), steps)
    build.conv("input", "a", 4)
    build.neuron("a")
    build.conv("a", "b", 4, padding=(1, 1))
    build.synapses.append(Identity(name="skip", source="a", target="b", delay=2))
    build.neuron("b")
    return build.graph()


def strided(steps: int = 4) -> FixedGraph:
    build = Builder((2, 8, 8), steps)
    build.conv("input", "a", 4, padding=(1, 1))
    build.neuron("a")
    build.conv("a", "b", 6, stride=(2, 2), padding=(1, 1))
    build.neuron("b")
    build.conv("b", "c", 6, padding=(1, 1))
    build.conv("a", "c", 6, 1, stride=(2, 2), delay=3)
    build.neuron("c")
    return build.graph()


def max_pool(steps: int = 4, side: int = 2, stride: int = 2, padding: int = 0) -> FixedGraph:
    build = Builder((2, 8, 8), steps)
    build.conv("input", "a", 4, padding=(1, 1))
    build.neuron("a")
    build.relay("a", "pool", side, stride, padding)
    build.conv("pool", "b", 4)
    build.neuron("b")
    return build.graph()


def overlapping(steps: int = 4) -> FixedGraph:
    return max_pool(steps, 3, 2, 1)


def relay_behind_relay(steps: int = 4) -> FixedGraph:
    build = Builder((2, 8, 8), steps)
    build.conv("input", "a", 4, padding=(1, 1))
    build.neuron("a")
    build.relay("a", "pool", 3, 1, 1)
    build.relay("pool", "again", 2, 2, delay=2)
    build.conv("again", "b", 4)
    build.neuron("b")
    return build.graph()


def max_and_average(steps: int = 4) -> FixedGraph:
    build = Builder((2, 8, 8), steps)
    build.conv("input", "a", 4, padding=(1, 1))
    build.neuron("a")
    build.relay("a", "pool", 2)
    build.conv("pool", "b", 4, 1, pool=2)
    build.neuron("b")
    return build.graph()


def average(steps: int = 4) -> FixedGraph:
    build = Builder((2, 8, 8), steps)
    build.conv("input", "a", 4, pool=2, padding=(1, 1))
    build.neuron("a")
    build.conv("a", "b", 4, 3, padding=(1, 1), pool=2)
    build.neuron("b")
    return build.graph()


def global_pool(steps: int = 4) -> FixedGraph:
    build = Builder((2, 6, 6), steps)
    build.conv("input", "a", 4)
    build.neuron("a")
    build.dense("a", "out", 5, pool=4, delay=2)
    return build.done()


def depthwise(steps: int = 4) -> FixedGraph:
    build = Builder((3, 7, 7), steps)
    build.conv("input", "a", 6, groups=3)
    build.neuron("a")
    build.conv("a", "b", 6, groups=6, padding=(1, 1))
    build.neuron("b")
    build.conv("b", "c", 4, 1)
    build.neuron("c")
    return build.graph()


def exponents(steps: int = 4) -> FixedGraph:
    build = Builder((2, 6, 6), steps)
    build.conv("input", "a", 4)
    build.neuron("a")
    build.conv("a", "b", 4, padding=(1, 1), delay=2, weight_exp=2)
    build.neuron("b")
    return build.graph()


def far_biases(steps: int = 4) -> FixedGraph:
    """Biases far beyond the 13 bits of a mantissa."""
    build = Builder((2, 6, 6), steps)
    build.conv("input", "a", 4)
    shape = build.shapes["a"]
    start = build.random.integers(-3_000_000, 3_000_000, (4, 1, 1))
    build.nodes.append(Neuron(name="a", shape=shape, vth=np.array(4_000), v0=start))
    return build.graph()


def sparse(steps: int = 4) -> FixedGraph:
    build = Builder((10,), steps)
    build.dense("input", "a", 8)
    build.neuron("a")
    matrix = build.weights((6, 8)) * (build.random.random((6, 8)) < 0.4)
    rows = [np.flatnonzero(row) for row in matrix]
    build.synapses.append(
        Sparse(
            name="sparse",
            source="a",
            target="b",
            data=np.concatenate([row[places] for row, places in zip(matrix, rows, strict=True)]),
            indices=np.concatenate(rows),
            indptr=np.cumsum([0, *map(len, rows)]),
            columns=8,
        )
    )
    build.shapes["b"] = (6,)
    build.neuron("b")
    return build.graph()


CASES: dict[str, Callable[..., FixedGraph]] = {
    "chain": chain,
    "dense": dense_only,
    "spikes_in": spikes_in,
    "residual": residual,
    "identity": identity,
    "strided_skip": strided,
    "max_pool": max_pool,
    "overlapping_max_pool": overlapping,
    "relay_behind_relay": relay_behind_relay,
    "max_and_average": max_and_average,
    "average": average,
    "global_pool": global_pool,
    "depthwise": depthwise,
    "exponents": exponents,
    "far_biases": far_biases,
    "sparse": sparse,
}


def messages(graph: FixedGraph, images: int = 3, seed: int = 0) -> NDArray[np.int64]:
    """Random messages of the graph's kind: (images, 1 or T, *shape)."""
    random = np.random.default_rng(seed)
    assert graph.num_steps is not None
    shape = (images, graph.input_steps(graph.num_steps), *graph.input.shape)
    if graph.input.max_message == 1:
        return (random.random(shape) < 0.3).astype(np.int64)
    return random.integers(-graph.input.max_message, graph.input.max_message + 1, shape)
