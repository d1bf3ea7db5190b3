"""The machine a benchmark runs on: the cores it may use, what it is, the memory a process took.

Import it before NumPy, Numba and torch: ``hold_to`` must be called before they count the cores.
"""

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "numba", "numpy", "lava-nc", "spikingjelly")


def hold_to(threads: int) -> int:
    """Let this process and those it starts use so many cores, and threads; fewer where no more are.

    Returns:
        The number of cores.
    """
    if hasattr(os, "sched_setaffinity"):  # Linux
        cores = sorted(os.sched_getaffinity(0))[:threads]
        os.sched_setaffinity(0, cores)
        threads = len(cores)
    for library in ("OMP", "MKL", "OPENBLAS", "NUMBA"):
        os.environ[f"{library}_NUM_THREADS"] = str(threads)
    return threads


def described(threads: int) -> dict[str, Any]:
    """Processor, system, memory and versions, as a JSON object."""
    found: dict[str, Any] = {
        "processor": _line("/proc/cpuinfo", "model name") or platform.processor(),
        "threads": threads,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
    memory = _line("/proc/meminfo", "MemTotal")
    if memory:
        found["memory_gb"] = round(int(memory.split()[0]) * 1024 / 1e9, 1)
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def forget_peak() -> None:
    """Count this process's peak memory from here on (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_bytes() -> int:
    """Largest resident size of this process since it began, or since ``forget_peak``."""
    return _kilobytes("VmHWM") * 1024


def resident_bytes() -> int:
    """Resident size of this process now."""
    return _kilobytes("VmRSS") * 1024


def _kilobytes(key: str) -> int:
    value = _line("/proc/self/status", key)
    if value is None:
        raise OSError("/proc/self/status does not say how much memory is used; Linux does")
    return int(value.split()[0])


def _line(path: str, key: str) -> str | None:
    """Value of the first ``key: value`` line of a file, None where there is none."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return None
