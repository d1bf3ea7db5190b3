"""The documented recipe, from no network at all to Loihi integers, on all of Fashion-MNIST.

``python benchmarks/recipe.py [--out DIR] [--json PATH|-] [--limit N]``

Runs the commands of docs/convert-and-fine-tune.md one after the other, as a user would type them,
and prints what each stage is worth on the test images. What a run has already written is not made
again, and an interrupted training goes on where it was. Needs $SPIKESHIP_DATA.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import common

COMMANDS = r"""
spikeship train vgg5 --paper --data fashion-mnist --width 0.25 --activation qcfs:4 \
    --epochs 12 --lr 0.02 --schedule cosine --validation 2000 -o ann.safetensors
spikeship convert ann.safetensors --data fashion-mnist \
    --balance analytic --encoding direct -T 4 -o snn.nir
spikeship finetune snn.nir --data fashion-mnist --teacher ann.safetensors --distill 0.9 \
    --epochs 1 --lr 2e-5 --schedule cosine -o hybrid.nir
spikeship finetune hybrid.nir --data fashion-mnist --teacher ann.safetensors --distill 0.9 \
    --epochs 1 --lr 1e-5 --schedule cosine --weight-bits 8 -n 20000 -o tuned.nir
spikeship quantize tuned.nir --chip loihi2 --weight-bits 8 -o net.safetensors
spikeship compare --ann ann.safetensors --converted snn.nir --snn hybrid.nir \
    --net net.safetensors --data fashion-mnist --report report.html
"""


def commands() -> list[str]:
    """The recipe's commands, one a line."""
    return COMMANDS.replace("\\\n", "").strip().splitlines()


def output(command: str) -> str:
    """File that a command writes."""
    words = shlex.split(command)
    return words[words.index("-o" if "-o" in words else "--report") + 1]


def main() -> int:
    """Run the recipe and print its table."""
    parser = common.parser(__doc__)
    parser.add_argument("--out", type=Path, default=Path("recipe-out"))
    parser.add_argument("--limit", type=int, help="only the first so many images everywhere")
    arguments = parser.parse_args()
    return common.conclude("recipe", arguments.json, lambda say: everything(arguments, say))


def everything(arguments: argparse.Namespace, say: common.Say) -> tuple[Any, int]:
    """Run the commands; return the rows and seconds, or the status of the command that failed.

    Raises:
        UnusableError: it is not said where the images are.
    """
    if not os.environ.get("SPIKESHIP_DATA"):
        raise common.UnusableError("set SPIKESHIP_DATA to the folder that holds fashion-mnist")
    arguments.out.mkdir(parents=True, exist_ok=True)
    seconds: dict[str, float] = {}
    for command in commands():
        words = shlex.split(command)
        verb, made = words[1], output(command)
        if verb != "compare" and (arguments.out / made).exists():
            continue
        say(f"$ {' '.join(words)}")
        began = time.perf_counter()
        program = str(Path(sys.executable).with_name(words[0]))
        extra = ["-n", str(arguments.limit)] if arguments.limit and verb != "quantize" else []
        said = ["--json", f"{verb}-{Path(made).stem}.json"]
        done = subprocess.run(
            [program, *words[1:], *extra, *said],
            cwd=arguments.out,
            stdout=subprocess.DEVNULL if arguments.json == "-" else None,
            check=False,
        )
        if done.returncode:
            return None, done.returncode
        seconds[made] = time.perf_counter() - began
    result: dict[str, Any] = json.loads((arguments.out / "compare-report.json").read_text())
    rows = [
        {key: row[key] for key in ("stage", "accuracy", "correct", "images", "num_steps")}
        for row in result["rows"]
    ]
    for row in rows:
        say(f"{row['stage']:10} {row['correct']:6} of {row['images']}  {row['accuracy']:.2%}")
    say("  ".join(f"{name} {spent:.0f} s" for name, spent in seconds.items()))
    return {"rows": rows, "seconds": seconds}, common.DONE


if __name__ == "__main__":
    sys.exit(main())
