"""What ``finetune`` can be told."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from spikeship.deploy.options.declare import OptionError, Table, argument, option
from spikeship.deploy.options.shared import CHIPS, FittingOptions, Output
from spikeship.deploy.options.train import PRECISIONS
from spikeship.training.choices import LossName, MaxPool, Share

SURROGATES = Table("spikeship.training.snn.surrogates:SURROGATES")
LEARNT = ("threshold", "leak")


@dataclass(frozen=True, kw_only=True)
class FinetuneFiles:
    """What is fine-tuned, and where it is written."""

    snn: Annotated[Path, argument(help="A spiking network (.nir).")]
    output: Output


@dataclass(frozen=True, kw_only=True)
class FinetuneOptions(FittingOptions):
    """How a spiking network is fine-tuned; see ``finetuning.stdb``."""

    SHOWN: ClassVar[Mapping[str, str]] = {
        "epochs": "3; 10 below 32 x 32",
        "batch": "64",
        "lr": "0.0001; 0.003 below 32 x 32, but for the stdb slope",
        "schedule": "milestones",
    }

    method: Annotated[str, option("--method", help="stdb")] = "stdb"
    surrogate: Annotated[
        str, option("--surrogate", help="Slope of the backward pass."), SURROGATES
    ] = "linear"
    num_steps: Annotated[
        int | None, option("-T", min=1, help="Time steps.", show_default="the network's")
    ] = None
    start_steps: Annotated[
        int | None,
        option("--start-steps", help="T of the first epoch, going down to T.", show_default="T"),
    ] = None
    loss: Annotated[
        LossName, option("--loss", help="On the mean output, or every step's (TET).")
    ] = "ce"
    teacher: Annotated[
        Path | None,
        option("--teacher", help="ANN to distil: .safetensors or .onnx", show_default="none"),
    ] = None
    max_pool: Annotated[
        MaxPool, option("--max-pool", help="Of the teacher, as convert had it.")
    ] = "keep"
    distill: Annotated[
        float | None,
        option("--distill", help="Weight of the teacher, 0..1.", show_default="0.5 with a teacher"),
    ] = None
    temperature: Annotated[
        float | None, option("--temperature", help="Of the teacher.", show_default="2")
    ] = None
    attached: Annotated[bool, option("--attached", help="Gradients pass through the reset.")] = (
        False
    )
    learn: Annotated[
        str | None,
        option("--learn", help="threshold, leak, or threshold,leak", show_default="nothing"),
    ] = None
    learn_per: Annotated[
        Share | None,
        option("--learn-per", help="How many values are learnt.", show_default="layer"),
    ] = None
    learn_factor: Annotated[
        float | None,
        option("--learn-factor", help="Learning rate times this, for them.", show_default="1"),
    ] = None
    synop_weight: Annotated[
        float, option("--synop-weight", help="Cost of synaptic operations in the loss.")
    ] = 0.0
    weight_bits: Annotated[
        int | None,
        option("--weight-bits", help="Train in the chip's integers.", show_default="real numbers"),
    ] = None
    chip: Annotated[
        str | None, option("--chip", help="Of --weight-bits.", show_default="loihi2"), CHIPS
    ] = None
    checkpointing: Annotated[
        bool, option("--checkpointing", help="Compute again instead of keeping.")
    ] = False
    precision: Annotated[
        Literal["float32", "bfloat16"], option("--precision", help="Of weighted layers.")
    ] = "float32"

    def settings(self) -> dict[str, Any]:
        """The fields of a ``FitConfig`` that are set."""
        return super().settings() | {"precision": PRECISIONS[self.precision]}

    def tuning(self) -> dict[str, Any]:
        """The fields of a ``Tuning`` that are set.

        Raises:
            OptionError: words that cannot be learnt, or a teacher's options without one.
        """
        if self.teacher is None and (self.distill is not None or self.temperature is not None):
            raise OptionError(
                "--distill and --temperature need --teacher; give it, or leave them out"
            )
        distill = self.distill
        if self.teacher is not None and distill is None:
            distill = 0.5
        learnt = set((self.learn or "").split(",")) - {""}
        if unknown := learnt.difference(LEARNT):
            raise OptionError(f"--learn: {min(unknown)!r} is not known; use {', '.join(LEARNT)}")
        given = {
            "distill": distill,
            "temperature": self.temperature,
            "start_steps": self.start_steps,
            "learn_per": self.learn_per,
            "learn_factor": self.learn_factor,
        }
        return {
            "loss": self.loss,
            "attached": self.attached,
            "learn_threshold": "threshold" in learnt,
            "learn_leak": "leak" in learnt,
            "synop_weight": self.synop_weight,
            **{name: value for name, value in given.items() if value is not None},
        }
