"""Signals that end a program: it unwinds, so that every block that cleans up does so."""

import signal
import sys
from types import FrameType

# what a shell, a batch system and a closed terminal send
_WORDS = {
    signal.SIGINT: "interrupted",
    signal.SIGTERM: "terminated",
    signal.SIGHUP: "ended with its terminal",
}
_received: list[int] = []


def listen() -> None:
    """Have SIGTERM and SIGHUP raise KeyboardInterrupt, as SIGINT does; once, and noted.

    A signal that is ignored, as SIGHUP is under nohup, stays so.
    """
    for number in _WORDS:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _interrupt)


def received() -> bool:
    """Whether a signal came: a library that is just loaded may make another error of it."""
    return bool(_received)


def end() -> int:
    """Say that the program was interrupted; the exit status, 128 and the signal's number."""
    number = _received[0] if _received else signal.SIGINT
    print(
        f"spikeship: {_WORDS[signal.Signals(number)]}; nothing half-written was left",
        file=sys.stderr,
    )
    return 128 + number


def _interrupt(number: int, frame: FrameType | None) -> None:
    if not _received:  # while it unwinds it is not interrupted again
        _received.append(number)
        raise KeyboardInterrupt
