"""what-if on the command line where the answer is short: one layer, nothing left, ends only."""

import json
from pathlib import Path
from typing import Any

import gpu_results
import pytest
from estimate_cases import network
from what_if_cases import one_layer

from spikeship.deploy.cli.app import main
from spikeship.deploy.io import network_file as files
from spikeship.deploy.verbs.what_if import _break_even_line
from spikeship.hw_models.events.macs import ann_macs


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("net") / "net.safetensors"
    files.save(network(), path)
    return path


def line(net: Path, out: Path, *options: Any) -> list[str]:
    words = ["what-if", net, "--data", "digits", "-n", 2, "--steps", "", "-o", out, *options]
    return [str(word) for word in words]


def refused(capsys: pytest.CaptureFixture[str], words: list[str]) -> str:
    assert main(words) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("spikeship: ") and "\n" not in error
    return error


def test_nothing_is_written_where_every_point_is_left_out(
    net: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refused(capsys, line(net, tmp_path, "--weight-bits", "", "--rates", "1000"))
    assert "every point is left out: rate 1000" in error
    assert not list(tmp_path.iterdir())


def test_both_files_are_written_or_neither(
    net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.figure import Figure

    def broken(*_: Any, **__: Any) -> None:
        raise OSError("disk full")

    (tmp_path / "what-if.json").write_text("old")
    monkeypatch.setattr(Figure, "savefig", broken)
    assert main(line(net, tmp_path, "--weight-bits", "", "--rates", "1")) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["what-if.json"]
    assert (tmp_path / "what-if.json").read_text() == "old"


def test_a_network_of_one_layer_on_direct_input_says_that_nothing_scales(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "one.safetensors"
    files.save(one_layer("direct", (1, 8, 8)), path)
    assert main(line(path, tmp_path / "o", "--weight-bits", "8,1", "--rates", "0.5,1")) == 0
    words = capsys.readouterr().out
    assert "left out: rate 0.5: nothing in this network spikes" in words
    assert "at any factor: nothing in this network spikes" in words
    written = json.loads((tmp_path / "o" / "what-if.json").read_text())
    assert written["network"]["spikes_per_step"] is None
    assert {point["axis"] for point in written["points"]} == {"weight_bits", "rate"}


def test_a_measured_gpus_rows_are_all_met(
    net: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    macs = {"ann_macs": ann_macs(network(), padding=True)}
    rows = gpu_results.row("one"), gpu_results.row("best", energy_j=1.5e-3)
    measured = gpu_results.result(tmp_path, *rows, network=macs)
    options = ("--rates", 1, "--weight-bits", "", "--chip", "loihi2", "--gpu-result", measured)
    assert main(line(net, tmp_path / "o", *options)) == 0
    words = capsys.readouterr().out
    for name in ("", ", with its idle power", ", batch 512", ", batch 512, with its idle power"):
        assert f"against ANN on NVIDIA Test{name} (measured)" in words
    error = refused(capsys, line(net, tmp_path / "o", *options, "--gpu-utilisation", 0.5))
    assert "leave one out" in error


def test_a_utilisation_gives_the_modelled_gpu_an_upper_end(
    net: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--rates", 1, "--weight-bits", "", "--chip", "loihi2", "--gpu-utilisation")
    assert main(line(net, tmp_path / "o", *options, 0.01)) == 0
    row = json.loads((tmp_path / "o" / "what-if.json").read_text())["references"][0]
    assert row["high"] == row["energy_j"] == pytest.approx(100 * row["low"])
    assert "made the folder" in capsys.readouterr().err
    assert "utilisation 2" in refused(capsys, line(net, tmp_path / "p", *options, 2))


def told(low: float | None, value: float | None, high: float | None) -> str:
    def end(factor: float | None) -> dict[str, Any]:
        rate = None if factor is None else factor / 10
        return {"factor": factor, "why": "too dear", "spikes_per_step": rate}

    found = {"chip": "c", "against": "X", "low": end(low), "value": end(value), "high": end(high)}
    return _break_even_line(found, [{"name": "X", "kind": "measured"}])


def test_an_end_that_is_met_is_said_even_where_the_value_is_not() -> None:
    head = "break-even of c against X (measured): "
    assert told(None, None, None) == f"{head}none, too dear"
    assert told(None, None, 1.21) == (
        f"{head}none, too dear; within the ranges none to 1.21 times the rate"
    )
    assert told(0.25, None, None) == (
        f"{head}none, too dear; within the ranges 0.25 to none times the rate"
    )
    assert told(0.5, 1.0, None) == (
        f"{head}at 1 times the rate (0.5 to none), 0.1 spikes a neuron and step"
    )


def test_every_factor_of_a_break_even_has_three_digits() -> None:
    assert told(1.2345, 2.347, 3.4567) == (
        "break-even of c against X (measured): at 2.35 times the rate (1.23 to 3.46), "
        "0.235 spikes a neuron and step"
    )
