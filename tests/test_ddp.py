"""Two processes that train one network: as one process does, and resumable like it."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import ddp_runs
import pytest
import torch
from torch import nn
from training_runs import LABELS, config, loss, model, noisy

from spikeship.training.fit.loop import fit
from spikeship.training.fit.processes import shared_statistics

Results = list[dict[str, Any]]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Results, str]:
    """Folder, what came of each process, and what they said."""
    folder = tmp_path_factory.mktemp("two")
    fit(model(), noisy, LABELS, config(), loss, state_path=folder / "alone", quiet=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    command += [f"--master-port={port}", ddp_runs.__file__, str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    results = [torch.load(folder / f"results{rank}", weights_only=True) for rank in (0, 1)]
    return folder, results, done.stdout + done.stderr


@pytest.mark.parametrize("kind", ["curve", "spiking"])
def test_two_processes_train_as_one_does(
    ran: tuple[Path, Results, str], tmp_path: Path, kind: str
) -> None:
    _, (first, second), _ = ran
    alone = ddp_runs.curve(tmp_path) if kind == "curve" else ddp_runs.spiking()
    for (mean, right), (wanted, wanted_right) in zip(
        first[kind]["curve"], alone["curve"], strict=True
    ):
        assert mean == pytest.approx(wanted, rel=1e-5)
        assert right == wanted_right
    assert first[kind]["curve"] == second[kind]["curve"]
    for name, value in alone["weights"].items():
        torch.testing.assert_close(first[kind]["weights"][name], value, rtol=1e-4, atol=1e-6)
        assert torch.equal(first[kind]["weights"][name], second[kind]["weights"][name])


def test_each_batch_is_split(ran: tuple[Path, Results, str], tmp_path: Path) -> None:
    _, (first, second), _ = ran
    alone = ddp_runs.curve(tmp_path)["seen"]
    parts = zip(first["curve"]["seen"], second["curve"]["seen"], alone, strict=True)
    for step, (one, other, whole) in enumerate(parts):
        if step % 4 == 3:
            # a batch of one: the second process has nothing to add, but must take part
            assert one == other == whole
        else:
            assert one + other == whole
            assert len(one) == len(other) == 8


def test_processes_draw_for_themselves_and_resume_with_the_same_bits(
    ran: tuple[Path, Results, str],
) -> None:
    _, (first, second), _ = ran
    assert not torch.isclose(first["whole"]["noise"], second["whole"]["noise"], rtol=1e-3).any()
    for results in (first, second):
        assert results["resumed"]["curve"] == first["whole"]["curve"]
        for name, value in first["whole"]["weights"].items():
            assert torch.equal(results["resumed"]["weights"][name], value)
            assert torch.equal(results["whole"]["weights"][name], value)


def test_only_the_first_process_writes_and_speaks(ran: tuple[Path, Results, str]) -> None:
    folder, (first, second), said = ran
    assert {path.name for path in folder.iterdir()} == {
        *("alone", "curve0", "logs0", "whole", "stopped", "results0", "results1")
    }
    assert said.count("epoch 4/4") == 1
    assert (first["whole"]["asked"], second["whole"]["asked"]) == ([0] * 4, [])


def test_a_state_of_one_process_is_refused_by_two(ran: tuple[Path, Results, str]) -> None:
    _, results, _ = ran
    for each in results:
        assert "differs in processes" in each["refused"]
        assert "\n" not in each["refused"]


def test_batch_norm_is_itself_again_after_sharing() -> None:
    network = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.Flatten(), nn.BatchNorm1d(12))
    kept, names = network[1], set(vars(network[1]))
    with shared_statistics(network):
        assert [type(network[place]) for place in (1, 3)] == [nn.SyncBatchNorm] * 2
        assert isinstance(kept, nn.SyncBatchNorm)
        x = torch.randn(4, 2, 2, 2)
        shared = network.eval()(x)
    assert [type(network[place]) for place in (1, 3)] == [nn.BatchNorm2d, nn.BatchNorm1d]
    assert set(vars(network[1])) == names
    assert torch.equal(network(x), shared)
