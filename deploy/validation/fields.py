"""Fields of a file of rows, each read with what it takes, or refused in one line."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spikeship.hw_models.errors import SpikeshipError

MOST_NEURONS = 10_000_000
SMALLEST, LARGEST = 1e-18, 1e15  # of any number: no rate, second, watt or joule lies beyond


class RowError(SpikeshipError, ValueError):
    """A file of rows that cannot be used; the message says where and why."""


@dataclass(frozen=True)
class Fields:
    """An object of the file, and where it stands there.

    Every method but ``fail`` gives a field's value, and raises RowError where it takes another.
    """

    data: Any
    where: str

    def fail(self, key: str, takes: str) -> RowError:
        """The error of a field that takes something else than it holds."""
        found = self.data.get(key, "nothing") if isinstance(self.data, Mapping) else self.data
        text = found if found == "nothing" else json.dumps(found)[:60]
        return RowError(f"{self.where}: {key!r} takes {takes}, got {text}")

    def keys(self, known: set[str]) -> "Fields":
        """This object, if it is one and has no field but the known ones."""
        if not isinstance(self.data, Mapping):
            raise RowError(f"{self.where}: takes an object, got {json.dumps(self.data)[:60]}")
        unknown = sorted(set(self.data) - known)
        if unknown:
            fields = ", ".join(sorted(known))
            raise RowError(f"{self.where}: {unknown[0]!r} is unknown; the fields are {fields}")
        return self

    def text(self, key: str, default: str | None = None) -> str:
        """A line that is not blank."""
        value = self.data.get(key, default)
        if not isinstance(value, str) or not value.strip() or not value.isprintable():
            raise self.fail(key, "a text of one line")
        return value

    def choice(self, key: str, choices: tuple[str, ...], default: str) -> Any:
        """One of these words."""
        value = self.data.get(key, default)
        if value not in choices:
            raise self.fail(key, f"one of {', '.join(choices)}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self.data.get(key, default)
        if not isinstance(value, bool):
            raise self.fail(key, "true or false")
        return value

    def count(self, key: str, default: int | None, least: int = 1, most: int = 10**6) -> int:
        """A whole number."""
        value = self.data.get(key, default)
        if type(value) is not int or not least <= value <= most:
            raise self.fail(key, f"a whole number in {least}..{most}")
        return value

    def number(self, key: str, most: float = LARGEST, zero: bool = False) -> float | None:
        """A number above 0, or 0 where ``zero`` allows it; None where there is none."""
        value = self.data.get(key)
        if value is None:
            return None
        plain = isinstance(value, int | float) and not isinstance(value, bool)
        # compared, not converted: a whole number of the file may be larger than any float
        if not plain or not (SMALLEST <= value <= most or (zero and value == 0)):
            none = "0 or " if zero else ""
            raise self.fail(key, f"{none}a number in {SMALLEST:g}..{most:g}")
        return float(value)

    def sizes(self, key: str, lengths: tuple[int, ...], least: int = 1) -> tuple[int, ...]:
        """A list of so many whole numbers."""
        value = self.data.get(key)
        plain = isinstance(value, list) and all(type(n) is int and n >= least for n in value)
        if not plain or len(value) not in lengths or math.prod(value) > MOST_NEURONS:
            raise self.fail(key, f"a list of {' or '.join(map(str, lengths))} whole numbers")
        return tuple(value)

    def pair(self, key: str, default: tuple[int, int], least: int = 1) -> tuple[int, int]:
        """Two whole numbers."""
        if key not in self.data:
            return default
        first, second = self.sizes(key, (2,), least)
        return first, second

    def inside(self, key: str, known: set[str]) -> "Fields":
        """An object in this one, with no field but the known ones; empty where there is none."""
        return Fields(self.data.get(key, {}), f"{self.where}, {key!r}").keys(known)
