"""The training loop, on Lightning Fabric: seeded, resumable, in one process or several."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer

from spikeship.hw_models.atomic import sweep
from spikeship.training.ann.checkpoint import fingerprint
from spikeship.training.fit.averaging import WeightAverage
from spikeship.training.fit.config import EpochMetrics, FitConfig, FitError
from spikeship.training.fit.generators import generator_states, restore_generators, seed_generators
from spikeship.training.fit.identity import images_seen, structure
from spikeship.training.fit.processes import (
    add_up,
    gather,
    make_fabric,
    on_first,
    share,
    shared_statistics,
)
from spikeship.training.fit.progress import MetricsLog, progress_bar
from spikeship.training.fit.state import TrainingState, load_state, save_state

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

    All generators (Python, NumPy, torch) are seeded anew from (seed, epoch) when an epoch begins,
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
            ``config.checkpoint_every`` steps; a state found there of the same run (recipe, number
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
    optimizer = _optimizer(model, config, parameter_groups)
    steps = -(-len(labels) // config.batch_size)
    average = WeightAverage(model, config.averaging * steps) if config.averaging else None
    run = _Run(fabric, model, optimizer, description, state_path, average)
    run.resume()
    objective, stepper = fabric.setup(_Objective(model, loss), optimizer)
    hidden = quiet or not fabric.is_global_zero
    try:
        with ExitStack() as stack:
            stack.enter_context(_same_threads())
            if fabric.world_size > 1 and fabric.device.type == "cuda":
                stack.enter_context(shared_statistics(model))
            log = stack.enter_context(_log(fabric, config, run, steps))
            progress = stack.enter_context(progress_bar(hidden))
            done = len(run.history) * steps + run.step
            task = progress.add_task("", total=config.epochs * steps, completed=done)
            for epoch in range(len(run.history), config.epochs):
                if on_epoch is not None:
                    on_epoch(epoch)
                order = _order(fabric, config.seed, epoch, len(labels))
                batches = torch.split(order, config.batch_size)
                sums, seconds = run.enter_epoch()
                began = time.perf_counter() - seconds
                model.train()
                for batch in batches[run.step :]:
                    rate = config.rate(epoch, (run.step + 0.5) / steps)
                    for group in optimizer.param_groups:
                        group["lr"] = rate * group.get("rate_factor", 1.0)
                    mine, count = share(batch, fabric)
                    x = fabric.to_device(images_of(mine))
                    y = fabric.to_device(labels[mine])
                    if _work(model, x) < _SMALL:
                        torch.set_num_threads(1)
                    value, scores = objective(x, y)
                    stepper.zero_grad()
                    # averaged over the processes, this is the mean over the batch
                    fabric.backward(value * (count * fabric.world_size / len(batch)))
                    if config.clip_norm is not None:
                        fabric.clip_gradients(
                            objective,
                            optimizer,
                            max_norm=config.clip_norm,
                            error_if_nonfinite=False,
                        )
                    if config.decoupled:
                        _shrink(optimizer, config)
                    stepper.step()
                    if after_step is not None:
                        after_step()
                    if average is not None:
                        average.update()
                    right = (scores.detach().argmax(1) == y)[:count].sum()
                    sums += torch.stack([value.detach() * count, right])
                    run.step += 1
                    progress.advance(task)
                    if run.step % config.checkpoint_every == 0 and run.step < steps:
                        run.save(sums, time.perf_counter() - began)
                mean, accuracy = (add_up(fabric, sums) / len(labels)).tolist()
                if not math.isfinite(mean):
                    raise FitError(
                        f"the loss is {mean} in epoch {epoch + 1}; lower the learning rate "
                        f"(it was {rate:g})"
                    )
                seconds = time.perf_counter() - began
                quality = None
                with average.applied() if average is not None else nullcontext():
                    if validate is not None:
                        model.eval()
                        quality = on_first(fabric, validate)
                    metrics = EpochMetrics(epoch + 1, mean, accuracy, seconds, quality)
                    run.judge(metrics)
                run.leave_epoch(metrics)
                if log is not None:
                    log.write(metrics, rate)
                progress.update(task, description=metrics.line(config.epochs))
        run.take_result()
    finally:
        model.to(home).eval()
    return run.history


class _Objective(nn.Module):
    """A model and its loss as one module, so that what wraps it sees all that a step computes."""

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.model = model
        self.loss = loss

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return self.loss(self.model, x, y)


@dataclass
class _Run:
    """How far a run is, and its file.

    Attributes:
        fabric: the processes.
        model: network in training.
        optimizer: its optimizer.
        description: JSON object that says which run this is.
        path: of the state, or None.
        average: running mean of the weights, or None.
        history: the epochs done.
        best: weights after the best of them, where the run validates.
        step: steps done in the epoch after them.
        resumed: the state that the run goes on from, until it has.
    """

    fabric: Fabric
    model: nn.Module
    optimizer: Optimizer
    description: dict[str, Any]
    path: Path | None
    average: WeightAverage | None
    history: list[EpochMetrics] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    step: int = 0
    resumed: TrainingState | None = None

    def resume(self) -> None:
        """Go on from the state in the file, where there is one."""
        state = self.resumed = on_first(self.fabric, self._found)
        if state is None:
            return
        try:
            self.model.load_state_dict(state.model)
            if self.average is not None:
                self.average.load_state_dict(state.average)
            self.history = [EpochMetrics(**entry) for entry in state.history]
        except (RuntimeError, TypeError) as error:
            raise FitError(
                f"{self.path}: does not fit the model; delete it to start over"
            ) from error
        self.best = state.best
        self.step = state.step
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": state.optimizer})

    def _found(self) -> TrainingState | None:
        if self.path is None:
            return None
        sweep(self.path)
        if not self.path.exists():
            return None
        state = load_state(self.path)
        keys = {**self.description, **state.run}
        differing = [key for key in keys if state.run.get(key) != self.description.get(key)]
        if differing:
            raise FitError(
                f"{self.path}: is the state of another run (differs in {', '.join(differing)}); "
                "delete it to start over, or give the settings it was made with"
            )
        return state

    def enter_epoch(self) -> tuple[Tensor, float]:
        """Return the epoch's sums so far, of loss and right answers, and the seconds they took."""
        state, self.resumed = self.resumed, None
        if state is None or state.step == 0:
            return torch.zeros(2, dtype=torch.float64, device=self.fabric.device), 0.0
        # once more, because the epoch's beginning may have changed the model and has drawn
        self.model.load_state_dict(state.model)
        mine = state.processes[self.fabric.global_rank]
        restore_generators(mine, self.fabric.device)
        return self.fabric.to_device(mine["sums"]), state.seconds

    def judge(self, metrics: EpochMetrics) -> None:
        """Keep the weights that the model has now, if they are the best so far."""
        quality = metrics.validation
        if quality is not None and all(
            entry.validation is None or quality > entry.validation for entry in self.history
        ):
            weights = self.model.state_dict()
            self.best = {name: value.detach().clone() for name, value in weights.items()}

    def leave_epoch(self, metrics: EpochMetrics) -> None:
        """Count an epoch as done."""
        self.history.append(metrics)
        self.step = 0
        self.save()

    def take_result(self) -> None:
        """Give the model the weights of the best epoch, or the mean where none was sought."""
        if self.best:
            self.model.load_state_dict(self.best)
        elif self.average is not None:
            self.average.give()

    def save(self, sums: Tensor | None = None, seconds: float = 0.0) -> None:
        """Write the state; within an epoch with its sums so far and the seconds they took."""
        if self.path is None:
            return
        path, processes = self.path, []
        if sums is not None:
            mine = generator_states(self.fabric.device) | {"sums": sums.cpu()}
            processes = gather(self.fabric, mine)
        # the rates and the like come from the config again; only the tensors are the run's own
        tensors = {
            index: {key: value for key, value in values.items() if isinstance(value, Tensor)}
            for index, values in self.optimizer.state_dict()["state"].items()
        }
        state = TrainingState(
            self.model.state_dict(),
            tensors,
            self.description,
            [asdict(entry) for entry in self.history],
            self.best,
            {} if self.average is None else self.average.state_dict(),
            self.step,
            seconds,
            processes,
        )
        on_first(self.fabric, lambda: save_state(path, state))


@contextmanager
def _log(fabric: Fabric, config: FitConfig, run: _Run, steps: int) -> Iterator[MetricsLog | None]:
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


def _optimizer(
    model: nn.Module, config: FitConfig, groups: Sequence[dict[str, Any]] | None
) -> Optimizer:
    parameters = _groups(model, config) if groups is None else list(groups)
    rate, decay = config.learning_rate, 0.0 if config.decoupled else config.weight_decay
    if config.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=rate, weight_decay=decay)
    return torch.optim.SGD(
        parameters,
        lr=rate,
        momentum=config.momentum,
        weight_decay=decay,
        nesterov=config.nesterov,
        # one pass over the weights in place of five
        fused=True,
    )


def _groups(model: nn.Module, config: FitConfig) -> list[dict[str, Any]]:
    """All parameters, batch norm's biases apart where they have a rate of their own."""
    biases = [
        module.bias
        for module in model.modules()
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.bias is not None
    ]
    if config.norm_rate == 1 or not biases:
        return [{"params": list(model.parameters())}]
    apart = {id(bias) for bias in biases}
    others = [value for value in model.parameters() if id(value) not in apart]
    return [{"params": others}, {"params": biases, "rate_factor": config.norm_rate}]


@torch.no_grad()
def _shrink(optimizer: Optimizer, config: FitConfig) -> None:
    """Take a decoupled decay off the weights, before the step."""
    for group in optimizer.param_groups:
        rate = group["lr"] / group.get("rate_factor", 1.0)
        weights = [value for value in group["params"] if value.grad is not None]
        torch._foreach_mul_(weights, 1 - config.weight_decay * rate / config.learning_rate)
