"""Writing: every file and folder that Spikeship makes goes through here.

A reader sees the old file or the whole new one. What is written lies in a temporary folder beside
it until it is whole; what a killed process left of these is removed by the next one that writes
there. Modes and links stay, devices and pipes are written to, nothing but files is replaced.
"""

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from spikeship.hw_models.errors import SpikeshipError

_BESIDE, _SCRATCH, _END = ".spikeship-", "spikeship-", ".tmp"
# folders that were made for outputs, so that it can be said
made_folders: list[Path] = []
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# libraries that wrap the system's error keep its words
_FULL_WORDS = ("No space left", "Disk quota exceeded", "errno = 28", "os error 28")


class OutputError(SpikeshipError, OSError):
    """A place that cannot be written; one line names it, the reason and the fix."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path for a file's new content, and put it at ``path`` if the block succeeds.

    A symlink stays and its target is written; the mode of a file that is there is kept. A device
    or pipe is written to. Of missing folders only the last is made.

    Raises:
        OutputError: it cannot be written.
    """
    through = check_file(path)
    with _naming(path):
        if through:
            with scratch("output") as folder:
                temporary = folder / path.name
                yield temporary
                _write_through(temporary, path)
            return
        target = Path(os.path.realpath(path))
        with within(target.parent), _beside(target.parent) as folder:
            temporary = folder / target.name
            yield temporary
            _take_mode(temporary, target)
            os.replace(temporary, target)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder, and put it in the place of ``path`` if the block succeeds.

    What is in an old folder goes; the caller checks that it may. Links and missing folders are as
    in :func:`replacing`.

    Raises:
        OutputError: it cannot be written.
    """
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path}: is no folder; choose another name")
    with _naming(path):
        target = Path(os.path.realpath(path))
        with within(target.parent), _beside(target.parent) as folder:
            temporary = folder / "new"
            temporary.mkdir()
            yield temporary
            if target.exists():
                os.replace(target, folder / "old")
            os.replace(temporary, target)


def check_file(path: Path) -> bool:
    """Whether a file's content would go into a device or a pipe, not in the place of a file.

    Raises:
        OutputError: what is there is a folder, a socket or a disk, or links lead in a circle.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror}; choose another name") from error
    if stat.S_ISDIR(mode):
        raise OutputError(f"{path}: is a folder; give a file name")
    if stat.S_ISSOCK(mode) or stat.S_ISBLK(mode):
        kind = "socket" if stat.S_ISSOCK(mode) else "disk"
        raise OutputError(f"{path}: is a {kind}; give a file name")
    # what a shell has open must be written to, not replaced under it
    opened = os.path.abspath(path).startswith(("/dev/", "/proc/"))
    return opened or not stat.S_ISREG(mode)


def make_folder(folder: Path) -> None:
    """Make a folder, if it is missing and the one above it is there; ``made_folders`` tells.

    Raises:
        OutputError: it cannot be made.
    """
    check_folder(folder)
    if not folder.is_dir():
        _make(folder)
        made_folders.append(folder)


def check_folder(folder: Path) -> None:
    """Check that a folder can be written to or, if it is missing, made in the one above it.

    Raises:
        OutputError: it cannot, or the one above it is missing too.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is no folder; choose another name")
    there = folder if folder.is_dir() else folder.parent
    if not there.is_dir():
        raise OutputError(
            f"{folder}: the folder {there} does not exist; make it, or correct the path"
        )
    if not os.access(there, os.W_OK | os.X_OK):
        raise OutputError(f"{there}: cannot be written to; choose another")
    if there != folder:  # only trying tells, as in /proc
        _make(folder)
        folder.rmdir()


def _make(folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror}); choose another") from error


@contextmanager
def scratch(what: str) -> Iterator[Path]:
    """Give a temporary folder in TMPDIR, which goes with the block.

    Args:
        what: a word for its name.

    Raises:
        OutputError: there is no room in it, or it cannot be made.
    """
    try:
        parent = Path(tempfile.gettempdir())
        _sweep(parent, _SCRATCH)
        folder = Path(tempfile.mkdtemp(prefix=f"{_SCRATCH}{_owner()}-{what}-", dir=parent))
    except OSError as error:
        raise OutputError(
            f"{error.filename or 'TMPDIR'}: no temporary folder can be made ({error.strerror}); "
            "set TMPDIR to one that can be written"
        ) from error
    try:
        yield folder
    except Exception as error:
        if not isinstance(error, SpikeshipError) and _is_full(error):
            raise OutputError(
                f"{parent}: has no room left for temporary files; free some, or set TMPDIR to "
                "another folder"
            ) from error
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def within(folder: Path) -> Iterator[None]:
    """A folder that is made if it is missing, and goes again if nothing comes to lie in it."""
    missing = not folder.is_dir()
    make_folder(folder)
    try:
        yield
    except BaseException:
        if missing:
            with suppress(OSError):
                folder.rmdir()
                made_folders.remove(folder)
        raise


@contextmanager
def _beside(parent: Path) -> Iterator[Path]:
    """A temporary folder on the same file system as what is written."""
    _sweep(parent, _BESIDE)
    folder = Path(tempfile.mkdtemp(prefix=f"{_BESIDE}{_owner()}-", suffix=_END, dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Have what fails while writing name the path."""
    try:
        yield
    except Exception as error:
        if isinstance(error, SpikeshipError):
            raise
        if _is_full(error):
            raise OutputError(
                f"{path}: there is no room left on the disk; free some, or write elsewhere"
            ) from error
        ours = isinstance(error, OSError) and (
            error.filename is None or _BESIDE in str(error.filename)
        )
        at = isinstance(error, OSError) and str(error.filename) in (str(path), str(path.parent))
        if ours or at:
            reason = getattr(error, "strerror", None) or error
            raise OutputError(f"{path}: cannot be written ({reason}); choose another") from error
        raise


def _is_full(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in _FULL:
        return True
    return any(words in str(error) for words in _FULL_WORDS)


def _take_mode(temporary: Path, target: Path) -> None:
    """Give a new file the owner and mode of the one it replaces, or those of any new file."""
    try:
        old = target.stat()
    except FileNotFoundError:
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        return
    with suppress(PermissionError):  # only root may give files away
        os.chown(temporary, old.st_uid, old.st_gid)
    temporary.chmod(stat.S_IMODE(old.st_mode))


def _write_through(temporary: Path, path: Path) -> None:
    flags = os.O_WRONLY | os.O_APPEND | os.O_NOCTTY
    try:
        # a pipe that nobody reads would be waited for
        handle = os.open(path, flags | os.O_NONBLOCK)
    except OSError as error:
        reason = "nobody reads it" if error.errno == errno.ENXIO else error.strerror
        raise OutputError(f"{path}: cannot be written ({reason}); choose another") from error
    os.set_blocking(handle, True)
    with os.fdopen(handle, "wb") as output, temporary.open("rb") as content:
        shutil.copyfileobj(content, output)


@cache
def _machine() -> str:
    """What process numbers are counted in: this boot, this container."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        space = os.stat("/proc/self/ns/pid").st_ino
    except OSError:  # no Linux: numbers are the machine's
        return "0"
    return f"{boot[:8]}{space:x}"


def _owner() -> str:
    return f"{_machine()}-{os.getpid()}"


def _sweep(parent: Path, prefix: str) -> None:
    """Remove temporary folders whose process is gone; others' and the living's stay."""
    for left in parent.glob(f"{prefix}{_machine()}-*"):
        number = left.name.removeprefix(f"{prefix}{_machine()}-").partition("-")[0]
        if not number.isdecimal() or int(number) == os.getpid():
            continue
        try:
            os.kill(int(number), 0)
        except ProcessLookupError:
            with suppress(OSError):
                if left.stat(follow_symlinks=False).st_uid == os.geteuid():
                    shutil.rmtree(left, ignore_errors=True)
        except OSError:
            continue
