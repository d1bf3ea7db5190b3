"""Runs that are killed at any moment and go on: the same bits, the same metrics, no leftovers."""

import csv
import multiprocessing
import random
import signal
import struct
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from spiking import chain, images
from training_runs import LABELS, announced, config, killable, killed_in, loss, model, noisy

from spikeship.training.conversion.convert import convert
from spikeship.training.data.augment import Variation, vary
from spikeship.training.finetuning.stdb import finetune
from spikeship.training.fit.config import EpochMetrics, FitError
from spikeship.training.fit.loop import fit
from spikeship.training.fit.progress import MetricsLog
from spikeship.training.fit.state import TrainingState, load_state
from spikeship.training.snn.spiking_network import SpikingNetwork

SETTINGS = {"epochs": 5, "batch_size": 3, "checkpoint_every": 2, "optimizer": "adam"}

# processes forked from one that has imported the loop, but has not started any thread
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["spikeship.training.fit.loop"])


def _equal(one: TrainingState, other: TrainingState) -> None:
    for part in ("model", "best"):
        a, b = getattr(one, part), getattr(other, part)
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a)
    assert one.optimizer.keys() == other.optimizer.keys()
    for index, values in one.optimizer.items():
        assert all(torch.equal(values[key], other.optimizer[index][key]) for key in values)
    metrics = [
        [{key: value for key, value in entry.items() if key != "seconds"} for entry in each]
        for each in (one.history, other.history)
    ]
    assert metrics[0] == metrics[1]
    assert (one.step, other.step) == (0, 0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> TrainingState:
    """The state after a run that nobody interrupted."""
    path = tmp_path_factory.mktemp("whole") / "state"
    history = killable(path, SETTINGS)
    qualities = [entry.validation or 0.0 for entry in history]
    assert qualities.index(max(qualities)) == 1
    return load_state(path)


def _start(target: Callable[..., None], *arguments: Any) -> ForkServerProcess:
    process = CONTEXT.Process(target=target, args=arguments)
    process.start()
    return process


def _rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def _events(folder: Path) -> dict[str, dict[int, list[float]]]:
    """What TensorBoard would show: of each name the values at each step."""
    from tensorboardX.proto.event_pb2 import Event

    found: dict[str, dict[int, list[float]]] = {}
    for path in folder.glob("events.out.tfevents.*"):
        content = path.read_bytes()
        while content:
            # a record is its length, a checksum of that, itself, a checksum of it
            (length,) = struct.unpack("<Q", content[:8])
            event = Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]
            for value in event.summary.value:
                found.setdefault(value.tag, {}).setdefault(event.step, []).append(
                    value.simple_value
                )
    return found


def test_runs_killed_at_random_moments_end_with_the_same_bits(
    whole: TrainingState, tmp_path: Path
) -> None:
    path, folder = tmp_path / "state", tmp_path / "logs"
    settings = SETTINGS | {"log_dir": str(folder)}
    moments = random.Random(7)
    killed, reached = 0, set()
    # until it was killed often and got through some epochs, however busy this machine is
    while killed < 8 or (len({epochs for epochs, _ in reached}) < 3 and killed < 40):
        started = CONTEXT.Event()
        # 85 steps of 10 ms and more, and a write every other one
        process = _start(announced, started, path, settings, 0.01)
        assert started.wait(60)
        process.join(moments.uniform(0.0, 0.25 * (1 + killed / 10)))
        if process.exitcode is not None:
            break
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        killed += 1
        if path.exists():
            state = load_state(path)
            reached.add((len(state.history), state.step))
    assert killed >= 4
    assert any(step for _, step in reached)
    history = killable(path, settings)
    _equal(load_state(path), whole)
    assert not list(tmp_path.glob(".spikeship-*"))
    # every epoch once, in both
    rows, events = _rows(folder), _events(folder)
    assert [int(row["step"]) for row in rows] == [1, 2, 3, 4, 5]
    assert [float(row["loss"]) for row in rows] == [entry.loss for entry in history]
    assert [float(row["validation"]) for row in rows] == [entry.validation for entry in history]
    for name in ("loss", "accuracy", "validation", "learning_rate", "seconds"):
        assert list(events[name]) == [1, 2, 3, 4, 5]
        assert all(len(values) == 1 for values in events[name].values())
    assert events["loss"][3] == [pytest.approx(history[2].loss, rel=1e-6)]


@pytest.mark.parametrize("place", ["content", "renaming"])
def test_a_run_killed_while_it_writes_goes_on_from_the_state_before(
    whole: TrainingState, tmp_path: Path, place: str
) -> None:
    path = tmp_path / "state"
    # an epoch has 17 steps, so 8 writes and one at its end
    for write, reached in ((1, None), (5, (0, 8)), (4, (0, 14)), (4, (1, 2))):
        process = _start(killed_in, place, write, path, SETTINGS)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert list(tmp_path.glob(".spikeship-*"))
        assert path.exists() == (reached is not None)
        if reached is not None:
            state = load_state(path)
            assert (len(state.history), state.step) == reached
    killable(path, SETTINGS)
    _equal(load_state(path), whole)
    assert list(tmp_path.iterdir()) == [path]


def _stopped(path: Path, steps: int, **changes: Any) -> None:
    """Run until a step and stop there."""
    # a run with a state is first asked for some images to know it by
    done = -1

    def images_of(indices: torch.Tensor) -> torch.Tensor:
        nonlocal done
        if done == steps:
            raise KeyboardInterrupt
        done += 1
        return noisy(indices)

    with pytest.raises(KeyboardInterrupt):
        fit(model(), images_of, LABELS, config(**changes), loss, state_path=path, quiet=True)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("stop", [1, 2, 3, 4, 5, 9, 15])
def test_every_step_can_be_the_last_one(tmp_path: Path, optimizer: str, stop: int) -> None:
    changes = {"checkpoint_every": 1, "optimizer": optimizer}
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    histories: list[list[EpochMetrics]] = []
    for path in (whole, resumed):
        if path == resumed:
            _stopped(path, stop, **changes)
            # four steps an epoch
            state = load_state(path)
            assert (len(state.history), state.step) == divmod(stop, 4)
            torch.manual_seed(99)
        network = model()
        histories.append(
            fit(network, noisy, LABELS, config(**changes), loss, state_path=path, quiet=True)
        )
    _equal(load_state(resumed), load_state(whole))
    assert [(entry.loss, entry.accuracy) for entry in histories[0]] == [
        (entry.loss, entry.accuracy) for entry in histories[1]
    ]


def test_how_often_the_state_is_written_changes_nothing(tmp_path: Path) -> None:
    weights = []
    for every in (1, 3, 500):
        network, path = model(), tmp_path / str(every)
        settings = config(checkpoint_every=every)
        fit(network, noisy, LABELS, settings, loss, state_path=path, quiet=True)
        weights.append(network[0].weight)
    assert torch.equal(weights[0], weights[1]) and torch.equal(weights[0], weights[2])
    # and a state of one is gone on with at another
    _stopped(tmp_path / "state", 6, checkpoint_every=1)
    network = model()
    settings = config(checkpoint_every=3)
    fit(network, noisy, LABELS, settings, loss, state_path=tmp_path / "state", quiet=True)
    assert torch.equal(network[0].weight, weights[0])


def test_what_an_epochs_beginning_does_to_the_model_is_not_done_twice(tmp_path: Path) -> None:
    """The beginning halves the weights and draws numbers; a resumed epoch comes out the same."""
    weights, begun = [], []
    for stop in (None, 6, 8):
        path = tmp_path / str(stop)
        steps = -1

        def images_of(indices: torch.Tensor) -> torch.Tensor:
            nonlocal steps
            steps += 1
            if steps - 1 == stop:  # noqa: B023
                raise KeyboardInterrupt
            return noisy(indices)

        for _ in range(1 if stop is None else 2):
            network = model()
            begun.append([])

            def on_epoch(epoch: int) -> None:
                begun[-1].append(epoch)
                torch.rand(3)
                with torch.no_grad():
                    network[0].weight.mul_(0.5)  # noqa: B023

            try:
                fit(
                    network,
                    images_of,
                    LABELS,
                    config(checkpoint_every=1),
                    loss,
                    state_path=path,
                    quiet=True,
                    on_epoch=on_epoch,
                )
            except KeyboardInterrupt:
                continue
            weights.append(network[0].weight)
    assert begun == [[0, 1, 2, 3], [0, 1], [1, 2, 3], [0, 1, 2], [2, 3]]
    assert torch.equal(weights[0], weights[1]) and torch.equal(weights[0], weights[2])


def test_another_runs_metrics_are_not_overwritten(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    settings = config(log_dir=str(folder), epochs=1)
    fit(model(), noisy, LABELS, settings, loss, quiet=True)
    rows = _rows(folder)
    with pytest.raises(FitError, match="metrics of another run") as caught:
        fit(model(), noisy, LABELS, settings, loss, quiet=True)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)
    assert _rows(folder) == rows


def test_a_log_leaves_what_is_not_its_own(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for resumed in (False, True):
        log = MetricsLog(tmp_path, resumed=resumed)
        log.write(EpochMetrics(1, 0.5, 0.25, 2.0), 0.1)
        log.close()
        assert _rows(tmp_path) == [
            {"accuracy": "0.25", "learning_rate": "0.1", "loss": "0.5"}
            | {"seconds": "2.0", "step": "1"}
        ]
        assert _events(tmp_path)["loss"] == {1: [0.5]}
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_ranges_depend_on_the_run_alone(tmp_path: Path) -> None:
    """Killed after its last epoch, a run has nothing left to do but to observe them."""
    x = images(24)
    snn = convert(chain(), x, num_steps=4)

    def run(path: Path | None) -> SpikingNetwork:
        return finetune(
            snn,
            lambda indices: vary(
                x[indices], Variation(4, flip="random"), torch.zeros(2), indices % 2 == 0
            ),
            torch.arange(24) % 5,
            config(epochs=1, batch_size=8),
            state_path=path,
            quiet=True,
        )[0]

    whole = run(None)
    for seed in (1, 2):
        torch.manual_seed(seed)
        assert run(tmp_path / "state").ranges == whole.ranges
