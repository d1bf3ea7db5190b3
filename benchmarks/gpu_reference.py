"""What the same network costs on conventional hardware: joules and seconds an inference.

``python benchmarks/gpu_reference.py [--json PATH|-]``
``python benchmarks/gpu_reference.py --ann ann.safetensors [--snn net.nir] --data NAME``

The classifier and the float spiking network on CUDA, one image at a time and at the batch of fewest
joules an image, on NVML's energy counter; the same on the CPU where RAPL can be read, and there
also the classifier in int8 on ONNX Runtime. What cannot be measured here is modelled, in rows of
its own that say so. Without ``--ann`` the benchmarks' VGG5, which needs $SPIKESHIP_DATA. See
docs/gpu-reference.md.

A row that fails costs no other one: the notes say which and why. Status 1 where one failed for a
reason that nobody foresaw.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import common
import machine

if TYPE_CHECKING:
    from gpu.reference_subjects import Networks

CALIBRATION = 128  # training images that int8's ranges are observed on


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = common.parser(__doc__)
    parser.add_argument("--ann", type=Path, help=".safetensors of 'spikeship train', or .onnx")
    parser.add_argument("--snn", type=Path, help=".nir of 'spikeship convert' or 'finetune'")
    parser.add_argument("--data", help="the set; by default the benchmarks' own at hand")
    parser.add_argument("--data-dir", type=Path, help="its folder; by default $SPIKESHIP_DATA")
    parser.add_argument("--cache", type=Path, help="folder where the benchmarks' VGG5 is kept")
    parser.add_argument("--images", type=int, default=1000, help="test images for accuracy")
    parser.add_argument("--seconds", type=float, default=10.0, help="of work on a counter")
    parser.add_argument("--seconds-without", type=float, default=3.0, help="where none counts")
    parser.add_argument("--largest-batch", type=int, default=8192, help="not to go beyond on CUDA")
    parser.add_argument("--threads", type=int, default=2, help="cores and threads of the CPU")
    given = parser.parse_args()
    for name in ("images", "largest_batch", "threads"):
        if getattr(given, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    if not 0 < given.seconds_without <= 600:
        parser.error("--seconds-without must be above 0 and at most 600")
    if given.ann is not None and given.data is None:
        parser.error("--ann needs --data, the set it was trained on")
    if given.snn is not None and given.ann is None:
        parser.error("--snn needs --ann, the classifier it was converted from")
    return given


def main() -> int:
    """Measure and print."""
    given = arguments()
    threads = machine.hold_to(given.threads)

    def act(say: common.Say) -> tuple[dict[str, Any], int]:
        result, broken = everything(given, threads, say)
        return result, common.NO if broken else common.DONE

    return common.conclude("gpu_reference", given.json, act, ValueError)


def everything(
    given: argparse.Namespace, threads: int, say: common.Say
) -> tuple[dict[str, Any], bool]:
    """Measure what there is and print the tables; also, whether something broke.

    Raises:
        ValueError: no such network or set, or one that cannot be measured. OSError: the same.
    """
    # what counts the cores is imported after they were held
    import torch
    from gpu.reference_rows import Bench, table

    from spikeship.deploy.analysis.gpu_row import FORMAT
    from spikeship.hw_models.meters.measuring import Timing

    torch.set_num_threads(threads)
    timing = Timing(given.seconds)
    networks = of_files(given) if given.ann else of_benchmarks(given, say)
    computer = machine.described(threads)
    bench = Bench(networks, timing, given.seconds_without, say)
    rows = bench.everything(str(computer["processor"]), given.largest_batch, threads)
    for line in table(rows):
        say(line)
    result = {
        "format": FORMAT,
        "machine": {**computer, "cuda_of_torch": torch.version.cuda},
        "network": {
            "name": networks.name,
            "data": networks.images.data["name"],
            "ann_macs": networks.ann.macs(),
            "num_steps": None if networks.snn is None else networks.snn.num_steps,
            "calibration_images": len(networks.calibration),
        },
        "rows": rows,
        "notes": bench.notes,
    }
    return result, bench.broken


def of_files(given: argparse.Namespace) -> "Networks":
    """The networks that were named."""
    from gpu.reference_subjects import Networks

    from spikeship.deploy.io.classifier import load
    from spikeship.deploy.io.inputs import load_images
    from spikeship.training.nir_io.from_nir import load_nir

    ann = load(given.ann)
    snn = None if given.snn is None else load_nir(given.snn)
    wanted = {"like": ann.data, "input_shape": ann.network.input_shape}
    images = load_images(given.data, given.data_dir, limit=given.images, **wanted)
    some = load_images(given.data, given.data_dir, split="train", limit=CALIBRATION, **wanted)
    return Networks(ann, snn, images.first(given.images), some.values[:], given.ann.name)


def of_benchmarks(given: argparse.Namespace, say: common.Say) -> "Networks":
    """The benchmarks' VGG5."""
    from gpu.reference_subjects import Networks
    from speed import trained

    cache = given.cache or trained.default_cache()
    found = trained.trained(trained.find_set(given.data), cache, say)
    some = found.calibration.values[:CALIBRATION]
    return Networks(found.ann, found.snn, found.held_out.first(given.images), some, trained.ARCH)


if __name__ == "__main__":
    sys.exit(main())
