"""The training loop, on Lightning Fabric: seeded, resumable, in one process or several."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from spikeship.training.ann.checkpoint import fingerprint
from spikeship.training.fit.averaging import WeightAverage
from spikeship.training.fit.config import EpochMetrics, FitConfig, FitError
from spikeship.training.fit.generators import seed_generators
from spikeship.training.fit.identity import images_seen, structure
from spikeship.training.fit.optimizer import make_optimizer, set_rate, shrink
from spikeship.training.fit.processes import (
    add_up,
    make_fabric,
    on_first,
    share,
    shared_statistics,
)
from spikeship.training.fit.progress import MetricsLog, progress_bar
from spikeship.training.fit.run import Run

# Below so many multiplications for a sample a step takes a few milliseconds. There one thread was
# measured as fast as several, and 5 times as fast and more where cores are busy.
_SMALL = 10_000_000

Loss = Callable[[nn.Module, Tensor, Tensor], tuple[Tensor, Tensor]]


def fit(
    model: nn.Module,
    images_of: Callable[[Tensor], Tensor],
    labels: Tensor,
    config: FitConfig,
    loss: Loss,
    *,
    purpose: Mapping[str, Any] | None = None,
    state_path: Path | None = None,
    quiet: bool = False,
    parameter_groups: Sequence[dict[str, Any]] | None = None,
    on_epoch: Callable[[int], None] | None = None,
    after_step: Callable[[], None] | None = None,
    validate: Callable[[], float] | None = None,
) -> list[EpochMetrics]:
    """Train ``model`` in place; it ends where it began (device) and in eval mode.

    All generators (Python, NumPy, torch) are seeded from (seed, epoch) when an epoch begins,
    and kept in states written within one. So a run that was killed, at any moment, ends on a CPU
    with the same bits as one never interrupted, whatever ``images_of``, ``loss`` and dropout draw.

    Under ``torchrun`` every process calls this with the same arguments and takes its part of each
    batch. All go through the samples in the same order, and end in the weights of one process
    with the same ``batch_size`` but for the rounding of sums, as far as ``images_of``, ``loss``
    and the model draw nothing: what they draw for a sample depends on the process that takes it.
    Batch norm sees the whole batch on CUDA devices, on CPUs each process's part alone. The first
    process reads and writes all files and shows the progress.

    Args:
        model: network to train.
        images_of: gives the network's input for sample indices (int64, on the CPU); may augment.
        labels: class of every sample, int64, shape (samples,).
        config: how to train.
        loss: gives the loss (scalar, a mean over the samples) and the class scores
            (batch, classes) for a batch.
        purpose: JSON object of what else makes this run another than others.
        state_path: where to keep the state, after every epoch and every
            ``config.checkpoint_every`` steps; a state there of the same run (recipe, number
            of processes, labels, modules and weights it started from, purpose, and some images,
            which ``images_of`` is asked for once) is resumed. Images that are varied on another
            kind of device are others.
        quiet: no progress bar.
        parameter_groups: the optimizer's, of the model's parameters; each may have a
            ``rate_factor`` on the learning rate.
        on_epoch: called with every epoch, from 0, before its first batch and, where the run is
            resumed within it, before the state's weights are taken.
        after_step: called after every step of the optimizer.
        validate: called after every epoch, in the first process alone, with the model in eval
            mode; gives its accuracy on images kept for choosing. The model ends with the weights
            of the epoch where that was highest, of equal ones the first. Otherwise it ends with
            the mean over the last epochs where ``config.averaging`` asks for it, else with the
            last step's weights.

    Returns:
        One entry an epoch, those before a resume included.

    Raises:
        FitError: no such device, a state of another run at ``state_path``, another run's metrics
            in ``config.log_dir``, no samples, or a loss that is not finite.
        CheckpointError: a damaged file at ``state_path``.
    """
    if len(labels) == 0:
        raise FitError("there are no samples to train on; give a set with training images")
    home = next(model.parameters()).device
    fabric = make_fabric(config.device, config.precision)
    model.to(fabric.device)
    description: dict[str, Any] = {}
    if state_path is not None:
        description = config.recipe() | {
            "processes": fabric.world_size,
            "labels": fingerprint({"labels": labels}),
            "images": images_seen(images_of, len(labels), config.seed),
            "modules": structure(model),
            "starting weights": fingerprint(model.state_dict()),
            "validated": validate is not None,
            **(purpose or {}),
        }
    optimizer = make_optimizer(model, config, parameter_groups)
    steps = -(-len(labels) // config.batch_size)
    average = WeightAverage(model, config.averaging * steps) if config.averaging else None
    run = Run(fabric, model, optimizer, description, state_path, average)
    run.resume()
    objective, stepper = fabric.setup(_Objective(model, loss), optimizer)
    loop = _Loop(run, config, images_of, labels, objective, stepper, after_step, steps)
    try:
        with ExitStack() as stack:
            stack.enter_context(_same_threads())
            if fabric.world_size > 1 and fabric.device.type == "cuda":
                stack.enter_context(shared_statistics(model))
            log = stack.enter_context(_log(fabric, config, run, steps))
            progress = stack.enter_context(progress_bar(quiet or not fabric.is_global_zero))
            done = len(run.history) * steps + run.step
            task = progress.add_task("", total=config.epochs * steps, completed=done)
            for epoch in range(len(run.history), config.epochs):
                if on_epoch is not None:
                    on_epoch(epoch)
                metrics = loop.epoch(epoch, validate, lambda: progress.advance(task))
                run.leave_epoch(metrics)
                if log is not None:
                    log.write(metrics, loop.rate)
                progress.update(task, description=metrics.line(config.epochs))
        run.take_result()
    finally:
        model.to(home).eval()
    return run.history


@dataclass
class _Loop:
    """The steps of a run.

    Attributes:
        run: how far it is.
        config: how to train.
        images_of: gives the network's input for sample indices.
        labels: class of every sample.
        objective: the model and its loss, as Fabric wraps them.
        stepper: the optimizer likewise.
        after_step: called after every step.
        steps: of an epoch.
        rate: learning rate of the last step.
    """

    run: Run
    config: FitConfig
    images_of: Callable[[Tensor], Tensor]
    labels: Tensor
    objective: nn.Module
    stepper: Any
    after_step: Callable[[], None] | None
    steps: int
    rate: float = 0.0

    def epoch(
        self, epoch: int, validate: Callable[[], float] | None, stepped: Callable[[], None]
    ) -> EpochMetrics:
        """Go through an epoch, or what is left of it, and validate.

        Args:
            epoch: its number, from 0.
            validate: gives the accuracy on images kept for choosing.
            stepped: called after every step.

        Raises:
            FitError: the loss is not finite.
        """
        run = self.run
        order = _order(run.fabric, self.config.seed, epoch, len(self.labels))
        batches = torch.split(order, self.config.batch_size)
        sums, seconds = run.enter_epoch()
        began = time.perf_counter() - seconds
        run.model.train()
        for batch in batches[run.step :]:
            self.rate = self.config.rate(epoch, (run.step + 0.5) / self.steps)
            sums += self._step(batch)
            run.step += 1
            stepped()
            if run.step % self.config.checkpoint_every == 0 and run.step < self.steps:
                run.save(sums, time.perf_counter() - began)
        mean, accuracy = (add_up(run.fabric, sums) / len(self.labels)).tolist()
        if not math.isfinite(mean):
            raise FitError(
                f"the loss is {mean} in epoch {epoch + 1}; lower the learning rate "
                f"(it was {self.rate:g})"
            )
        seconds = time.perf_counter() - began
        quality = None
        with run.result():
            if validate is not None:
                run.model.eval()
                quality = on_first(run.fabric, validate)
            metrics = EpochMetrics(epoch + 1, mean, accuracy, seconds, quality)
            run.judge(metrics)
        return metrics

    def _step(self, batch: Tensor) -> Tensor:
        """Take a step; give the sums of loss and right answers over this process's samples."""
        run, fabric = self.run, self.run.fabric
        set_rate(run.optimizer, self.rate)
        mine, count = share(batch, fabric)
        x = fabric.to_device(self.images_of(mine))
        y = fabric.to_device(self.labels[mine])
        if _work(run.model, x) < _SMALL:
            torch.set_num_threads(1)
        value, scores = self.objective(x, y)
        self.stepper.zero_grad()
        # averaged over the processes, this is the mean over the batch
        fabric.backward(value * (count * fabric.world_size / len(batch)))
        if self.config.clip_norm is not None:
            fabric.clip_gradients(
                self.objective,
                run.optimizer,
                max_norm=self.config.clip_norm,
                error_if_nonfinite=False,
            )
        if self.config.decoupled:
            shrink(run.optimizer, self.config)
        self.stepper.step()
        if self.after_step is not None:
            self.after_step()
        if run.average is not None:
            run.average.update()
        right = (scores.detach().argmax(1) == y)[:count].sum()
        return torch.stack([value.detach() * count, right])


class _Objective(nn.Module):
    """A model and its loss as one module, so that what wraps it sees all that a step computes."""

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.model = model
        self.loss = loss

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return self.loss(self.model, x, y)


@contextmanager
def _log(fabric: Fabric, config: FitConfig, run: Run, steps: int) -> Iterator[MetricsLog | None]:
    """Open the metrics' folder with the epochs done so far in it; None for all but the first."""
    folder = config.log_dir
    if folder is None:
        yield None
        return
    opened: list[MetricsLog] = []

    def start() -> None:
        opened.append(MetricsLog(Path(folder), resumed=run.resumed is not None))
        for entry in run.history:
            opened[0].write(entry, config.rate(entry.epoch - 1, (steps - 0.5) / steps))

    on_first(fabric, start)
    try:
        yield opened[0] if opened else None
    finally:
        for log in opened:
            log.close()


@contextmanager
def _same_threads() -> Iterator[None]:
    """Leave as many threads to others as there were."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _work(model: nn.Module, x: Tensor) -> int:
    """Multiplications for one sample, an upper bound: as if no convolution or pool had a stride.

    It depends on nothing but the shapes, so a resumed run finds the same.
    """
    places = math.prod(x.shape[-2:]) if x.ndim >= 4 else 1
    return sum(value.numel() * (places if value.ndim == 4 else 1) for value in model.parameters())


def _order(fabric: Fabric, seed: int, epoch: int, samples: int) -> Tensor:
    """Seed the generators for an epoch; return the order of its samples, alike everywhere."""
    seed_generators(seed, epoch)
    order = torch.randperm(samples)
    if fabric.global_rank:
        # what processes draw for their own samples must not be alike
        seed_generators(seed, epoch, fabric.global_rank)
    return order
