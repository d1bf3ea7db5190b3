"""The command line. Every verb reads its arguments, calls one public function and reports."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from spikeship.deploy.console import DONE, NO, Voice, guarded

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    help="From a trained image classifier to a verified spiking network on Lava and Loihi.",
)


class Chip(StrEnum):
    """Chips that can be named."""

    loihi1 = "loihi1"
    loihi2 = "loihi2"


class Authority(StrEnum):
    """Who a network is verified against."""

    lava = "lava"
    reference = "reference"


class Engine(StrEnum):
    """What runs a simulation."""

    cpu = "cpu"
    lava = "lava"


class Coding(StrEnum):
    """How images become messages."""

    poisson = "poisson"
    direct = "direct"


class Slope(StrEnum):
    """Surrogate of the backward pass."""

    stdb = "stdb"
    linear = "linear"


class Where(StrEnum):
    """Where torch works."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


Json = Annotated[
    str | None, typer.Option("--json", metavar="PATH|-", help="Write one JSON object there.")
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of everything random.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress, no words.")]
Device = Annotated[Where, typer.Option("--device", help="Where torch trains.")]
Data = Annotated[
    str, typer.Option("--data", help="digits, mnist, fashion-mnist, cifar10, npz:FILE")
]
MaybeData = Annotated[str | None, typer.Option("--data", help="A data set; see train.")]
DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Or $SPIKESHIP_DATA.")]
Limit = Annotated[int | None, typer.Option("-n", min=1, help="Only the first so many images.")]
Steps = Annotated[int | None, typer.Option("-T", min=1, help="Time steps.")]
Output = Annotated[Path, typer.Option("-o", "--output", help="Where to write.")]
Net = Annotated[Path, typer.Argument(help="A quantized network (.safetensors).")]


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Directory to write.")] = Path("demo-out"),
    json: Json = None,
    seed: Seed = 0,
    quiet: Quiet = False,
    device: Device = Where.auto,
) -> int:
    """Do the main job on the embedded digits, end to end."""
    from spikeship.deploy.demo import demo as run
    from spikeship.deploy.report import table

    voice = Voice(json, quiet)
    result = run(out, seed=seed, quiet=quiet, device=device.value, say=voice.say)
    voice.result(result)
    voice.say(table(result))
    check = result["verify"]
    voice.say(
        f"Lava: {check['spikes_compared']} spikes ({check['values_compared']} values) of "
        f"{check['images']} images compared, "
        + ("all equal" if check["spikes_equal"] else str(check["first_difference"]))
    )
    voice.say(f"Everything is in {out}/; open {result['report']}")
    return DONE if check["spikes_equal"] else NO


@app.command()
def doctor(
    json: Json = None, seed: Seed = 0, quiet: Quiet = False, device: Device = Where.auto
) -> int:
    """Say what works here, and how to get the rest."""
    from dataclasses import asdict

    from spikeship.deploy.doctor import examine

    voice = Voice(json, quiet)
    findings = examine()
    for found in findings:
        voice.say(f"{'yes' if found.works else 'no ':3} {found.name:12} {found.detail}")
        if found.fix:
            voice.say(f"    {found.fix}")
    voice.result({"findings": [asdict(found) for found in findings]})
    return DONE


@app.command("install-lava")
def install_lava(
    json: Json = None, seed: Seed = 0, quiet: Quiet = False, device: Device = Where.auto
) -> int:
    """Install lava-nc and lava-dl into this environment, past the Python they declare."""
    from spikeship.deploy.install_lava import install
    from spikeship.hw_models.lava.compat import LAVA_DL_VERSION, LAVA_VERSION

    install(quiet)
    Voice(json, quiet).result({"lava-nc": LAVA_VERSION, "lava-dl": LAVA_DL_VERSION})
    return DONE


@app.command()
def train(
    arch: Annotated[str, typer.Argument(help="vgg5")],
    data: Data,
    output: Output,
    data_dir: DataDir = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1)] = None,
    limit: Limit = None,
    json: Json = None,
    seed: Seed = 0,
    quiet: Quiet = False,
    device: Device = Where.auto,
) -> int:
    """Train a classifier; started again after an interruption, it goes on where it was."""
    from spikeship.deploy import training_verbs

    return training_verbs.train(
        Voice(json, quiet), arch, data, data_dir, epochs, output, limit, seed, device.value
    )


@app.command()
def convert(
    data: Data,
    output: Output,
    ann: Annotated[Path | None, typer.Argument(help=".safetensors or .onnx")] = None,
    num_steps: Annotated[int, typer.Option("-T", min=1, help="Time steps.")] = 20,
    balance: Annotated[str, typer.Option("--balance", help="max or percentile:P")] = "max",
    factor: Annotated[
        float | None, typer.Option("--factor", help="Balanced thresholds times this.")
    ] = None,
    encoding: Annotated[Coding, typer.Option("--encoding")] = Coding.poisson,
    arch: Annotated[str | None, typer.Option("--arch", help="package.module:factory")] = None,
    weights: Annotated[Path | None, typer.Option("--weights", help="Its .pth state dict.")] = None,
    mean: Annotated[str | None, typer.Option("--mean", help="Per channel: 0.5,0.4,0.4")] = None,
    std: Annotated[str | None, typer.Option("--std", help="Per channel, as --mean.")] = None,
    data_dir: DataDir = None,
    limit: Limit = None,
    json: Json = None,
    seed: Seed = 0,
    quiet: Quiet = False,
    device: Device = Where.auto,
) -> int:
    """Turn a classifier into a spiking network by threshold balancing."""
    from spikeship.deploy import training_verbs

    request = training_verbs.Conversion(
        ann, arch, weights, num_steps, balance, factor, encoding.value, mean, std
    )
    return training_verbs.convert(
        Voice(json, quiet), request, data, data_dir, output, limit, seed, device.value
    )


@app.command()
def finetune(
    snn: Annotated[Path, typer.Argument(help="A spiking network (.nir).")],
    data: Data,
    output: Output,
    method: Annotated[str, typer.Option("--method", help="stdb")] = "stdb",
    surrogate: Annotated[Slope, typer.Option("--surrogate")] = Slope.linear,
    num_steps: Steps = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1)] = None,
    learning_rate: Annotated[float | None, typer.Option("--lr")] = None,
    data_dir: DataDir = None,
    limit: Limit = None,
    json: Json = None,
    seed: Seed = 0,
    quiet: Quiet = False,
    device: Device = Where.auto,
) -> int:
    """Fine-tune a spiking network with spike-timing dependent backpropagation."""
    from spikeship.deploy import training_verbs

    request = training_verbs.Tuning(snn, method, surrogate.value, num_steps, epochs, learning_rate)
    return training_verbs.finetune(
        Voice(json, quiet), request, data, data_dir, output, limit, seed, device.value
    )


@app.command()
def quantize(
    snn: Annotated[Path, typer.Argument(help="A spiking network (.nir).")],
    output: Output,
    chip: Annotated[Chip, typer.Option("--chip")] = Chip.loihi2,
    weight_bits: Annotated[int, typer.Option("--weight-bits")] = 8,
    data: MaybeData = None,
    data_dir: DataDir = None,
    limit: Limit = None,
    json: Json = None,
    seed: Seed = 0,
    quiet: Quiet = False,
    device: Device = Where.auto,
) -> int:
    """Turn a spiking network into the chip's integers."""
    from spikeship.deploy import chip_verbs

    return chip_verbs.quantize(
        Voice(json, quiet), snn, chip.value, weight_bits, data, data_dir, output, limit, seed
    )


@app.command()
def export(
    net: Net,
    output: Output,
    to: Annotated[str, typer.Option("--to", help="lava")] = "lava",
    json: Json = None,
    seed: Seed = 0,
    quiet: Quiet = False,
    device: Device = Where.auto,
) -> int:
    """Write a network for others: a directory of Lava Processes that runs by itself."""
    from spikeship.deploy import chip_verbs

    return chip_verbs.export(Voice(json, quiet), net, to, output)


@app.command()
def simulate(
    net: Net,
    data: Data,
    on: Annotated[Engine, typer.Option("--on")] = Engine.cpu,
    record: Annotated[Path | None, typer.Option("--record", help="FILE.npz")] = None,
    num_steps: Steps = None,
    data_dir: DataDir = None,
    limit: Limit = None,
    json: Json = None,
    seed: Seed = 0,
    quiet: Quiet = False,
    device: Device = Where.auto,
) -> int:
    """Run a network in integers: accuracy and counts."""
    from spikeship.deploy import chip_verbs

    return chip_verbs.simulate(
        Voice(json, quiet), net, data, data_dir, on.value, record, num_steps, limit, seed
    )


@app.command()
def predict(
    net: Net,
    source: Annotated[Path, typer.Argument(metavar="IMAGE|FILE.npz", help="Your own input.")],
    limit: Limit = None,
    json: Json = None,
    seed: Seed = 0,
    quiet: Quiet = False,
    device: Device = Where.auto,
) -> int:
    """Say class and margin of your own inputs."""
    from spikeship.deploy import chip_verbs

    return chip_verbs.predict(Voice(json, quiet), net, source, limit, seed)


@app.command()
def verify(
    net: Net,
    against: Annotated[Authority, typer.Option("--against")] = Authority.lava,
    data: MaybeData = None,
    data_dir: DataDir = None,
    limit: Limit = None,
    stall: Annotated[float, typer.Option("--stall", help="Give Lava up after s idle.")] = 300.0,
    json: Json = None,
    seed: Seed = 0,
    quiet: Quiet = False,
    device: Device = Where.auto,
) -> int:
    """Compare every spike of every layer with real Lava, or with the reference."""
    from spikeship.deploy import chip_verbs

    return chip_verbs.verify(
        Voice(json, quiet), net, against.value, data, data_dir, limit, stall, seed
    )


@app.command()
def estimate(
    net: Net,
    data: Data,
    chip: Annotated[Chip, typer.Option("--chip")] = Chip.loihi2,
    data_dir: DataDir = None,
    limit: Limit = None,
    json: Json = None,
    seed: Seed = 0,
    quiet: Quiet = False,
    device: Device = Where.auto,
) -> int:
    """Estimate synaptic operations, cycles, latency, energy and cores on a chip."""
    from spikeship.deploy import chip_verbs

    return chip_verbs.estimate(Voice(json, quiet), net, chip.value, data, data_dir, limit, seed)


@app.command()
def compare(
    net: Annotated[Path, typer.Option("--net", help="The quantized network.")],
    data: Data,
    report: Annotated[Path, typer.Option("--report", help="HTML file to write.")],
    ann: Annotated[Path | None, typer.Option("--ann", help=".safetensors or .onnx")] = None,
    snn: Annotated[Path | None, typer.Option("--snn", help="The fine-tuned .nir")] = None,
    converted: Annotated[
        Path | None, typer.Option("--converted", help="The .nir before fine-tuning")
    ] = None,
    arch: Annotated[str | None, typer.Option("--arch", help="package.module:factory")] = None,
    weights: Annotated[Path | None, typer.Option("--weights", help="Its .pth state dict.")] = None,
    lava: Annotated[int, typer.Option("--lava", min=0, help="Images to run on Lava too.")] = 0,
    chip: Annotated[Chip, typer.Option("--chip")] = Chip.loihi2,
    data_dir: DataDir = None,
    limit: Limit = None,
    json: Json = None,
    seed: Seed = 0,
    quiet: Quiet = False,
    device: Device = Where.auto,
) -> int:
    """Put every stage's accuracy, the chip's estimate and the GPU's row in one report."""
    from spikeship.deploy import chip_verbs

    request = chip_verbs.Contest(ann, arch, weights, snn, converted, net, chip.value, lava, report)
    return chip_verbs.compare(Voice(json, quiet), request, data, data_dir, limit, seed)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    command: Any = typer.main.get_command(app)

    def run() -> int | None:
        result: int | None = command.main(
            args=arguments, prog_name="spikeship", standalone_mode=False
        )
        return result

    return guarded(run)
