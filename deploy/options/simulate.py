"""What ``simulate``, ``predict`` and ``verify`` can be told."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from spikeship.deploy.options.declare import argument, option
from spikeship.deploy.options.shared import Net

Against = Literal["lava", "reference"]
Engine = Literal["cpu", "cuda", "lava"]


@dataclass(frozen=True, kw_only=True)
class SimulateOptions:
    """How a network is run, and what is kept of it."""

    on: Annotated[
        Engine | None,
        option("--on", help="What runs it.", show_default="cpu; --device cuda means cuda"),
    ] = None
    record: Annotated[
        Path | None,
        option("--record", help="FILE.npz for every layer's spikes.", show_default="none"),
    ] = None
    membranes: Annotated[bool, option("--membranes", help="Record potentials too, as NAME.v.")] = (
        False
    )
    num_steps: Annotated[
        int | None, option("-T", min=1, help="Time steps.", show_default="the network's")
    ] = None
    early_exit: Annotated[
        float | None,
        option(
            "--early-exit",
            min=0,
            help="Stop an image whose best class leads by this.",
            show_default="never",
        ),
    ] = None
    cost_images: Annotated[
        int, option("--cost-images", min=1, help="Images run on, to say what that costs.")
    ] = 256
    per_step: Annotated[
        bool, option("--per-step", help="Layers' counts by chip step, in the JSON.")
    ] = False
    threads: Annotated[
        int | None,
        option("--threads", min=1, help="Of a process.", show_default="its cores"),
    ] = None
    memory: Annotated[
        float | None,
        option("--memory", help="GB the layers in work may take.", show_default="2.1"),
    ] = None
    batch: Annotated[
        int | None,
        option("--batch", min=1, help="Images encoded at a time.", show_default="what is sensible"),
    ] = None
    workers: Annotated[
        int | None,
        option(
            "--workers", min=1, help="Ray processes to share the images.", show_default="this one"
        ),
    ] = None
    address: Annotated[
        str | None,
        option(
            "--address", metavar="HOST:PORT", help="A Ray cluster to join.", show_default="none"
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class PredictFiles:
    """A network and what it is asked."""

    net: Net
    source: Annotated[Path, argument(metavar="IMAGE|FILE.npz", help="Your own input.")]
    limit: Annotated[
        int | None, option("-n", min=1, help="Only the first so many.", show_default="all")
    ] = None


@dataclass(frozen=True, kw_only=True)
class VerifyOptions:
    """Who a network is held against."""

    against: Annotated[Against, option("--against", help="Who says what is right.")] = "lava"
    stall: Annotated[float, option("--stall", help="Give Lava up after s idle.")] = 300.0
