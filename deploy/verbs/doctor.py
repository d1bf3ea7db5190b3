"""What works on this machine, and how to get the rest.

Each library is tried in a process of its own: a broken one cannot take the caller down, and Lava,
which changes the process it is imported into, never enters ours.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from spikeship.deploy.options.shared import Common
from spikeship.deploy.verbs.console import DONE, Voice
from spikeship.hw_models.meters.meter import MeterError
from spikeship.hw_models.meters.rapl import POWERCAP, RaplMeter

PROBE_LIMIT_S = 120.0
_LAVA_FIX = "run 'spikeship install-lava'"
_REINSTALL = "run 'pip install --force-reinstall {}' in this environment"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for.

    Attributes:
        name: what it is.
        works: whether it can be used here.
        detail: its version where it works, else why it does not.
        fix: what to do about it; empty where it works.
    """

    name: str
    works: bool
    detail: str
    fix: str = ""


_TORCH = "import torch; print(torch.__version__)"
_CUDA = """
import torch
if not torch.cuda.is_available():
    raise SystemExit("torch sees no CUDA device")
print(torch.cuda.get_device_name(), "CUDA", torch.version.cuda)
"""
_LAVA = """
from importlib.metadata import version
from spikeship.hw_models.lava import compat
compat.install()
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.conv.process import Conv
from lava.proc.lif.process import LIF
print("lava-nc", version("lava-nc"))
"""
_NETX = """
from importlib.metadata import version
from spikeship.hw_models.lava import compat
compat.install(block_torch=False)
from lava.lib.dl import netx
print("lava-dl", version("lava-dl"))
"""
_ONNXRUNTIME = """
import onnxruntime
print(onnxruntime.__version__, "on", ", ".join(onnxruntime.get_available_providers()))
"""
_NVML = """
import pynvml
pynvml.nvmlInit()
device = pynvml.nvmlDeviceGetHandleByIndex(0)
energy_mj = pynvml.nvmlDeviceGetTotalEnergyConsumption(device)
print(pynvml.nvmlDeviceGetName(device), "counts its energy")
"""


def examine() -> tuple[Finding, ...]:
    """Try everything Spikeship can use; takes a few seconds and changes nothing."""
    examinations: tuple[Callable[[], Finding], ...] = (
        partial(_probe, "torch", _TORCH, _REINSTALL.format("torch==2.13.0")),
        partial(
            _probe,
            "CUDA",
            _CUDA,
            "optional: everything runs on the CPU; for a GPU install NVIDIA's driver and a CUDA "
            "build of torch",
        ),
        partial(_probe, "Lava", _LAVA, _LAVA_FIX),
        partial(_probe, "netx", _NETX, _LAVA_FIX),
        partial(_probe, "onnxruntime", _ONNXRUNTIME, _REINSTALL.format("onnxruntime")),
        partial(
            _probe,
            "NVML",
            _NVML,
            "optional: without a GPU's energy counter (Volta or newer) the GPU row is modelled",
        ),
        _rapl,
        _data,
    )
    # two at a time: each probe keeps about one core busy with imports
    with ThreadPoolExecutor(max_workers=2) as pool:
        return tuple(pool.map(lambda examination: examination(), examinations))


def _probe(name: str, code: str, fix: str) -> Finding:
    """Run ``code`` in a fresh interpreter; the last line it prints is the detail."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PROBE_LIMIT_S,
        )
    except subprocess.TimeoutExpired:
        return Finding(name, False, f"no answer within {PROBE_LIMIT_S:g} s", fix)
    said = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    detail = said[-1].strip() if said else f"ended with status {done.returncode}"
    works = done.returncode == 0
    return Finding(name, works, detail, "" if works else fix)


def _rapl() -> Finding:
    try:
        packages = RaplMeter("CPU", POWERCAP).state()["packages"]
    except MeterError as error:
        reason, _, fix = str(error).removeprefix("RAPL: ").partition("; ")
        return Finding("RAPL", False, reason, f"optional: {fix}")
    return Finding("RAPL", True, f"{', '.join(packages)}: the CPU's energy is counted")


def _data() -> Finding:
    name = "data folder"
    fix = "optional (the digits are embedded): set SPIKESHIP_DATA to the folder that holds the sets"
    folder = os.environ.get("SPIKESHIP_DATA", "")
    if not folder:
        return Finding(name, False, "SPIKESHIP_DATA is not set", fix)
    try:
        found = sorted(entry.name for entry in Path(folder).iterdir() if entry.is_dir())
    except OSError as error:
        return Finding(name, False, f"{folder}: {error.strerror}", fix)
    if not found:
        return Finding(name, False, f"{folder} holds no data set", fix)
    return Finding(name, True, f"{folder}: {', '.join(found)}")


def doctor(common: Common) -> int:
    """Say what works here, and how to get the rest."""
    voice = Voice(common.json, common.quiet)
    findings = examine()
    for found in findings:
        voice.say(f"{'yes' if found.works else 'no ':3} {found.name:12} {found.detail}")
        if found.fix:
            voice.say(f"    {found.fix}")
    voice.result({"findings": [asdict(found) for found in findings]})
    return DONE
