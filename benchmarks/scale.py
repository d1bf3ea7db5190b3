"""What a simulation costs against T, batch, width and depth, and its memory against the batch.

``python benchmarks/scale.py [--json PATH|-] [--plot DIR] [--quick]``

Every row is a run in a process of its own, so that its peak memory is its own too: after one turn
that warms up, the middle of three counts. T and batch are varied on the trained VGG5 of
``simulator.py``; width and depth, up to VGG16 at T = 100 and ResNet34 on 224 x 224, on networks
with initial weights whose thresholds are balanced on real images (``speed/untrained.py``). Images
are those of $SPIKESHIP_DATA, for 224 x 224 enlarged.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import common
import machine

THREADS = 2
ROUNDS = 3
SEED = 0
BALANCED_ON = 8  # training images; 2 of 224 x 224
LARGE = 224


@dataclass(frozen=True)
class Case:
    """A run.

    Attributes:
        axis: what it is compared along.
        arch: the architecture. width: factor on its hidden channels and units.
        side: of its images.
        num_steps: T. batch: images of one call.
        trained: whether its weights are trained ones.
    """

    axis: str
    arch: str = "vgg5"
    width: float = 1.0
    side: int = 32
    num_steps: int = 75
    batch: int = 32
    trained: bool = False

    @property
    def network(self) -> tuple[Any, ...]:
        """What tells its network from others."""
        if self.trained:
            return ("trained",)
        return (self.arch, self.width, self.side, self.num_steps)


CASES = (
    *(Case("steps", num_steps=steps, trained=True) for steps in (5, 10, 25, 50, 75, 100)),
    *(Case("batch", batch=batch, trained=True) for batch in (1, 4, 16, 64, 256)),
    *(Case("width", width=width) for width in (0.25, 0.5, 0.75, 1.0)),
    *(Case("depth", arch=arch) for arch in ("vgg5", "vgg9", "vgg16")),
    Case("large", arch="vgg16", num_steps=100),
    *(Case("large", arch="resnet34", side=LARGE, num_steps=t, batch=4) for t in (2, 4)),
)
QUICK = (
    *(Case("steps", num_steps=steps, batch=4, trained=True) for steps in (5, 25)),
    *(Case("batch", num_steps=25, batch=batch, trained=True) for batch in (1, 8)),
    *(Case("width", width=width, num_steps=25, batch=4) for width in (0.25, 0.5)),
    *(Case("depth", arch=arch, width=0.25, num_steps=25, batch=4) for arch in ("vgg5", "vgg9")),
)


def main() -> int:
    """Run the rows and print them."""
    parser = common.parser(__doc__)
    parser.add_argument("--plot", type=Path, metavar="DIR", help="write figures")
    parser.add_argument("--quick", action="store_true", help="a few small rows")
    parser.add_argument("--threads", type=int, default=THREADS, help="cores and threads")
    parser.add_argument("--data", help="cifar10 or fashion-mnist; by default the one at hand")
    parser.add_argument("--cache", type=Path, help="folder where the trained network is kept")
    parser.add_argument("--row", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.threads < 1:
        parser.error(f"--threads must be at least 1, got {given.threads}")
    threads = machine.hold_to(given.threads)
    if given.row:
        print(json.dumps(one_run(Path(given.row[0]), Path(given.row[1]), threads)))
        return 0

    def act(say: common.Say) -> tuple[dict[str, Any], int]:
        result = measured(QUICK if given.quick else CASES, threads, given.data, given.cache, say)
        if given.plot:
            from speed.scale_figures import draw

            draw(result["rows"], given.plot)
        return result, common.DONE

    return common.conclude("scale", given.json, act)


def measured(
    cases: tuple[Case, ...],
    threads: int,
    data: str | None,
    cache: Path | None,
    say: common.Say,
) -> dict[str, Any]:
    """Make each network once and run its cases, each in a process of its own.

    Raises:
        DataError: there are no images.
    """
    from speed.trained import default_cache, find_set, trained

    from spikeship.deploy.io import network_file as files

    base = trained(find_set(data), cache or default_cache(), say)
    rows = []
    with tempfile.TemporaryDirectory(prefix="spikeship-benchmark-") as folder:
        net, inputs = Path(folder) / "net.safetensors", Path(folder) / "messages.npy"
        made: tuple[Any, ...] | None = None
        for case in sorted(cases, key=lambda case: [str(part) for part in case.network]):
            if case.network != made:
                graph = base.graph if case.trained else _initial(case, base)
                files.save(graph, net)
                made = case.network
            _write_messages(graph, base, case, inputs)
            rows.append(asdict(case) | _in_a_process(net, inputs, threads))
            say(_line(rows[-1]))
    rows.sort(key=lambda row: [asdict(case) for case in cases].index(_case_of(row)))
    return {
        "data": base.held_out.data["name"],
        "rows": rows,
        "threads": threads,
        "machine": machine.described(threads),
    }


def _case_of(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in Case.__dataclass_fields__}


def _line(row: dict[str, Any]) -> str:
    return (
        f"{row['axis']:6} {row['arch']:8} width {row['width']:<4} side {row['side']:3} "
        f"T {row['num_steps']:3} batch {row['batch']:3}  {row['seconds_per_image']:8.4f} s/image  "
        f"peak {row['peak_bytes'] / 1e9:5.2f} GB  activity {row['activity']:.1%}"
    )


def _sized(values: Any, side: int) -> Any:
    """Images of this side, enlarged where they are smaller."""
    from torch.nn import functional

    if values.shape[-1] == side:
        return values
    return functional.interpolate(values, size=(side, side), mode="bilinear", align_corners=False)


def _initial(case: Case, base: Any) -> Any:
    from speed.untrained import untrained

    count = BALANCED_ON if case.side < LARGE else BALANCED_ON // 4
    images = _sized(base.calibration.values[:count], case.side)
    classes = 10 if case.side < LARGE else 1000
    return untrained(case.arch, images, num_steps=case.num_steps, classes=classes, width=case.width)


def _write_messages(graph: Any, base: Any, case: Case, path: Path) -> None:
    import numpy as np

    from spikeship.deploy.io.inputs import coding_of
    from spikeship.training.snn.encoding import encode

    images = _sized(base.held_out.values[: case.batch], case.side)
    messages = encode(images, coding_of(graph), case.num_steps, seed=SEED)
    np.save(path, np.ascontiguousarray(messages.numpy()))


def _in_a_process(net: Path, inputs: Path, threads: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--threads", str(threads), "--row", str(net), str(inputs)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def one_run(net: Path, inputs: Path, threads: int) -> dict[str, Any]:
    """Run messages through a network, here; see the module.

    Returns:
        seconds_per_image, when everything is ready; ready_s, which that takes, the first image
        included; peak_bytes of this process, before_bytes of it when it was ready; activity and
        synops_per_image.
    """
    import numpy as np
    import torch
    from speed import spikes

    from spikeship.deploy.io import network_file as files
    from spikeship.hw_models.simulator.simulation import merged
    from spikeship.hw_models.simulator.simulator import Simulator

    torch.set_num_threads(threads)
    graph, messages = files.load(net), np.load(inputs)
    began = time.perf_counter()
    simulator = Simulator(graph, threads=threads)
    merged(list(simulator.runs(messages[:1])))
    ready = time.perf_counter() - began
    before = machine.resident_bytes()
    merged(list(simulator.runs(messages)))
    machine.forget_peak()
    seconds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        result = merged(list(simulator.runs(messages)))
        seconds.append(time.perf_counter() - began)
    found = spikes.activity(graph, result.counts)
    return {
        "seconds_per_image": statistics.median(seconds) / len(messages),
        "ready_s": ready,
        "peak_bytes": machine.peak_bytes(),
        "before_bytes": before,
        "activity": found["total"],
        "synops_per_image": found["synops_per_image"],
    }


if __name__ == "__main__":
    sys.exit(main())
