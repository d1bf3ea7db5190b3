"""The paper's table, row by row, on real data: train, and write down what came out.

``python benchmarks/paper_table.py ROW [--work DIR]`` runs a row's stages with the recipe in
benchmarks/rows/ROW.toml, as a user would with the command line, and writes
benchmarks/results/ROW.json. Killed at any moment, the same command goes on where it was.
``--list`` says which rows there are and what is done. Needs $SPIKESHIP_DATA.

``--choose [--set OPTION=VALUE …]`` trains with 5,000 training images put aside, tries a recipe on
them, and adds a line to benchmarks/results/choices.json; test images are not read. A stage's
accuracy comes from the test set, which is read once, when the stage ends: what is done is not
done again unless its file is deleted.

A stage ``ann`` is {accuracy, correct, images, epochs, seconds, parameters, command, sha256}.
"""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import common
import machine
from safetensors import safe_open

HERE = Path(__file__).parent
ROWS, RESULTS = HERE / "rows", HERE / "results"
CHOICES = RESULTS / "choices.json"
PUT_ASIDE = 5000
THREADS = 2
Json = dict[str, Any]


class TableError(common.UnusableError):
    """A row that cannot be run, in one line."""


def rows() -> list[str]:
    """Names of all rows: the paper's in its order, then ours."""
    found = {path.stem: recipe(path.stem) for path in ROWS.glob("*.toml")}
    return sorted(found, key=lambda name: found[name]["place"])


def recipe(row: str) -> Json:
    """What benchmarks/rows/ROW.toml says.

    Raises:
        TableError: there is no such row.
    """
    path = ROWS / f"{row}.toml"
    if not path.is_file():
        known = ", ".join(sorted(path.stem for path in ROWS.glob("*.toml")))
        raise TableError(f"row {row!r} is not known; use one of {known}")
    return tomllib.loads(path.read_text())


def result(row: str) -> Json:
    """What is written down of a row so far; an empty object where nothing is."""
    path = RESULTS / f"{row}.json"
    found: Json = json.loads(path.read_text()) if path.is_file() else {}
    return found


def train_command(said: Json, output: str, changes: Json) -> list[str]:
    """The command of a row's stage ``ann``.

    Args:
        said: the row's recipe.
        output: file of the network.
        changes: options other than the recipe's.
    """
    words = ["spikeship", "train", said["arch"], "--data", said["data"]]
    for name, value in {**said["ann"], **changes}.items():
        if value is True:
            words.append(f"--{name}")
        elif value is False:
            words.append(f"--no-{name}")
        else:
            words += [f"--{name}", str(value)]
    return [*words, "-o", output]


def run(command: list[str], folder: Path, *more: str) -> Json:
    """Run a command of the toolkit in a folder; return its JSON object.

    Raises:
        TableError: it failed.
    """
    here = Path(sys.executable).with_name("spikeship")
    said = folder / "said.json"
    environment = {**os.environ, "SPIKESHIP_DATA": str(_data())}
    words = [str(here), *command[1:], "--json", str(said.name), *more]
    done = subprocess.run(words, cwd=folder, env=environment, check=False)
    if done.returncode:
        raise TableError(f"{shlex.join(command)}: ended with {done.returncode}; see above")
    found: Json = json.loads(said.read_text())
    return found


def train(row: str, work: Path, *, seed: int, quiet: bool) -> Json:
    """Do a row's stage ``ann``; return what is written down of it."""
    folder = work / row
    folder.mkdir(parents=True, exist_ok=True)
    said = recipe(row)
    command = train_command(said, "ann.safetensors", {"seed": seed})
    revisions = _revisions(folder)
    found = run(command, folder, *(["--quiet"] if quiet else []))
    network = folder / "ann.safetensors"
    with safe_open(network, framework="pt") as file:
        sha256 = json.loads(file.metadata()["spikeship"])["sha256"]
    if said.get("keep"):
        (RESULTS / "networks").mkdir(parents=True, exist_ok=True)
        shutil.copyfile(network, RESULTS / "networks" / f"{row}.ann.safetensors")
    kept = ("accuracy", "correct", "images", "epochs", "seconds", "parameters")
    return {
        **{name: found[name] for name in kept},
        "train_accuracy": found["train_accuracy"],
        "command": shlex.join(command),
        "seed": seed,
        "sha256": sha256,
        "revisions": revisions,
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine.described(THREADS),
    }


def choose(row: str, work: Path, changes: Json, *, seed: int, quiet: bool) -> Json:
    """Try a recipe on training images put aside; return what is written down of it."""
    said = recipe(row)
    name = "-".join([row, *(f"{key}={value}" for key, value in changes.items()), f"seed={seed}"])
    folder = work / "choices" / name
    folder.mkdir(parents=True, exist_ok=True)
    aside: Json = {**changes, "seed": seed, "validation": PUT_ASIDE, "test": False}
    command = train_command(said, "ann.safetensors", aside)
    revisions = _revisions(folder)
    found = run(command, folder, *(["--quiet"] if quiet else []))
    return {
        "row": row,
        "command": shlex.join(command),
        "validation_accuracy": found["validation_accuracy"],
        "images": PUT_ASIDE,
        "epochs": found["epochs"],
        "seconds": found["seconds"],
        "revisions": revisions,
        "date": datetime.now(UTC).date().isoformat(),
    }


def _revisions(folder: Path) -> list[str]:
    """Revisions of this repository that took part in a run, in order, the one now the last."""
    path = folder / "revisions.json"
    found: list[str] = json.loads(path.read_text()) if path.is_file() else []
    git = ["git", "-C", str(HERE)]
    now = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    changed = subprocess.run(
        [*git, "status", "--porcelain", "--untracked-files=no", "--", ".."],
        capture_output=True,
        text=True,
        check=True,
    )
    revision = now.stdout.strip() + ("+changes" if changed.stdout.strip() else "")
    if revision not in found[-1:]:
        found.append(revision)
        path.write_text(json.dumps(found) + "\n")
    return found


def _data() -> Path:
    folder = os.environ.get("SPIKESHIP_DATA")
    if not folder:
        raise TableError("set SPIKESHIP_DATA to the folder that holds the data sets")
    return Path(folder).resolve()


def _listed(say: common.Say) -> None:
    for row in rows():
        stages = result(row).get("stages", {})
        said = ", ".join(f"{name} {stage['accuracy']:.2%}" for name, stage in stages.items())
        say(f"{row:24}{said or 'not run'}")


def main() -> int:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("row", nargs="?")
    parser.add_argument("--list", action="store_true", help="say what there is, and what is done")
    parser.add_argument("--work", type=Path, default=Path("paper-table-out"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--choose", action="store_true", help="try on images put aside")
    parser.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE")
    parser.add_argument("--quiet", action="store_true")
    arguments = parser.parse_args()
    return common.conclude("paper_table", None, lambda say: (None, _asked(arguments, say)))


def _asked(arguments: argparse.Namespace, say: common.Say) -> int:
    if arguments.list or arguments.row is None:
        _listed(say)
        return common.DONE
    machine.hold_to(THREADS)
    # threads that wait must not take the cores from others
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    row, options = arguments.row, {"seed": arguments.seed, "quiet": arguments.quiet}
    if arguments.set and not arguments.choose:
        raise TableError("--set is for --choose; a row is run as its recipe says")
    if arguments.choose:
        pairs = dict(pair.split("=", 1) for pair in arguments.set)
        switches = {"true": True, "false": False}
        changes = {name: switches.get(value, value) for name, value in pairs.items()}
        tried = choose(row, arguments.work, changes, **options)
        known = json.loads(CHOICES.read_text()) if CHOICES.is_file() else []
        common.write(CHOICES, [*known, tried])
        say(f"{row}: {tried['validation_accuracy']:.2%} of {PUT_ASIDE} images put aside")
        return common.DONE
    written = result(row) or {"row": row, "stages": {}}
    if "ann" not in written["stages"]:
        written["stages"]["ann"] = train(row, arguments.work, **options)
        common.write(RESULTS / f"{row}.json", written)
    for name, stage in written["stages"].items():
        said = f"{stage['accuracy']:.2%} of {stage['images']} test images"
        say(f"{row}: {name} {said} in {stage['seconds']:.0f} s")
    return common.DONE


if __name__ == "__main__":
    sys.exit(main())
