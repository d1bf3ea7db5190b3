"""Which way to compute sums is likely the fastest, learned from the calls themselves.

All ways give the same sums, so the choice may depend on clocks.
"""

import threading
from collections import deque
from dataclasses import dataclass
from typing import Literal

Backend = Literal["int8", "float32", "float64", "events"]

# Seconds of one multiplication, or of one weight's addition, on a core as fast as there are: 8-bit
# products with AMX, the others with AVX-512. Measurements correct a guess upwards, but only of what
# was tried, so guesses are low.
PER_PRODUCT: dict[Backend, float] = {
    "int8": 1 / 2000e9,
    "float32": 1 / 100e9,
    "float64": 1 / 50e9,
    "events": 1 / 40e9,
}
PER_WEIGHT_READ: dict[Backend, float] = {  # a matrix that few rows share comes from memory
    "int8": 1 / 30e9,
    "float32": 4 / 30e9,
    "float64": 8 / 30e9,
    "events": 0.0,
}
PER_EVENT = 5e-9
PER_INPUT = 0.05e-9
PER_OUTPUT = 0.1e-9
PER_CALL = 20e-6
REMEMBERED = 4


@dataclass(frozen=True)
class Work:
    """Size of a synapse.

    Attributes:
        inputs, outputs: neurons, inputs after the pool.
        products: of one row, padding included.
        weights: how many are stored.
    """

    inputs: int
    outputs: int
    products: int
    weights: int

    def seconds(self, backend: Backend, rows: int, events: int) -> float:
        """Guess the time of ``rows`` with ``events`` non-zero messages among them."""
        if backend == "events":
            products = events * self.products / max(1, self.inputs)
        else:
            products = rows * self.products
        return (
            PER_CALL
            + products * PER_PRODUCT[backend]
            + self.weights * PER_WEIGHT_READ[backend]
            + rows * self.outputs * PER_OUTPUT
            + (rows * self.inputs * PER_INPUT + events * PER_EVENT) * (backend == "events")
        )


class Choice:
    """Corrects guesses by what calls really took. Several threads may use it at once.

    A backend's factor is the smallest ratio of time to guess in its last four calls, of which 1
    counts for those not made yet: one that was never tried is tried where its guess is lowest, and
    a call that something else slowed down does not count against it.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.ratios: dict[Backend, deque[float]] = {}

    def factor(self, backend: Backend) -> float:
        """What to multiply a guess by."""
        with self.lock:
            return min(self.ratios.get(backend, [1.0]))

    def learn(self, backend: Backend, guess: float, seconds: float) -> None:
        """Take note of a call that was guessed and took this long."""
        with self.lock:
            known = self.ratios.setdefault(backend, deque([1.0] * REMEMBERED, REMEMBERED))
            known.append(seconds / guess)

    def fastest(self, guesses: dict[Backend, float]) -> Backend:
        """Return the backend with the lowest corrected guess."""
        return min(guesses, key=lambda backend: guesses[backend] * self.factor(backend))
