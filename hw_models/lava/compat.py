"""Make lava-nc 0.10.0 and lava-dl 0.6.0 run on today's Python and NumPy.

Both declare Python below 3.11 and NumPy below 2. Four things break on newer ones; ``install`` mends
them. Call it before anything of ``lava`` is imported. Nothing outside ``lava.*`` is touched.

This file needs nothing but ``errors.py``: exported networks carry a copy of both.
"""

import dataclasses
import functools
import importlib
import importlib.abc
import importlib.util
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from spikeship.hw_models.errors import SpikeshipError

LAVA_VERSION = "0.10.0"
LAVA_DL_VERSION = "0.6.0"


class LavaMissingError(SpikeshipError, ImportError):
    """Lava is not installed here; the message says how to get it."""


def install(*, block_torch: bool = True) -> None:
    """Mend Lava for this process; calling it again does nothing.

    Args:
        block_torch: keep Lava from importing torch (its convolutions use it where they find it,
            and torch calls in the processes Lava forks can hang). Lava's own SciPy path, with
            the same integer results, is taken instead.

    Raises:
        LavaMissingError: lava-nc is not installed.
    """
    if importlib.util.find_spec("lava") is None or not _has("lava.magma"):
        raise LavaMissingError(
            f"lava-nc is not installed; run 'spikeship install-lava', or pip install --no-deps "
            f"--ignore-requires-python lava-nc=={LAVA_VERSION} beside scipy, networkx and asteval"
        )
    if block_torch and not any(isinstance(finder, _NoTorch) for finder in sys.meta_path):
        sys.meta_path.insert(0, _NoTorch())
    with _hashable_lava_dataclasses():
        importlib.import_module("lava.magma.compiler.var_model")
        importlib.import_module("lava.magma.core.process.ports.connection_config")
    _mend_reshape()
    _mend_conv_geometry()
    _stand_in_object_detection()


class _NoTorch(importlib.abc.MetaPathFinder):
    """Refuses to find torch, so that ``import torch`` fails as where it is not installed.

    ``sys.modules["torch"] = None`` would not do: SciPy takes the entry for a loaded torch.
    """

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        if fullname == "torch":
            raise ModuleNotFoundError("torch is kept out of this process", name="torch")


def _has(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


@contextmanager
def _hashable_lava_dataclasses() -> Iterator[None]:
    """Mend 1: ``var_model`` uses an unhashable dataclass instance as a default (3.11 refuses)."""
    original = dataclasses.dataclass

    def hashable(cls: Any = None, /, **options: Any) -> Any:
        if cls is None:
            return lambda later: hashable(later, **options)
        if cls.__module__.split(".")[0] == "lava" and not options.get("frozen"):
            options.setdefault("unsafe_hash", True)
        return original(cls, **options)

    dataclasses.dataclass = hashable
    try:
        yield
    finally:
        dataclasses.dataclass = original


def _mend_reshape() -> None:
    """Mend 3: ``np.reshape`` lost its ``newshape`` keyword, and Lava swallows the error."""
    import numpy as np

    ports: Any = importlib.import_module("lava.magma.core.process.ports.ports")

    def forward(self: Any) -> Callable[..., Any]:
        return functools.partial(np.reshape, shape=self.shape)

    def backward(self: Any) -> Callable[..., Any]:
        return functools.partial(np.reshape, shape=self.old_shape)

    ports.ReshapePort.get_transform_func_fwd = forward
    ports.ReshapePort.get_transform_func_bwd = backward


def _mend_conv_geometry() -> None:
    """Mend 4: Conv's geometry is typed int8, and NumPy 2 refuses 128 and more in it."""
    import numpy as np

    models: Any = importlib.import_module("lava.proc.conv.models")
    python_types: Any = importlib.import_module("lava.magma.core.model.py.type")
    for name in ("groups", "kernel_size", "stride", "padding", "dilation"):
        wide = python_types.LavaPyType(np.ndarray, np.int32, precision=32)
        setattr(models.AbstractPyConvModel, name, wide)


def _stand_in_object_detection() -> None:
    """Mend 2: netx imports slayer's object detection, which needs torchvision; it never uses it."""
    name = "lava.lib.dl.slayer.object_detection"
    if importlib.util.find_spec("torchvision") is None and name not in sys.modules:
        sys.modules[name] = types.ModuleType(name)
