"""The command line. Every verb reads its arguments, calls one public function and reports."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from spikeship.deploy.cli.estimates import estimate, what_if
from spikeship.deploy.cli.options import (
    Authority,
    Chip,
    Data,
    DataDir,
    Device,
    Engine,
    GpuResult,
    Json,
    Limit,
    MaybeData,
    Net,
    Output,
    Quiet,
    Seed,
    Steps,
    Where,
)
from spikeship.deploy.cli.training import convert, finetune, train
from spikeship.deploy.verbs.console import DONE, NO, Voice, guarded

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    help="From a trained image classifier to a verified spiking network on Lava and Loihi.",
)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Directory to write.")] = Path("demo-out"),
    json: Json = None,
    seed: Seed = 0,
    quiet: Quiet = False,
    device: Device = Where.auto,
) -> int:
    """Do the main job on the embedded digits, end to end."""
    from spikeship.deploy.report.report import table
    from spikeship.deploy.verbs.demo import demo as run

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

    from spikeship.deploy.verbs.doctor import examine

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
    from spikeship.deploy.verbs.install_lava import install
    from spikeship.hw_models.lava.compat import LAVA_DL_VERSION, LAVA_VERSION

    install(quiet)
    Voice(json, quiet).result({"lava-nc": LAVA_VERSION, "lava-dl": LAVA_DL_VERSION})
    return DONE


app.command()(train)
app.command()(convert)
app.command()(finetune)


@app.command()
def quantize(
    snn: Annotated[Path, typer.Argument(help="A spiking network (.nir), or lava-dl's (.net).")],
    output: Output,
    chip: Annotated[Chip, typer.Option("--chip")] = Chip.loihi2,
    weight_bits: Annotated[
        int | None,
        typer.Option("--weight-bits", help="1..8; by default what it was trained for, else 8."),
    ] = None,
    layers: Annotated[
        int | None, typer.Option("--layers", min=1, help="Read only the first so many of a .net.")
    ] = None,
    data: MaybeData = None,
    data_dir: DataDir = None,
    limit: Limit = None,
    json: Json = None,
    seed: Seed = 0,
    quiet: Quiet = False,
    device: Device = Where.auto,
) -> int:
    """Turn a spiking network into the chip's integers."""
    from spikeship.deploy.verbs.quantize import quantize as run

    return run(
        Voice(json, quiet),
        snn,
        chip.value,
        weight_bits,
        data,
        data_dir,
        output,
        limit,
        seed,
        layers,
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
    from spikeship.deploy.verbs.export import export as run

    return run(Voice(json, quiet), net, to, output)


@app.command()
def simulate(
    net: Net,
    data: Data,
    on: Annotated[
        Engine | None, typer.Option("--on", help="cpu by default; --device cuda means cuda.")
    ] = None,
    record: Annotated[
        Path | None, typer.Option("--record", help="FILE.npz for every layer's spikes.")
    ] = None,
    membranes: Annotated[
        bool, typer.Option("--membranes", help="Record potentials too, as NAME.v.")
    ] = False,
    num_steps: Steps = None,
    early_exit: Annotated[
        float | None,
        typer.Option("--early-exit", min=0, help="Stop an image whose best class leads by this."),
    ] = None,
    cost_images: Annotated[
        int, typer.Option("--cost-images", min=1, help="Images run on, to say what that costs.")
    ] = 256,
    per_step: Annotated[
        bool, typer.Option("--per-step", help="Layers' counts by chip step, in the JSON.")
    ] = False,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="Of a process; by default its cores.")
    ] = None,
    memory: Annotated[
        float | None, typer.Option("--memory", help="GB the layers in work may take; 2.1.")
    ] = None,
    batch: Annotated[
        int | None, typer.Option("--batch", min=1, help="Images encoded at a time.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Ray processes to share the images.")
    ] = None,
    address: Annotated[
        str | None, typer.Option("--address", metavar="HOST:PORT", help="A Ray cluster to join.")
    ] = None,
    data_dir: DataDir = None,
    limit: Limit = None,
    json: Json = None,
    seed: Seed = 0,
    quiet: Quiet = False,
    device: Device = Where.auto,
) -> int:
    """Run a network in integers: accuracy and counts."""
    from spikeship.deploy.verbs import simulate as simulate_verb

    request = simulate_verb.Request(
        net,
        data,
        data_dir,
        on=simulate_verb.engine(on and on.value, device.value),
        record=record,
        membranes=membranes,
        num_steps=num_steps,
        limit=limit,
        seed=seed,
        running=simulate_verb.running(threads, memory, batch, early_exit),
        cost_images=cost_images,
        workers=workers,
        address=address,
        per_step=per_step,
    )
    return simulate_verb.simulate(Voice(json, quiet), request)


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
    from spikeship.deploy.verbs.predict import predict as run

    return run(Voice(json, quiet), net, source, limit, device.for_integers, seed)


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
    from spikeship.deploy.verbs.verify import verify as run

    return run(Voice(json, quiet), net, against.value, data, data_dir, limit, stall, seed)


app.command()(estimate)
app.command("what-if")(what_if)


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
    int8: Annotated[
        bool, typer.Option("--int8", help="A row of the classifier in int8 on ONNX Runtime.")
    ] = False,
    gpu_result: GpuResult = None,
    data_dir: DataDir = None,
    limit: Limit = None,
    json: Json = None,
    seed: Seed = 0,
    quiet: Quiet = False,
    device: Device = Where.auto,
) -> int:
    """Put every stage's accuracy, the chip's estimate and the GPU's row in one report."""
    from spikeship.deploy.verbs.compare import Contest
    from spikeship.deploy.verbs.compare import compare as run

    request = Contest(
        ann, arch, weights, snn, converted, net, chip.value, lava, report, int8, gpu_result
    )
    return run(Voice(json, quiet), request, data, data_dir, limit, seed)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    # before torch is loaded: large tensors in huge pages, which the kernel hands out faster
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    command: Any = typer.main.get_command(app)

    def run() -> int | None:
        result: int | None = command.main(
            args=arguments, prog_name="spikeship", standalone_mode=False
        )
        return result

    return guarded(run)
