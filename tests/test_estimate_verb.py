"""estimate and what-if on the command line: files, JSON, words, pictures, and one-line refusals."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from estimate_cases import T, many_cores, network
from PIL import Image

from spikeship.deploy.cli.app import main
from spikeship.deploy.io import network_file as files
from spikeship.deploy.report.placement_picture import (
    SHOWN_CHIPS,
    PlacementFigure,
    figure_of,
    fullest,
    placement_picture,
    write_placement_picture,
)
from spikeship.hw_models import chips, energy_models
from spikeship.hw_models.graph import Dense, FixedGraph, Input, Neuron, Readout
from spikeship.hw_models.placement import placement_file
from spikeship.hw_models.placement.placement import Core, PlacedLayer, Placement, Rules

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("net") / "net.safetensors"
    files.save(network(), path)
    return path


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every neuron reads more than a core's synaptic memory holds."""
    wide = 170_000
    path = tmp_path_factory.mktemp("crowded") / "crowded.safetensors"
    weight = np.full((2, wide), 2)
    weight[:, ::2] = -2
    graph = FixedGraph(
        Input("input", (1, 8, 8)),
        (Neuron("many", (wide,), vth=np.array(4), reset="zero"), Readout("out", (2,))),
        (
            Dense(name="a", source="input", target="many", weight=np.full((wide, 64), 1)),
            Dense(name="b", source="many", target="out", weight=weight),
        ),
        num_steps=2,
    )
    files.save(graph, path)
    return path


def said(tmp_path: Path, *words: Any, status: int = 0) -> dict[str, Any]:
    target = tmp_path / "said.json"
    line = [*(str(word) for word in words), "--data", "digits", "--json", str(target), "--quiet"]
    assert main(line) == status
    result: dict[str, Any] = json.loads(target.read_text())
    target.unlink()
    return result


# --- estimate ---------------------------------------------------------------------------------


@pytest.mark.parametrize("chip", ["loihi1", "loihi2"])
def test_the_placement_file_is_the_placement_of_the_estimate(
    net: Path, tmp_path: Path, chip: str
) -> None:
    path = tmp_path / "deep" / "placement.json"
    found = said(tmp_path, "estimate", net, "--chip", chip, "-n", 5, "--placement", path)
    placement = placement_file.from_json(json.loads(path.read_text()))
    assert placement.chip == chip == found["chip"]
    assert placement.cores == found["cores"] == sum(row["cores"] for row in found["layers"])
    assert placement.fits is found["fits"] is True
    assert [layer.name for layer in placement.layers] == [row["name"] for row in found["layers"]]
    assert found["placement"] == str(path)
    assert {file.name for file in path.parent.iterdir()} == {"placement.json"}


def test_the_old_keys_stay_and_the_new_stand_beside_them(net: Path, tmp_path: Path) -> None:
    found = said(tmp_path, "estimate", net, "-n", 5)
    assert {
        "chip", "num_steps", "chip_steps", "inferences", "synops", "spikes", "neuron_updates",
        "cycles_per_step", "latency_s", "energy_j", "cores", "fits", "layers", "assumptions",
    } <= set(found)  # fmt: skip
    assert {"dynamic", "static", "low", "high", "components"} <= set(found["energy_j"])
    assert {"host", "bottleneck", "misfits", "rules", "throughput_per_s"} <= set(found)
    assert found["energy_j"]["dynamic"] == pytest.approx(
        sum(found["energy_j"]["components"].values())
    )
    assert found["misfits"] == [] and "models" not in found


def test_rules_reach_the_placement(net: Path, tmp_path: Path) -> None:
    options = ("estimate", net, "--chip", "loihi1", "-n", 3, "--placement", tmp_path / "p.json")
    bits, axons = {}, {}
    for name, rules in (
        ("usual", ()),
        ("unshared", ("--kernels", "unshared")),
        ("single", ("--axons", "single")),
    ):
        found = said(tmp_path, *options, *rules)
        placement = placement_file.from_json(json.loads((tmp_path / "p.json").read_text()))
        cores = [core for layer in placement.layers for core in layer.cores]
        bits[name] = sum(core.synapse_bits for core in cores)
        axons[name] = sum(core.input_axons for core in cores)
        assert found["rules"] == {
            "axons": placement.rules.axons,
            "kernels": placement.rules.kernels,
        }
    assert bits["unshared"] > bits["usual"]
    assert axons["single"] > axons["usual"]


def test_the_words_name_host_bottleneck_and_one_more_core(
    net: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["estimate", str(net), "--data", "digits", "-n", "3", "--chip", "loihi1"]) == 0
    words = capsys.readouterr().out
    assert words.startswith("loihi1, estimated per inference: ")
    for part in (" J (", " s, ", "synaptic operations, ", " cores"):
        assert part in words.splitlines()[0]
    for start in ("chip: dynamic", "host, apart from all this", "bottleneck: ", "- estimated"):
        assert any(line.startswith(start) for line in words.splitlines()), start
    assert "would save" in words or "can be cut further" in words


def test_what_does_not_fit_is_said_with_the_change_and_status_1(
    crowded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["estimate", str(crowded), "--data", "digits", "-n", "1", "--chip", "loihi1"]
    assert main(line) == 1
    words = capsys.readouterr().out
    assert "DOES NOT FIT" in words.splitlines()[0]
    found = said(tmp_path, *line[:2], "-n", 1, "--chip", "loihi1", status=1)
    assert found["fits"] is False and found["misfits"]
    for misfit in found["misfits"]:
        assert misfit["layer"] == "out" and misfit["change"]
        assert misfit["need"] > misfit["have"]
        assert words.count(misfit["text"]) == 1  # among the assumptions it is not said again


def test_too_few_chips_are_said(net: Path, tmp_path: Path) -> None:
    wide = 70_000
    weight = np.tile([[2], [-2]], (wide // 2, 64))
    graph = FixedGraph(
        Input("input", (1, 8, 8)),
        (Neuron("many", (wide,), vth=np.array(4)), Readout("out", (2,))),
        (
            Dense(name="a", source="input", target="many", weight=weight),
            Dense(name="b", source="many", target="out", weight=np.full((2, wide), 1)),
        ),
        num_steps=2,
    )
    path = tmp_path / "wide.safetensors"
    files.save(graph, path)
    options = ("estimate", path, "--chip", "loihi1", "-n", 1)
    free = said(tmp_path, *options, status=0)
    assert free["chips"] > 1
    found = said(tmp_path, *options, "--max-chips", 1, status=1)
    (misfit,) = found["misfits"]
    assert misfit["limit"] == "cores"
    assert f"{free['chips']:,} chips" in misfit["change"] or "allow" in misfit["change"]


def test_the_named_models_stand_beside_the_estimate(
    net: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = said(tmp_path, "estimate", net, "-n", 3, "--models")
    assert [row["model"] for row in found["models"]] == list(energy_models.MODELS)
    assert main(["estimate", str(net), "--data", "digits", "-n", "3", "--models"]) == 0
    words = capsys.readouterr().out
    for name in energy_models.MODELS:
        assert name in words
    assert "uncalibrated" in words


def test_json_on_standard_output_stands_alone(
    net: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["estimate", str(net), "--data", "digits", "-n", "2", "--json", "-"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["num_steps"] == T
    assert "estimated per inference" in captured.err


# --- the picture ------------------------------------------------------------------------------


def test_the_picture_of_an_estimate_opens_and_says_every_layer(net: Path, tmp_path: Path) -> None:
    for name in ("cores.svg", "cores.png"):
        options = ("estimate", net, "--chip", "loihi1", "-n", 3, "--picture", tmp_path / name)
        found = said(tmp_path, *options)
        assert found["picture"] == str(tmp_path / name)
    root = ElementTree.parse(tmp_path / "cores.svg").getroot()
    title = root.find(f"{SVG}title")
    assert root.get("role") == "img" and title is not None and title.text
    words = "".join(root.itertext())
    with Image.open(tmp_path / "cores.png") as picture:
        assert picture.text["Description"] == title.text  # type: ignore[attr-defined]
    for row in found["layers"]:
        assert f"{row['name']} {row['cores']} cores" in title.text
        assert f"{row['name']}: {row['cores']} core" in words
    assert {file.name for file in tmp_path.iterdir()} == {"cores.svg", "cores.png"}


def drawn_words(placement: Placement, tmp_path: Path) -> tuple[str, str]:
    shown = PlacementFigure(placement, chips.get("loihi1"), [0.5] * placement.cores)
    write_placement_picture(shown, tmp_path / "p.svg")
    root = ElementTree.parse(tmp_path / "p.svg").getroot()
    return "".join(root.itertext()), str(root.get("aria-label"))


def test_few_chips_number_every_cell_and_many_are_small_multiples_of_some(tmp_path: Path) -> None:
    few, _ = drawn_words(many_cores(5, 20), tmp_path)
    assert few.count("chip 1: 100 of 128 cores") == 2  # fullness and time
    assert "not drawn" not in few
    many, alt = drawn_words(many_cores(20, 128), tmp_path)
    assert many.count(f"chip {SHOWN_CHIPS}: 128 of 128 cores") == 2
    assert f"chip {SHOWN_CHIPS + 1}:" not in many
    assert f"not drawn: {20 - SHOWN_CHIPS} more chips, {(20 - SHOWN_CHIPS) * 128:,} cores" in many
    assert "20 loihi1 chips" in alt
    assert all(f"layer{number}:" in many for number in range(20))


def test_the_fullest_limit_of_a_core() -> None:
    chip = chips.get("loihi1")
    core = many_cores(1, 1).layers[0].cores[0]
    assert fullest(core, chip) == (0.5, "neurons")
    tight = Core(**{**vars(core), "input_axons": 3 * 4096 // 4})
    assert fullest(tight, chip) == (0.75, "input axons")
    over = Core(**{**vars(core), "synapse_bits": 2 * 128 * 1024 * 8})
    assert fullest(over, chip) == (2.0, "synaptic memory")


def test_a_core_beyond_its_limit_is_said(tmp_path: Path) -> None:
    placement = many_cores(1, 2)
    usual, _ = drawn_words(placement, tmp_path)
    assert "more than a core holds" not in usual
    (layer,) = placement.layers
    cores = tuple(Core(**{**vars(core), "compartments": 2000}) for core in layer.cores)
    broken = Placement(
        "loihi1", Rules(), (PlacedLayer("layer0", 2, 1, 1, 1, "neurons", cores),), 1, (), ()
    )
    words, _ = drawn_words(broken, tmp_path)
    assert "more than a core holds" in words


def test_the_time_share_is_the_mean_over_steps(net: Path) -> None:
    from estimate_cases import images

    from spikeship.deploy.run.counting import count
    from spikeship.hw_models.estimate import estimate

    counted = count(network(), images(), seed=0)
    found = estimate(counted.graph, counted.counts, chips.get("loihi1"), traffic=counted.traffic)
    shares = figure_of(found).shares
    seconds = found.times.compute
    for index in range(found.placement.cores):
        steps = [s for s in range(seconds.shape[1]) if seconds[:, s].max() > 0]
        mean = sum(seconds[index, s] / seconds[:, s].max() for s in steps) / len(steps)
        assert shares[index] == pytest.approx(mean)


def test_shares_of_another_placement_are_refused() -> None:
    with pytest.raises(ValueError, match="one estimate"):
        PlacementFigure(many_cores(1, 3), chips.get("loihi1"), [1.0])
    with pytest.raises(ValueError, match="one estimate"):
        PlacementFigure(many_cores(1, 1), chips.get("loihi2"), [1.0])


def test_the_reports_picture_follows_light_and_dark() -> None:
    import base64

    picture = placement_picture(PlacementFigure(many_cores(2, 4), chips.get("loihi1"), [0.5] * 8))
    svg = base64.b64decode(str(picture.source).partition(",")[2]).decode()
    assert "prefers-color-scheme:dark" in svg and "var(--ink)" in svg
    assert "#010101" not in svg
    assert "8 cores" in picture.alt


# --- what-if ----------------------------------------------------------------------------------


def test_what_if_writes_both_files_and_they_agree(net: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ("--steps", "2,6", "--weight-bits", "8,4", "--rates", "0.5,1", "-o", out)
    found = said(tmp_path, "what-if", net, "-n", 4, *options)
    assert {file.name for file in out.iterdir()} == {"what-if.json", "what-if.svg"}
    written = json.loads((out / "what-if.json").read_text())
    assert {**written, "output": str(out)} == found
    assert [(p["axis"], p["at"]) for p in written["points"] if p["chip"] == "loihi1"] == [
        ("steps", 2), ("steps", 6), ("weight_bits", 8), ("weight_bits", 4),
        ("rate", 0.5), ("rate", 1.0),
    ]  # fmt: skip
    assert written["chips"] == ["loihi1", "loihi2"]
    names = [row["name"] for row in written["references"]]
    assert any("A100" in name for name in names)
    assert sum("quantized ANN" in name for name in names) == 2
    assert len(written["break_even"]) == 2 * len(names)
    root = ElementTree.parse(out / "what-if.svg").getroot()
    assert "time steps of input, T" in "".join(root.itertext())


def test_what_if_at_the_networks_own_point_is_estimate(net: Path, tmp_path: Path) -> None:
    options = ("--steps", T, "--weight-bits", "", "--rates", "", "--chip", "loihi1")
    (point,) = said(tmp_path, "what-if", net, "-n", 4, *options, "-o", tmp_path / "o")["points"]
    found = said(tmp_path, "estimate", net, "-n", 4, "--chip", "loihi1")
    energy = found["energy_j"]
    assert point["energy_j"]["value"] == energy["dynamic"] + energy["static"]
    assert (point["energy_j"]["low"], point["energy_j"]["high"]) == (energy["low"], energy["high"])
    assert (point["latency_s"], point["cores"]) == (found["latency_s"], found["cores"])


def test_what_if_says_break_even_and_assumptions(
    net: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["what-if", str(net), "--data", "digits", "-n", "2", "--steps", "2"]
    assert main([*line, "--weight-bits", "4", "--rates", "1", "-o", str(tmp_path / "o")]) == 0
    words = capsys.readouterr().out
    assert words.count("break-even of loihi1 against") == 3
    assert "(modelled)" in words and "(estimated)" in words
    assert "- break-even: the factor" in words


# --- refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("estimate {net} --picture {out}/cores.jpg", ".svg or .png"),
        ("estimate {net} --picture {out}/cores", ".svg or .png"),
        ("estimate {net} --placement {out}", "is a folder"),
        ("estimate {net} --axons double", "double"),
        ("estimate {net} --kernels own", "own"),
        ("estimate {net} --max-chips 0", "--max-chips"),
        ("estimate {net} --chip loihi3", "loihi3"),
        ("what-if {net} --steps four -o {out}/o", "--steps"),
        ("what-if {net} --steps 2.5 -o {out}/o", "whole numbers"),
        ("what-if {net} --rates 1,,2 -o {out}/o", "--rates"),
        ("what-if {net} --rates nan -o {out}/o", "from 0 on"),
        ("what-if {net} --rates -1 -o {out}/o", "from 0 on"),
        ("what-if {net} --weight-bits 9 -o {out}/o", "at most 8"),
        ("what-if {net} --chip loihi3 -o {out}/o", "loihi3"),
        ("what-if {net} --snn {out}/none.nir -o {out}/o", "no such file"),
        ("what-if {net} --ann {out}/none.onnx -o {out}/o", "none.onnx"),
        ("what-if {net} --gpu-result {out}/none.json -o {out}/o", "none.json"),
        ("what-if {net}", "-o"),
    ],
)
def test_bad_input_gets_one_line_status_2_and_no_file(
    arguments: str, says: str, net: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = arguments.format(net=net, out=tmp_path).split()
    assert main([*words, "--data", "digits", "-n", "2"]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("spikeship: ") and "\n" not in error, error
    assert says in error
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_nothing_half_written_is_left_where_the_picture_fails(
    net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.figure import Figure

    def broken(*_: Any, **__: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", broken)
    old = tmp_path / "cores.svg"
    old.write_text("old")
    assert (
        main(
            ["estimate", str(net), "--data", "digits", "-n", "1", "--picture", str(old), "--quiet"]
        )
        == 2
    )
    assert old.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["cores.svg"]
