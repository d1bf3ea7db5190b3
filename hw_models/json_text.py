"""Reading JSON that anybody may have written: bounded, finite, printable."""

import json
import math
from typing import Any

from spikeship.hw_models.errors import InputError

MOST_CHARACTERS = 2**28
DEEPEST = 64
# more digits than any number has that is written here; Python itself stops at 4,300
MOST_DIGITS = 400


class JsonError(InputError):
    """Text that is no JSON to be read: the entry, and what is wrong with it."""


def parse(text: str | bytes) -> Any:
    """Read JSON text.

    Returns:
        Objects, lists, texts, finite numbers, booleans and None.

    Raises:
        JsonError: no JSON, too long or too deep, a number that is not finite or too long, or a
            text with characters that cannot be printed.
    """
    if not isinstance(text, str | bytes):
        raise JsonError(f"is {type(text).__name__}, no text")
    if len(text) > MOST_CHARACTERS:
        raise JsonError(f"is longer than {MOST_CHARACTERS} characters")
    try:
        value = json.loads(text, parse_constant=_constant, parse_float=_real, parse_int=_whole)
    except JsonError:
        raise
    except RecursionError:
        raise JsonError(f"is nested more than {DEEPEST} deep") from None
    except (ValueError, TypeError) as error:
        raise JsonError(f"is no JSON ({error})") from error
    _check(value)
    return value


def _constant(word: str) -> Any:
    raise JsonError(f"holds {word}, which is no finite number")


def _real(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise JsonError(f"holds {digits[:20]}, which is no finite number")
    return value


def _whole(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise JsonError(f"holds a whole number of {len(digits)} digits")
    return int(digits)


def _check(value: Any) -> None:
    """Refuse what is nested too deeply, and texts that cannot be printed; without recursion."""
    waiting: list[tuple[Any, int, str]] = [(value, 0, "")]
    while waiting:
        found, depth, path = waiting.pop()
        if depth > DEEPEST:
            raise JsonError(f"is nested more than {DEEPEST} deep")
        if isinstance(found, str):
            _check_text(found, path)
        elif isinstance(found, dict):
            for key, item in found.items():
                _check_text(key, path)
                if isinstance(item, str | dict | list):
                    waiting.append((item, depth + 1, f"{path}.{key}"[:100] if path else key[:100]))
        elif isinstance(found, list):
            waiting += [
                (item, depth + 1, path) for item in found if isinstance(item, str | dict | list)
            ]


def _check_text(text: str, path: str) -> None:
    if not text.isprintable() and not all(
        letter.isprintable() or letter in "\n\t" for letter in text
    ):
        where = f"{path} " if path else ""
        raise JsonError(f"{where}holds {text[:40]!a}, whose characters cannot all be printed")
