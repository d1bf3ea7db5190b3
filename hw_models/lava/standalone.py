"""Run an exported network on Lava: ``python run.py messages.npy -o activity.npz``.

``messages.npy`` holds integers (images, steps, *input shape) in torch's axis order (channel, y, x);
``activity.npz`` gets one array a node, (images, steps + drain, *shape): spikes, graded messages or
the readout's potential. In the exported directory this file is called ``run.py``.
"""

import argparse
import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeship.hw_models.lava import compat
from spikeship.hw_models.lava.axes import from_lava, to_lava


def run(folder: Path, messages: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Run messages through the plan in ``folder`` and return every node's activity by name."""
    compat.install()
    from spikeship.hw_models.lava.network import LavaNetwork, read_plan

    plan = read_plan(Path(folder) / "plan.npz")
    shape = tuple(plan["input"]["torch_shape"])
    if messages.ndim != 2 + len(shape) or messages.shape[2:] != shape:
        raise SystemExit(f"messages: shape {messages.shape}, expected (images, steps, *{shape})")
    if messages.dtype.kind not in "iub":
        raise SystemExit(f"messages must be integers, got {messages.dtype}")
    images, given = messages.shape[:2]
    if plan["staged_steps"] and given != plan["staged_steps"][0]:
        raise SystemExit(f"messages have {given} steps, expected {plan['staged_steps'][0]}")
    num_steps = plan["num_steps"] if plan["staged_steps"] else given
    if messages.size == 0:
        raise SystemExit("messages hold no images or no steps")
    low = -plan["input"]["max_message"] if plan["input"]["signed"] else 0
    if messages.min() < low or messages.max() > plan["input"]["max_message"]:
        raise SystemExit(f"messages must lie in {low}..{plan['input']['max_message']}")
    if not plan["gated"] and not plan["staged_steps"] and images > 1:
        raise SystemExit("this network has no gate: run one image at a time")
    total = images * (plan["staged_steps"] or [given, given + plan["drain"]])[1]
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "messages.npy"
        np.save(path, to_lava(messages, shape).reshape(images * given, -1).astype(np.int32))
        records = {}
        for i, node in enumerate(plan["nodes"]):
            records[node["name"]] = Path(scratch) / f"record{i}.npy"
            np.lib.format.open_memmap(
                records[node["name"]],
                mode="w+",
                dtype=node["record"],
                shape=(total, int(np.prod(node["shape"]))),
            )
        network = LavaNetwork(plan, path, num_steps, records)
        network.run(images)
        network.stop()
        return {
            node["name"]: from_lava(
                np.load(records[node["name"]]).reshape(images, total // images, -1),
                tuple(node["torch_shape"]),
            )
            for node in plan["nodes"]
        }


def main() -> None:
    """Read the arguments, run, write the activity (to a temporary name first, then renamed)."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("messages", help="an .npy file of integers (images, steps, *input shape)")
    parser.add_argument("-o", "--output", default="activity.npz")
    options = parser.parse_args()
    try:
        messages = np.load(options.messages, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise SystemExit(f"{options.messages}: {error}") from None
    activity = run(Path(__file__).parent, messages)
    temporary = f"{options.output}.tmp.npz"
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, values in activity.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, values, allow_pickle=False)
    os.replace(temporary, options.output)


if __name__ == "__main__":
    main()
