"""What a Ray of our own may do to the machine it runs on: listen to it alone, and leave nothing.

Ray's session lies in a temporary folder that its owner holds locked. One that nobody holds belonged
to a process that was killed, and the next session removes it. :func:`hw_models.atomic.scratch` is
not used: the kernel takes names of sockets of 107 characters, and its names are too long for that.
"""

import fcntl
import os
import secrets
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

TOKEN, MODE, USAGE = "RAY_AUTH_TOKEN", "RAY_AUTH_MODE", "RAY_USAGE_STATS_ENABLED"
# by its name for other systems; Ray then takes the loopback address for the machine's own
CLUSTERS = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
LOOPBACK = {"127.0.0.1", "::1"}
PREFIX = "shipray-"
LONGEST_FOLDER = 26  # of the folder above: Ray's sockets lie 81 characters further down


@contextmanager
def unreported() -> Iterator[None]:
    """Keep Ray from reporting its use to its makers, as it does unless told otherwise."""
    with _environment({USAGE: "0"}):
        yield


@contextmanager
def closed() -> Iterator[None]:
    """Have a Ray that is started in the block take calls from this machine alone, with a token.

    The token stands in no file. Ray asks for one unless the environment says that it should not,
    so that is left out.
    """
    from ray._private import ray_constants

    constants: Any = ray_constants
    before = getattr(constants, "ENABLE_RAY_CLUSTER", None)
    # Ray reads the variable when it is imported, which may have been long ago
    constants.ENABLE_RAY_CLUSTER = False
    try:
        with _environment({TOKEN: os.environ.get(TOKEN, _token()), CLUSTERS: "0", MODE: None}):
            yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before


def open_door() -> str:
    """In which way others can call the Ray that was started, in words; empty where none can."""
    import ray

    places = {
        str(node["NodeManagerAddress"])
        for node in ray.nodes()  # type: ignore[no-untyped-call]
    }
    if not places <= LOOPBACK:
        return f"at {', '.join(sorted(places))}, not from this machine alone"
    return "" if os.environ.get(MODE) == "token" else "without a token"


@contextmanager
def folder() -> Iterator[Path]:
    """Give a folder for Ray's session, with a name short enough for sockets in it."""
    parent = Path(tempfile.gettempdir())
    if len(str(parent)) > LONGEST_FOLDER:
        parent = Path("/tmp")
    _sweep(parent)
    path, lock = _locked(parent)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


@contextmanager
def termination_kept() -> Iterator[None]:
    """Have SIGTERM unwind the block. Ray sets a handler of its own: call ``restore`` after it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM) or signal.SIG_DFL
    _ours.append(_exit if before == signal.SIG_DFL else before)
    try:
        restore()
        yield
    finally:
        _ours.pop()
        signal.signal(signal.SIGTERM, before)


def restore() -> None:
    """Set the handler of SIGTERM that a ``termination_kept`` around this wants."""
    if _ours and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _ours[-1])


_ours: list[Any] = []


def _exit(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


@contextmanager
def _environment(changes: dict[str, str | None]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in changes}
    _set(changes)
    try:
        yield
    finally:
        _set(before)


def _set(values: dict[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@cache
def _token() -> str:
    return secrets.token_hex(32)


def _locked(parent: Path) -> tuple[Path, int]:
    """A new folder and the lock on it. One that a sweep took first is given up for another."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        if _lock(lock) and os.path.exists(path):
            return path, lock
        os.close(lock)


def _sweep(parent: Path) -> None:
    """Remove what killed processes of this user left."""
    for left in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):
            lock = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if os.fstat(lock).st_uid == os.geteuid() and _lock(lock):
                    shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(lock)


def _lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
