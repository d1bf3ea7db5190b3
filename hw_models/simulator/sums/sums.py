"""Weighted sums of many messages at once, exact by proof, the fastest way there is.

This file uses torch. A synapse has up to four ways to its sums: 8-bit integer products
(``int8_sums.py``), float32 and float64 ones (``float_sums.py``), and message by message
(``event_sums.py``). Each says for which messages its sums are exact; among those that are, what
calls took decides at the activity at hand (``sum_choice.py``).
"""

import threading
import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from spikeship.hw_models import fixed
from spikeship.hw_models.errors import InputError
from spikeship.hw_models.graph import (
    AnySynapse,
    Conv,
    Dense,
    FixedGraph,
    Identity,
    Shape,
    Sparse,
    pooled_shape,
)
from spikeship.hw_models.graph.layout import last_shape, permutation
from spikeship.hw_models.reference.sums import StateOverflowError
from spikeship.hw_models.simulator.sums.event_sums import EventSums
from spikeship.hw_models.simulator.sums.float_sums import EXACT_FLOAT32, FloatSums
from spikeship.hw_models.simulator.sums.int8_sums import Int8Sums
from spikeship.hw_models.simulator.sums.pooling import pool
from spikeship.hw_models.simulator.sums.sum_choice import Backend, Choice, Work
from spikeship.hw_models.simulator.sums.weight_bounds import WeightBounds

__all__ = ["EXACT_FLOAT32", "Sums"]

INT32 = np.iinfo(np.int32)
COUNTED_ROWS = 8
AnySums = Int8Sums | FloatSums | EventSums


class Sums:
    """One synapse of one delay, ready to turn messages into sums. Threads may share it.

    Args:
        graph: the graph.
        synapse: one of its synapses, or of the parts of one.
        backend: the only way to take; the fastest is chosen for each call by default.
        message: largest magnitude of a message; the graph's by default.

    Raises:
        ValueError: a synapse whose weights have delays of their own, or a way it does not have.
    """

    def __init__(
        self,
        graph: FixedGraph,
        synapse: AnySynapse,
        backend: Backend | None = None,
        *,
        message: int | None = None,
    ) -> None:
        if isinstance(synapse, Dense) and synapse.delays is not None:
            raise InputError(
                f"synapse {synapse.name!r}: its weights have delays of their own; make the sums "
                "of each of its parts()"
            )
        self.synapse, self.backend = synapse, backend
        source, self.target = graph.node(synapse.source).shape, graph.node(synapse.target).shape
        self.source = last_shape(source)
        self.pooled = pooled_shape(source, synapse.pool, synapse.name)
        self.neurons = int(np.prod(self.target, dtype=np.int64))
        self.signed = graph.signed(synapse)
        self.bounds = WeightBounds.of(synapse)
        self.message = graph.max_message(synapse)
        if message is not None:
            self.message = message * synapse.pool**2
        self.dtype: Any = np.float32 if self.largest < EXACT_FLOAT32 else np.int32
        self.diagonal = _diagonal(synapse, self.target) if self.pooled == self.target else None
        self.lock = threading.Lock()
        self.choice = Choice()
        self.tried: set[Backend] = set()
        self.work = self._work()
        self.backends = self._backends()
        if backend is not None and backend not in self.backends:
            raise InputError(
                f"synapse {synapse.name!r}: a {type(synapse).__name__} has no sums by "
                f"{backend!r}; it has {', '.join(self.backends) or 'one way only'}"
            )

    def __call__(self, messages: NDArray[Any], bound: int | None = None) -> NDArray[Any]:
        """Sum messages.

        Args:
            messages: (rows, *source shape), channels last, integers.
            bound: a magnitude that none of them passes; what the graph says by default.

        Returns:
            (rows, target neurons), channels last, exponent applied; float32 where that holds
            every sum the graph allows, else int32.

        Raises:
            ValueError: messages of another shape, or too large for the backend asked for.
            StateOverflowError: pooled messages leave 24 bits, or sums 32.
        """
        if messages.shape[1:] != self.source or messages.dtype.kind not in "iu":
            raise InputError(
                f"synapse {self.synapse.name!r}: takes integers of shape (rows, "
                f"{', '.join(map(str, self.source))}), got {messages.dtype} {messages.shape}"
            )
        if len(messages) == 0:
            return np.zeros((0, self.neurons), self.dtype)
        most = self.message if bound is None else min(self.message, bound * self.synapse.pool**2)
        pooled = pool(np.ascontiguousarray(messages), self.synapse.pool, most)
        if bound is None and self.message > np.iinfo(np.int16).max:
            most = int(max(pooled.max(), -int(pooled.min())))
        if most > fixed.STATE_RAIL:
            self._require_24_bits(pooled)
        if isinstance(self.synapse, Identity):
            return self._same(pooled)
        exact = self._largest(most) < EXACT_FLOAT32
        if self.diagonal is not None and self.backend is None and exact:
            return self._finished(pooled.reshape(len(pooled), -1) * self.diagonal, most)
        return self._finished(self._sums(pooled, most), most)

    @property
    def largest(self) -> int:
        """Largest magnitude of a sum that the graph allows, exponent applied."""
        return self._largest(self.message)

    def _sums(self, pooled: NDArray[Any], most: int) -> NDArray[Any]:
        rows = len(pooled)
        exact = [name for name, way in self.backends.items() if way.proves(most)]
        if self.backend is not None:
            if self.backend not in exact:
                raise InputError(
                    f"synapse {self.synapse.name!r}: messages up to {most} are not proved exact "
                    f"by {self.backend!r}; leave the choice of the backend open"
                )
            exact = [self.backend]
        events = _events(pooled) if len(exact) > 1 else 0
        guesses = {name: self.work.seconds(name, rows, events) for name in exact}
        chosen = self._ready(guesses)
        clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
        begin = clock()
        way = self.backends[chosen]
        sums = way(pooled, most) if isinstance(way, EventSums) else way(pooled)
        seconds = clock() - begin
        if chosen in self.tried:  # the first call also compiles and allocates
            self.choice.learn(chosen, guesses[chosen], seconds)
        self.tried.add(chosen)
        return sums

    def _ready(self, guesses: dict[Backend, float]) -> Backend:
        """Choose a backend whose weights are, or can be made, ready."""
        while True:
            chosen = self.choice.fastest(guesses)
            with self.lock:
                if self.backends[chosen].prepare():
                    return chosen
            del guesses[chosen]
            if not guesses:
                raise InputError(
                    f"synapse {self.synapse.name!r}: {chosen!r} gives other sums on this machine; "
                    "leave the choice of the backend open"
                )

    def _finished(self, sums: NDArray[Any], most: int) -> NDArray[Any]:
        """Sums in the type that this synapse's sums always have."""
        if sums.dtype == self.dtype:
            return sums
        if self._largest(most) > INT32.max and (sums.max() > INT32.max or sums.min() < INT32.min):
            worst = int(max(sums.max(), -sums.min()))
            raise StateOverflowError(
                f"synapse {self.synapse.name!r}: its sum reaches {worst}, beyond the 24 bits that "
                "a sum may take; use a larger scale"
            )
        return sums.astype(self.dtype)

    def _same(self, messages: NDArray[Any]) -> NDArray[Any]:
        """Messages as they are, in the target's order."""
        flat = messages.reshape(len(messages), -1).astype(self.dtype)
        if self.pooled == self.target:
            return flat
        order = np.empty(self.neurons, np.int64)
        order[permutation(self.pooled)] = np.arange(self.neurons)
        return flat[:, order[permutation(self.target)]]

    def _largest(self, message: int) -> int:
        """Largest magnitude of a sum, exponent applied (rounded down, a negative one grows)."""
        units = self.bounds.sums(message, self.signed)
        return units << max(0, self.synapse.weight_exp)

    def _require_24_bits(self, pooled: NDArray[Any]) -> None:
        worst = int(max(pooled.max(), -int(pooled.min())))
        if self.synapse.pool > 1 and worst > fixed.STATE_RAIL:
            raise StateOverflowError(
                f"synapse {self.synapse.name!r}: its pooled messages reach {worst}, beyond the "
                f"{fixed.STATE_RAIL} that 24 bits hold; use a larger scale"
            )

    def _work(self) -> Work:
        synapse, inputs = self.synapse, int(np.prod(self.pooled, dtype=np.int64))
        if isinstance(synapse, Conv):
            products = self.neurons * synapse.weight[0].size
            return Work(inputs, self.neurons, products, 0)
        weights = {Dense: "weight", Sparse: "data"}.get(type(synapse))
        count = getattr(synapse, weights).size if weights else 0
        return Work(inputs, self.neurons, count, count)

    def _backends(self) -> dict[Backend, AnySums]:
        """All ways that this kind of synapse has."""
        synapse = self.synapse
        if isinstance(synapse, Identity):
            return {}
        events = EventSums(synapse, self.pooled, self.target, self.bounds, self.signed)
        if isinstance(synapse, Sparse):
            return {"events": events}
        ends = (synapse, self.pooled, self.target, self.bounds)
        return {
            "int8": Int8Sums(*ends, self.message, self.signed),
            "float32": FloatSums(*ends, self.signed, torch.float32),
            "float64": FloatSums(*ends, self.signed, torch.float64),
            "events": events,
        }


def _diagonal(synapse: AnySynapse, shape: Shape) -> NDArray[np.float32] | None:
    """Weights of a matrix that leads from each neuron to its own place, as an identity skip's."""
    if not isinstance(synapse, Sparse) or synapse.rows != synapse.columns:
        return None
    places = np.arange(synapse.columns)
    if len(synapse.data) != len(places) or not np.array_equal(synapse.indices, places):
        return None
    if synapse.weight_exp < 0:
        return None
    weights = synapse.data.astype(np.float32) * np.float32(2.0**synapse.weight_exp)
    return weights[permutation(shape)]


def _events(pooled: NDArray[Any]) -> int:
    """Non-zero messages, estimated from a few rows spread over all."""
    stride = max(1, len(pooled) // COUNTED_ROWS)
    return stride * sum(int(np.count_nonzero(row)) for row in pooled[::stride])
