"""What ``train`` can be told."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from spikeship.deploy.options.declare import argument, option
from spikeship.deploy.options.shared import FittingOptions, Output
from spikeship.training.choices import Fill, Flip, Head, Pooling, Start

_NETWORK, _IMAGES, _STEPS = "Network", "Training images", "Training"


@dataclass(frozen=True, kw_only=True)
class TrainFiles:
    """What is trained, and where it is written."""

    arch: Annotated[
        str, argument(help="vgg5 … vgg19, resnet8 … resnet34, resnet20-small, fast9, …")
    ]
    output: Output


@dataclass(frozen=True, kw_only=True)
class TrainOptions(FittingOptions):
    """How a classifier is built and trained; None is the recipe's own choice."""

    SHOWN: ClassVar[Mapping[str, str]] = {
        "epochs": "30; 60 below 32 x 32",
        "batch": "128",
        "lr": "0.2 with batch norm, else 0.02; below 32 x 32 0.2 and 0.1",
        "schedule": "one-cycle",
    }

    paper: Annotated[
        bool, option("--paper", help="The paper's recipe: 300 epochs, steps down, dropout.")
    ] = False
    width: Annotated[
        float,
        option("--width", help="Factor on channels and units.", rich_help_panel=_NETWORK),
    ] = 1.0
    batch_norm: Annotated[
        bool | None,
        option(
            "--batch-norm/--no-batch-norm",
            help="After each convolution; conversion folds it.",
            show_default="only in resnet20-small and fast9",
            rich_help_panel=_NETWORK,
        ),
    ] = None
    dropout: Annotated[
        bool | None,
        option(
            "--dropout/--no-dropout",
            help="The paper's.",
            show_default="where there is no batch norm",
            rich_help_panel=_NETWORK,
        ),
    ] = None
    head: Annotated[
        Head | None,
        option(
            "--head",
            help="Of a VGG: three dense layers, or one behind a global average pool.",
            show_default="dense; fast9 pool",
            rich_help_panel=_NETWORK,
        ),
    ] = None
    pooling: Annotated[
        Pooling | None,
        option("--pooling", help="Of a VGG.", show_default="average", rich_help_panel=_NETWORK),
    ] = None
    start: Annotated[
        Start | None,
        option(
            "--start",
            help="First weights; identity: convolutions begin by handing their inputs on.",
            show_default="the architecture's",
            rich_help_panel=_NETWORK,
        ),
    ] = None
    whiten: Annotated[
        bool,
        option(
            "--whiten",
            help="The first convolution whitens patches, untrained.",
            rich_help_panel=_NETWORK,
        ),
    ] = False
    activation: Annotated[
        str,
        option("--activation", help="relu, clip, or qcfs:STEPS", rich_help_panel=_NETWORK),
    ] = "relu"

    peak: Annotated[
        float | None,
        option(
            "--peak",
            help="Part of the epochs until one-cycle's peak.",
            show_default="0.25",
            rich_help_panel=_STEPS,
        ),
    ] = None
    momentum: Annotated[
        float | None,
        option("--momentum", min=0, help="Of SGD.", show_default="0.9", rich_help_panel=_STEPS),
    ] = None
    nesterov: Annotated[
        bool | None,
        option(
            "--nesterov/--no-nesterov",
            help="Nesterov's momentum.",
            show_default="nesterov",
            rich_help_panel=_STEPS,
        ),
    ] = None
    weight_decay: Annotated[
        float | None,
        option(
            "--weight-decay",
            min=0,
            help="L2 penalty; decoupled, the part of a weight a step takes away.",
            show_default="0.0005",
            rich_help_panel=_STEPS,
        ),
    ] = None
    decoupled: Annotated[
        bool | None,
        option(
            "--decoupled/--coupled",
            help="Decay weights apart from gradient and momentum, or as an L2 penalty.",
            show_default="coupled",
            rich_help_panel=_STEPS,
        ),
    ] = None
    norm_rate: Annotated[
        float | None,
        option(
            "--norm-rate",
            help="Rate of batch norm's biases times this.",
            show_default="1",
            rich_help_panel=_STEPS,
        ),
    ] = None
    averaging: Annotated[
        float | None,
        option(
            "--averaging",
            min=0,
            help="Epochs that weights are averaged over.",
            show_default="1",
            rich_help_panel=_STEPS,
        ),
    ] = None
    label_smoothing: Annotated[
        float | None,
        option(
            "--label-smoothing",
            min=0,
            help="Part of the target spread over all classes.",
            show_default="0.1",
            rich_help_panel=_STEPS,
        ),
    ] = None
    precision: Annotated[
        Literal["float32", "bfloat16"] | None,
        option(
            "--precision",
            help="Of weighted layers.",
            show_default="bfloat16 where it is fast, from 32 x 32 on",
            rich_help_panel=_STEPS,
        ),
    ] = None
    test: Annotated[
        bool, option("--test/--no-test", help="Say the accuracy on test images at the end.")
    ] = True

    translate: Annotated[
        int | None,
        option(
            "--translate",
            min=0,
            help="Largest shift, pixels.",
            show_default="4 for CIFAR, else 0",
            rich_help_panel=_IMAGES,
        ),
    ] = None
    fill: Annotated[
        Fill | None,
        option(
            "--fill",
            help="What a shift brings in.",
            show_default="reflect for CIFAR",
            rich_help_panel=_IMAGES,
        ),
    ] = None
    flip: Annotated[
        Flip | None,
        option(
            "--flip",
            help="When images are mirrored.",
            show_default="alternating for CIFAR and pictures",
            rich_help_panel=_IMAGES,
        ),
    ] = None
    cutout: Annotated[
        int | None,
        option(
            "--cutout",
            min=0,
            help="Side of a square taken out, pixels.",
            show_default="0",
            rich_help_panel=_IMAGES,
        ),
    ] = None

    def network(self) -> dict[str, Any]:
        """What ``zoo.build`` is told beside architecture, shape, width and activation."""
        own: dict[str, Any] = {"dropout": True, "start": "paper"} if self.paper else {}
        return own | self._set("batch_norm", "dropout", "head", "pooling", "start")

    def variation(self) -> dict[str, Any]:
        """The fields of a ``Variation`` that are set."""
        return self._set("translate", "fill", "flip", "cutout")

    def settings(self) -> dict[str, Any]:
        """The fields of a ``FitConfig`` that are set."""
        more = self._set(
            "peak", "momentum", "nesterov", "weight_decay", "decoupled", "norm_rate", "averaging"
        )
        if self.precision is not None:
            more["precision"] = PRECISIONS[self.precision]
        return super().settings() | more

    def _set(self, *names: str) -> dict[str, Any]:
        found = {name: getattr(self, name) for name in names}
        return {name: value for name, value in found.items() if value is not None}


# what Fabric calls them
PRECISIONS: Mapping[str, Any] = {"float32": "32-true", "bfloat16": "bf16-mixed"}
