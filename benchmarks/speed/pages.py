"""Tables of recorded benchmark runs, written into docs/simulator-speed.md.

``python benchmarks/speed/pages.py`` reads docs/measured/simulator.json and scale.json, as
``simulator.py --full --json`` and ``scale.py --json`` wrote them, and puts a table between each
pair of marks in the page; nobody types a number.
"""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[2] / "docs"
PAGE, MEASURED = DOCS / "simulator-speed.md", DOCS / "measured"
ENGINES = {
    "lava": "lava-nc, {chip_steps} steps alone",
    "reference": "our reference",
    "spikingjelly": "SpikingJelly, float32",
    "spikingjelly_bfloat16": "SpikingJelly, bfloat16",
    "T_dense_forwards": "{num_steps} dense float32 forward passes of the ANN",
    "spikeship": "our simulator",
}

Json = dict[str, Any]


def machine(result: Json) -> str:
    """Say what it ran on and on which data."""
    found, network = result["machine"], result["network"]
    return (
        f"{found['processor']}, {result['threads']} threads, {found['memory_gb']:.0f} GB; "
        f"Python {found['python']}, torch {found['torch']}, numba {found['numba']}, lava-nc "
        f"{found['lava-nc']}, SpikingJelly {found['spikingjelly']}. VGG5 on {network['data']}: "
        f"the ANN gets {network['ann_accuracy']:.1%} of 1,000 test images right, the integers "
        f"{network['accuracy']:.1%} of the {result['images']} timed."
    )


def engines(result: Json) -> str:
    """Seconds an image of every engine, and how many times ours."""
    seconds = dict(result["seconds_per_image"])
    seconds["spikingjelly_bfloat16"] = result["spikingjelly_bfloat16_s"]
    seconds["T_dense_forwards"] = result["num_steps"] * result["dense_f32_forward_s"]
    rows = [
        [
            said.format(**result),
            f"{seconds[name]:.4g}",
            f"{seconds[name] / seconds['spikeship']:,.4g}",
        ]
        for name, said in ENGINES.items()
    ]
    return _table(["engine", "seconds an image", "times ours"], rows)


def activity(result: Json) -> str:
    """How often the neurons of each layer fire, and met a rail."""
    found = result["activity"]
    rows = [["input", f"{found['input']:.1%}", ""]]
    steps = result["num_steps"] * result["images"]
    for name, rate in found["layers"].items():
        lower, upper = (met / (steps * result["neurons"][name]) for met in result["rails"][name])
        rows.append([f"`{name}`", f"{rate:.1%}", f"{lower:.1%} / {upper:.1%}"])
    rows.append(["all neurons", f"{found['total']:.1%}", ""])
    return _table(["layer", "spikes per neuron and step", "at the lower / upper rail"], rows)


def full(result: Json) -> str:
    """Whole test sets."""
    rows = [
        [
            name.upper(),
            f"{run['images']:,}",
            str(run["num_steps"]),
            f"{run['seconds']:,.0f} s",
            f"{run['peak_bytes'] / 1e9:.2f} GB",
            f"{run['activity']['total']:.1%}",
            f"{run['accuracy']:.2%}" if "weights" not in run else "untrained",
        ]
        for name, run in result["full"].items()
    ]
    heads = ["network", "images", "T", "time", "peak memory", "activity", "accuracy"]
    return _table(heads, rows)


def scale(result: Json) -> str:
    """Every row of the scaling run."""
    rows = [
        [
            row["arch"].upper() + (", trained" if row["trained"] else ""),
            f"{row['width']:g}",
            f"{row['side']} x {row['side']}",
            str(row["num_steps"]),
            str(row["batch"]),
            f"{1000 * row['seconds_per_image']:,.3g}",
            f"{row['peak_bytes'] / 1e9:.2f}",
            f"{row['activity']:.1%}",
        ]
        for row in result["rows"]
    ]
    heads = ["network", "width", "image", "T", "batch", "ms an image", "peak GB", "activity"]
    return _table(heads, rows)


SECTIONS: dict[str, tuple[str, Callable[[Json], str]]] = {
    "machine": ("simulator", machine),
    "engines": ("simulator", engines),
    "activity": ("simulator", activity),
    "full": ("simulator", full),
    "scale": ("scale", scale),
}


def filled(page: str, measured: Path) -> str:
    """The page with every section as the recorded runs have it.

    Raises:
        ValueError: a section whose marks are not in the page.
    """
    for name, (file, say) in SECTIONS.items():
        text = say(json.loads((measured / f"{file}.json").read_text()))
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
        page, count = pattern.subn(lambda _, new=f"{begin}\n{text}\n{end}": new, page)
        if count != 1:
            raise ValueError(f"the page has {count} sections {begin}; give it one")
    return page


def _table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> int:
    """Write the page."""
    PAGE.write_text(filled(PAGE.read_text(), MEASURED))
    return 0


if __name__ == "__main__":
    sys.exit(main())
