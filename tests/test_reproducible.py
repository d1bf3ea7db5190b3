"""The same command writes the same bytes: no clock, no order of a hash, nothing random."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

DATA = "--data digits --quiet"
# each writes into the folder it runs in
COMMANDS = (
    f"train vgg5 {DATA} --width 0.1 --epochs 1 -n 200 --no-test -o ann.safetensors",
    f"convert ann.safetensors {DATA} -T 4 -n 32 -o snn.nir",
    f"finetune snn.nir {DATA} -T 4 --epochs 1 -n 64 -o tuned.nir",
    "quantize tuned.nir --chip loihi2 --quiet -o net.safetensors --json quantize.json",
    "export net.safetensors --to lava --quiet -o exported",
    f"simulate net.safetensors {DATA} -n 4 --record record.npz",
    f"estimate net.safetensors {DATA} -n 4 --picture cores.svg --json estimate.json",
    f"estimate net.safetensors {DATA} -n 4 --picture cores.png",
    f"what-if net.safetensors {DATA} -n 4 --steps 2,4 --rates 1,2 -o what-if",
    f"compare --ann ann.safetensors --snn tuned.nir --net net.safetensors {DATA} -n 4 "
    "--report report.html",
)
RUN = """
import sys
from spikeship.deploy.cli.app import main
for line in sys.argv[1:]:
    status = main(line.split())
    assert status in (0, 1), f"{line}: {status}"
"""


def written(folder: Path, seed: str) -> dict[str, bytes]:
    """Run all commands in a process of its own; what it wrote, by path in the folder."""
    folder.mkdir()
    subprocess.run(
        [sys.executable, "-c", RUN, *COMMANDS],
        cwd=folder,
        env={**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"},
        check=True,
        timeout=600,
    )
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, bytes], ...]]:
    base = tmp_path_factory.mktemp("twice")
    first = written(base / "first", "1")
    time.sleep(2.1)  # a zip's clock ticks every other second
    yield first, written(base / "second", "2")


def test_files_are_the_same_byte_for_byte(runs: tuple[dict[str, bytes], ...]) -> None:
    first, second = runs
    assert first.keys() == second.keys() and len(first) > 15
    assert [name for name in sorted(first) if first[name] != second[name]] == []
