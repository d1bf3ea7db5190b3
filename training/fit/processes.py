"""Several processes that train one network: who they are, who does what, what they share.

``torchrun`` (or ``fabric run``) starts them and says in the environment how many there are. Every
process takes its part of each batch, and gradients are averaged over them (gloo on CPUs, NCCL on
CUDA devices).
"""

import atexit
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from torch import Tensor, nn

from spikeship.training.fit.config import Device, FitError, Precision

Result = TypeVar("Result")


def pick(device: Device) -> Literal["cpu", "cuda"]:
    """Return the kind of device that is meant: ``auto`` is CUDA where it is there.

    Raises:
        FitError: no such device.
    """
    there = torch.cuda.is_available()
    if device == "cuda" and not there:
        raise FitError("device 'cuda' is not there; use 'cpu' or 'auto'")
    return "cuda" if there and device != "cpu" else "cpu"


def make_fabric(device: Device, precision: Precision) -> Fabric:
    """Set up a device and, where ``torchrun`` started several processes, how they talk.

    Raises:
        FitError: no such device, or fewer than processes on this machine.
    """
    device = pick(device)
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes == 1:
        return Fabric(accelerator=device, devices=1, precision=precision)
    here = int(os.environ.get("LOCAL_WORLD_SIZE", processes))
    if device == "cuda" and torch.cuda.device_count() < here:
        raise FitError(
            f"{here} processes need a CUDA device each, there are {torch.cuda.device_count()}; "
            "start fewer, or use device 'cpu'"
        )
    fabric = Fabric(
        accelerator=device,
        devices=here,
        num_nodes=processes // here,
        strategy="ddp",
        precision=precision,
        plugins=[TorchElasticEnvironment()],
    )
    # Fabric's command, `fabric run`, has done so
    if "LT_CLI_USED" not in os.environ:
        fabric.launch()
    # gloo's threads may still run when the interpreter ends, which would abort the process
    atexit.unregister(_leave)
    atexit.register(_leave)
    return fabric


def _leave() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def is_first() -> bool:
    """Whether this process is the one that writes files and speaks; true where it is alone."""
    return int(os.environ.get("RANK", "0")) == 0


def share(batch: Tensor, fabric: Fabric) -> tuple[Tensor, int]:
    """Return the samples of a batch that this process takes, and how many of them count.

    Where a batch has fewer samples than there are processes, those left over take its first one,
    which then does not count: each must take part in averaging the gradients.
    """
    part = torch.tensor_split(batch, fabric.world_size)[fabric.global_rank]
    return (part, len(part)) if len(part) else (batch[:1], 0)


def on_first(fabric: Fabric, make: Callable[[], Result]) -> Result:
    """Let the first process do something; each returns what came of it, or raises its error."""
    if fabric.world_size == 1:
        return make()
    outcome: Any = None
    if fabric.is_global_zero:
        try:
            outcome = make()
        except (ValueError, OSError) as error:
            outcome = error
    outcome = fabric.broadcast(outcome)
    if isinstance(outcome, Exception):
        raise outcome
    result: Result = outcome
    return result


def add_up(fabric: Fabric, mine: Tensor) -> Tensor:
    """Return the sum of each process's tensor."""
    total = fabric.all_reduce(mine, reduce_op="sum")
    assert isinstance(total, Tensor)
    return total


def gather(fabric: Fabric, mine: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """Return what each process has, in the order of their ranks."""
    if fabric.world_size == 1:
        return [mine]
    found: list[Any] = [None] * fabric.world_size
    torch.distributed.all_gather_object(found, mine)
    return found


@contextmanager
def shared_statistics(model: nn.Module) -> Iterator[None]:
    """Let batch norm take its statistics over all processes' parts of a batch.

    torch can do that on CUDA devices only. Elsewhere leave it: each process then normalises by
    its own part, and the running statistics are the first one's.
    """
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    norms: list[Any] = [module for module in model.modules() if isinstance(module, kinds)]
    before = [type(module) for module in norms]
    # in place, because layers are also known to others than their parents
    for module in norms:
        module.__class__ = nn.SyncBatchNorm
        module.process_group = None
    try:
        yield
    finally:
        for module, kind in zip(norms, before, strict=True):
            module.__class__ = kind
            del module.process_group
