"""Fine-tuning in the spiking domain with spike-timing dependent backpropagation (STDB).

Rathi et al., ICLR 2020 (arXiv 2005.01807): the converted weights are the start, the thresholds
stay, cross-entropy is taken on the readout divided by the number of steps. ``tuning.Tuning`` holds
what may be otherwise.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from spikeship.training.ann.checkpoint import fingerprint
from spikeship.training.ann.network import INPUT, Add, Network
from spikeship.training.finetuning import losses
from spikeship.training.finetuning.synops import synops
from spikeship.training.finetuning.tuning import Tuning
from spikeship.training.fit.config import EpochMetrics, FitConfig, FitError
from spikeship.training.fit.generators import seed_generators
from spikeship.training.fit.identity import structure
from spikeship.training.fit.loop import fit
from spikeship.training.quantization.qat import grid_of
from spikeship.training.snn.encoding import encode_train
from spikeship.training.snn.form import sample_shapes
from spikeship.training.snn.neurons import SpikingNeuron
from spikeship.training.snn.observe import evaluate, observe_ranges
from spikeship.training.snn.spiking_network import SpikingNetwork
from spikeship.training.snn.surrogates import surrogate


def finetune(
    snn: SpikingNetwork,
    images_of: Callable[[Tensor], Tensor],
    labels: Tensor,
    config: FitConfig,
    *,
    num_steps: int | None = None,
    surrogate_name: str = "linear",
    tuning: Tuning | None = None,
    teacher: nn.Module | None = None,
    validation: tuple[Tensor, Tensor] | None = None,
    state_path: Path | None = None,
    quiet: bool = False,
) -> tuple[SpikingNetwork, list[EpochMetrics]]:
    """Train a spiking network's weights and biases; skip factors stay, neurons unless asked for.

    Args:
        snn: the network to start from; it stays as it is.
        images_of: gives real images (batch, *input_shape), normalised, for sample indices; may
            augment. For encoding ``spikes``, messages (batch, time, *input_shape).
        labels: class of every sample, int64, shape (samples,).
        config: how to train.
        num_steps: T to train with and for; by default the network's own.
        surrogate_name: slope of the backward pass. ``linear`` is the stable one; the paper's
            ``stdb`` hands every step's gradient on to all steps before it, whatever V is, and
            wants a tenth of the learning rate or less.
        tuning: what is to be otherwise than in the paper.
        teacher: network whose class scores ``tuning.distill`` draws to, from real images to
            (batch, classes); it stays as it is and runs in eval mode.
        validation: images as ``images_of`` gives them, and their labels: the weights of the epoch
            that classifies most of them rightly (with the final T) are the result's.
        state_path: where to keep the state of an interruptible run.
        quiet: no progress bar.

    Returns:
        The fine-tuned network, with ranges observed anew on the first training images, and the
        metrics of every epoch.

    Raises:
        FitError: as :func:`loop.fit`; options that do not fit the network, or each other.
        EncodingError: images the network's coding cannot carry.
    """
    surrogate(surrogate_name)
    tuning = tuning or Tuning()
    tuned = copy.deepcopy(snn)
    tuned.num_steps = steps = num_steps or snn.num_steps
    _check(tuned, tuning, teacher, config)
    teacher = _prepared(teacher, tuned)
    _hold(tuned)
    for neuron in tuned.neurons.values():
        neuron.surrogate_name = surrogate_name
        neuron.attached = tuning.attached
    _learn(tuned, tuning)
    batch_loss = _BatchLoss(tuned, tuning, config.epochs, teacher)

    def validate() -> float:
        assert validation is not None
        images, classes = validation
        right = evaluate(tuned, images, seed=config.seed).argmax(1) == classes
        return right.double().mean().item()

    metrics = fit(
        tuned,
        images_of,
        labels,
        config,
        batch_loss,
        purpose={
            "num_steps": steps,
            "surrogate": surrogate_name,
            **asdict(tuning),
            **_numbers(tuned),
            "teacher": None if teacher is None else _identity(teacher),
            "validation": None
            if validation is None
            else fingerprint(dict(zip(("images", "labels"), validation, strict=True))),
        },
        state_path=state_path,
        quiet=quiet,
        parameter_groups=_groups(tuned, tuning),
        on_epoch=batch_loss.begin,
        after_step=(lambda: _constrain(tuned)) if tuning.learns else None,
        validate=None if validation is None else validate,
    )
    _hold(tuned)
    first = torch.arange(min(len(labels), _RANGE_IMAGES))
    # where the run was resumed after its last epoch, no epoch has seeded them
    seed_generators(config.seed, config.epochs)
    tuned.ranges = observe_ranges(tuned, images_of(first), seed=config.seed)
    return tuned, metrics


_RANGE_IMAGES = 256


def _numbers(snn: SpikingNetwork) -> dict[str, Any]:
    """The scales of a network's messages and, where it computes in integers, of those."""
    integers = None
    if (grid := grid_of(snn)) is not None:
        scales = {name: torch.from_numpy(scale) for name, scale in grid.scales.items()}
        integers = grid.to_dict() | {"scales": fingerprint(scales)}
    return {"coding": asdict(snn.coding), "integers": integers}


def _identity(teacher: nn.Module) -> list[str]:
    return [structure(teacher), fingerprint(teacher.state_dict())]


class _BatchLoss:
    """The loss of one batch, as the options have it; T may change from epoch to epoch."""

    def __init__(
        self, snn: SpikingNetwork, tuning: Tuning, epochs: int, teacher: nn.Module | None
    ) -> None:
        self.tuning, self.epochs, self.last = tuning, epochs, snn.num_steps
        self.coding = snn.coding
        self.steps = snn.num_steps
        self.teacher = teacher
        # operations of one image in one step if every neuron fires; known once their shapes are
        self.dense: float | None = None

    def begin(self, epoch: int) -> None:
        """Take the T of an epoch, counted from 0."""
        self.steps = self.tuning.steps(epoch, self.epochs, self.last)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss (scalar) and the class scores (batch, classes)."""
        snn = cast(SpikingNetwork, model)
        outputs, events = self._run(snn, encode_train(x, self.coding, self.steps))
        scores = outputs.sum(0) / self.steps
        tuning = self.tuning
        if tuning.loss == "tet":
            loss = losses.tet(outputs, y, tuning.tet_weight, tuning.tet_target)
        else:
            loss = functional.cross_entropy(scores, y)
        if self.teacher is not None:
            distance = losses.distillation(scores, self._taught(x), tuning.temperature)
            loss = (1 - tuning.distill) * loss + tuning.distill * distance
        if events:
            loss = loss + tuning.synop_weight * self._share(snn, events, len(x)).to(loss)
        return loss, scores

    def _run(self, snn: SpikingNetwork, messages: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the readout's outputs (time, batch, classes), and the neurons' spikes."""
        events: dict[str, Tensor] = {}
        if self.tuning.synop_weight == 0:
            return _wide(snn.outputs(messages)), events
        for name, weighted, spikes in snn.walk(messages):
            if spikes is None:
                return _wide(weighted), events
            # whole numbers, exact in float32 up to 2**24 spikes a neuron
            events[name] = spikes.sum((0, 1), dtype=torch.float32)
            # not kept while the next layer runs
            del weighted, spikes
        raise AssertionError("a network ends in its output")

    def _taught(self, x: Tensor) -> Tensor:
        assert self.teacher is not None
        with torch.no_grad():
            scores: Tensor = self.teacher.to(x.device)(x)
        return scores

    def _share(self, snn: SpikingNetwork, events: dict[str, Tensor], images: int) -> Tensor:
        """Share of the operations of neurons' spikes in those of all firing in every step."""
        if self.dense is None:
            all_once = {name: torch.ones_like(count) for name, count in events.items()}
            self.dense = float(synops(snn.network, all_once, connected=True))
        return synops(snn.network, events) / (self.dense * self.steps * images)


def _wide(outputs: Tensor) -> Tensor:
    """Sums and losses of half precision would be rounded at every step."""
    return outputs.to(torch.promote_types(outputs.dtype, torch.float32))


def _prepared(teacher: nn.Module | None, snn: SpikingNetwork) -> nn.Module | None:
    """Copy a teacher, in eval mode; refuse one that is not made for the network's images."""
    if teacher is None:
        return None
    teacher = copy.deepcopy(teacher).eval()
    expected = (1, *sample_shapes(snn.network)[snn.network.output])
    black = torch.zeros(1, *snn.network.input_shape)
    like = next(teacher.parameters(), black)
    try:
        with torch.no_grad():
            shape = tuple(teacher(black.to(like)).shape)
    except (RuntimeError, ValueError) as error:
        raise FitError(
            f"teacher: cannot take images of shape {snn.network.input_shape} "
            f"({str(error).splitlines()[0]}); give the ANN that was converted"
        ) from error
    if shape != expected:
        raise FitError(
            f"teacher: gives scores of shape {shape} for one image, the network {expected}; "
            "give one for the same classes"
        )
    return teacher


def _check(
    snn: SpikingNetwork, tuning: Tuning, teacher: nn.Module | None, config: FitConfig
) -> None:
    """Refuse options that do not fit the network or each other."""
    tuning.check_annealing(config.epochs, snn.num_steps, snn.coding.encoding)
    if (teacher is None) != (tuning.distill == 0):
        raise FitError("distill above 0 and a teacher belong together; give both, or neither")
    if teacher is not None and snn.coding.encoding == "spikes":
        raise FitError("teacher: takes images, and this network's input are spikes; leave it out")
    neurons = snn.neurons.values()
    if config.precision != "32-true" and grid_of(snn) is not None:
        raise FitError(f"precision {config.precision!r} cannot hold integers; use '32-true'")
    if not neurons and (tuning.learns or tuning.synop_weight > 0):
        raise FitError("the network has no neurons to learn or to save operations of")


def _learn(snn: SpikingNetwork, tuning: Tuning) -> None:
    """Make what is to be learnt of the neurons parameters, in the granularity asked for."""
    if not tuning.learns:
        return
    shapes = sample_shapes(snn.network)
    for name, neuron in snn.neurons.items():
        if tuning.learn_per == "channel":
            channels = (shapes[name][0], *[1] * (len(shapes[name]) - 1))
            for part in ("threshold", "leak"):
                if getattr(tuning, f"learn_{part}"):
                    value = getattr(neuron, part)
                    # where there is one for every neuron already, it stays so
                    setattr(neuron, part, value * value.new_ones(channels))
        neuron.learn(threshold=tuning.learn_threshold, leak=tuning.learn_leak)


def _constrain(snn: SpikingNetwork) -> None:
    for neuron in snn.neurons.values():
        neuron.constrain()


def _hold(snn: SpikingNetwork) -> None:
    """Take what was learnt of the neurons for fixed."""
    for neuron in snn.neurons.values():
        for name, value in list(neuron.named_parameters(recurse=False)):
            delattr(neuron, name)
            neuron.register_buffer(name, value.detach())


def _groups(snn: SpikingNetwork, tuning: Tuning) -> list[dict[str, Any]]:
    """Parameter groups: those with a learning rate of their own stand apart.

    The first weights hold the scale of a message, which for direct input is a hundredth of what
    others are made of; the optimizer's steps, as long for all, would write them anew.
    """
    learnt = [value for neuron in snn.neurons.values() for value in neuron.parameters()]
    first = _first_weights(snn.network) if snn.coding.scale < 1 else []
    apart = {id(value) for value in (*learnt, *first)}
    groups: list[dict[str, Any]] = [
        {"params": [value for value in snn.parameters() if id(value) not in apart]}
    ]
    if first:
        groups.append({"params": first, "rate_factor": snn.coding.scale})
    if learnt:
        groups.append({"params": learnt, "weight_decay": 0.0, "rate_factor": tuning.learn_factor})
    return groups


def _first_weights(network: Network) -> list[nn.Parameter]:
    """Weights that messages of the input meet, not their biases."""
    carries = {INPUT}
    found: list[nn.Parameter] = []
    for layer in network.layers:
        if not carries.intersection(layer.inputs):
            continue
        if isinstance(layer.module, nn.Conv2d | nn.Linear):
            named = layer.module.named_parameters()
            found += [value for name, value in named if "weight" in name.split(".")]
        elif not isinstance(layer.module, SpikingNeuron | Add):
            carries.add(layer.name)
    return found


def stdb_config(
    input_shape: Sequence[int], surrogate_name: str = "linear", **changes: Any
) -> FitConfig:
    """Settings for fine-tuning: the paper's Adam and decay, a rate that fits width and slope.

    Rathi et al., ICLR 2020, take a rate of 1e-4 and fewer than 20 epochs. Smaller images make the
    networks narrow: with slopes that look at the potential they need a larger rate, with STDB's,
    which does not, a larger one undoes the conversion.

    Args:
        input_shape: shape of one image.
        surrogate_name: slope of the backward pass.
        **changes: fields of :class:`FitConfig` to set otherwise.
    """
    narrow = input_shape[-1] < 32
    settings = {
        "epochs": 10 if narrow else 3,
        "learning_rate": 3e-3 if narrow and surrogate_name != "stdb" else 1e-4,
        "optimizer": "adam",
        "decay": 0.2,
    }
    return FitConfig(**(settings | changes))
