"""The command line as a contract: the whole way, its JSON, and one line for every bad input."""

import json
import os
from pathlib import Path
from typing import Any

import gpu_results
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import cases
import helpers
from spikeship.deploy.cli.app import main
from spikeship.deploy.io import network_file as files
from spikeship.deploy.io.classifier import load
from spikeship.deploy.verbs.console import Voice
from spikeship.hw_models.graph import Dense, FixedGraph, Input, Neuron, Readout


def run(*arguments: Any, status: int = 0) -> dict[str, Any]:
    """Run a verb with its JSON to a file; returns the object."""
    target = Path(os.environ["PYTEST_JSON"])
    target.unlink(missing_ok=True)
    words = [str(argument) for argument in arguments]
    assert main([*words, "--json", str(target), "--quiet"]) == status
    result: dict[str, Any] = json.loads(target.read_text())
    return result


@pytest.fixture(autouse=True)
def json_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_JSON", str(tmp_path / "said.json"))


class Residual(nn.Module):
    """Batch norm, a residual sum and a strided 1x1 skip, for the ONNX door."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.conv3 = nn.Conv2d(8, 8, 3, padding=1)
        self.skip = nn.Conv2d(8, 8, 1, stride=2, bias=False)
        self.fc = nn.Linear(8 * 4 * 4, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm1(self.conv1(x)))
        x = torch.relu(self.conv3(torch.relu(self.conv2(x))) + self.skip(x))
        return self.fc(torch.flatten(x, 1))  # type: ignore[no-any-return]


def factory() -> nn.Module:
    """What --arch test_cli:factory makes."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(64, 10)
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with ann.safetensors, snn.nir, tuned.nir and net.safetensors, by the verbs."""
    folder = tmp_path_factory.mktemp("trained")
    data = ("--data", "digits", "--quiet")
    ann, snn, tuned, net = (
        str(folder / name)
        for name in ("ann.safetensors", "snn.nir", "tuned.nir", "net.safetensors")
    )
    assert main(["train", "vgg5", *data, "--epochs", "25", "-o", ann]) == 0
    assert main(["convert", ann, *data, "-T", "8", "-o", snn]) == 0
    assert main(["finetune", snn, *data, "-T", "8", "--epochs", "1", "-o", tuned]) == 0
    assert main(["quantize", tuned, "--chip", "loihi2", *data, "-o", net]) == 0
    return folder


def test_the_files_are_there_and_nothing_half_written(trained: Path) -> None:
    assert {p.name for p in trained.iterdir()} == {
        "ann.safetensors",
        "snn.nir",
        "tuned.nir",
        "net.safetensors",
    }


def test_simulate_and_its_recording(trained: Path, tmp_path: Path) -> None:
    net, record = trained / "net.safetensors", tmp_path / "record.npz"
    said = run("simulate", net, "--data", "digits", "-n", 30, "--record", record)
    assert said["images"] == 30
    assert said["accuracy"] == said["correct"] / 30 > 0.6
    assert (said["num_steps"], said["chip_steps"]) == (8, 15)
    synops = said["synops"]
    assert 0 < synops["effective"] <= synops["connected"] <= synops["dense"]
    graph = files.load(net)
    assert [row["name"] for row in said["layers"]] == [node.name for node in graph.nodes]
    with np.load(record) as arrays:
        assert set(arrays.files) == {"input", *(node.name for node in graph.nodes)}
        assert arrays["input"].shape == (30, 8, 1, 8, 8)
        for node in graph.nodes:
            assert arrays[node.name].shape == (30, 15, *node.shape)
        spikes = sum(int(arrays[node.name].sum()) for node in graph.nodes[:-1])
        best = arrays[graph.output.name][:, -1].argmax(axis=1)
    assert said["spikes"] == pytest.approx(spikes / 30)
    labels = np.array([p["class"] for p in _predicted(net, tmp_path)])
    np.testing.assert_array_equal(labels, best[:5])


def _predicted(net: Path, tmp_path: Path) -> list[dict[str, Any]]:
    """Answers on the first five test digits, given as a user's own arrays."""
    from spikeship.training.data import load as data

    images = data.load("digits").split("test").images[:5].numpy()
    np.savez(tmp_path / "mine.npz", x=images)
    answers: list[dict[str, Any]] = run("predict", net, tmp_path / "mine.npz")["predictions"]
    return answers


def test_simulate_on_lava_says_the_same(trained: Path) -> None:
    options = (trained / "net.safetensors", "--data", "digits", "-n", 3)
    assert run("simulate", *options, "--on", "lava") == run("simulate", *options)


@pytest.mark.parametrize("against", ["lava", "reference"])
def test_verify(trained: Path, against: str) -> None:
    net = trained / "net.safetensors"
    said = run("verify", net, "--against", against, "--data", "digits", "-n", 2)
    assert said["spikes_equal"] is True
    assert said["first_difference"] is None
    assert (said["images"], said["steps"]) == (2, 15)
    graph = files.load(net)
    assert said["values_compared"] == 2 * 15 * sum(int(np.prod(n.shape)) for n in graph.nodes)
    assert said["spikes_compared"] == sum(row["spikes"] or 0 for row in said["layers"])
    assert all(row["equal"] for row in said["layers"])
    assert sum(row["spikes"] or 0 for row in said["layers"]) > 0


def test_verify_without_data_uses_random_messages(trained: Path) -> None:
    net = trained / "net.safetensors"
    first = run("verify", net, "--against", "reference", "-n", 2, "--seed", 1)
    assert first == run("verify", net, "--against", "reference", "-n", 2, "--seed", 1)
    assert first != run("verify", net, "--against", "reference", "-n", 2, "--seed", 2)


def test_a_difference_ends_with_status_1(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from spikeship.hw_models.reference import interpreter as reference

    original = reference.run

    def wrong(graph: FixedGraph, messages: Any) -> Any:
        recording = original(graph, messages)
        recording.nodes["features.relu2"][0, 6, 1, 2, 3] ^= 1
        return recording

    monkeypatch.setattr(reference, "run", wrong)
    net = trained / "net.safetensors"
    said = run("verify", net, "--against", "reference", "--data", "digits", status=1)
    assert said["spikes_equal"] is False
    assert "'features.relu2', chip step 7" in said["first_difference"]
    assert "neuron (1, 2, 3)" in capsys.readouterr().err


def test_estimate_on_both_chips(trained: Path) -> None:
    for chip in ("loihi1", "loihi2"):
        net = trained / "net.safetensors"
        said = run("estimate", net, "--chip", chip, "--data", "digits", "-n", 20)
        assert (said["chip"], said["inferences"], said["fits"]) == (chip, 20, True)
        energy = said["energy_j"]
        assert energy["low"] <= energy["dynamic"] + energy["static"] <= energy["high"]
        assert said["latency_s"] > 0
        assert said["assumptions"]


def test_compare_puts_every_stage_on_the_same_images(trained: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    said = run(
        "compare", "--ann", trained / "ann.safetensors", "--snn", trained / "tuned.nir",
        "--converted", trained / "snn.nir", "--net", trained / "net.safetensors",
        "--data", "digits", "-n", 60, "--lava", 2, "--int8", "--report", report,
    )  # fmt: skip
    rows = {row["stage"]: row for row in said["rows"]}
    assert list(rows) == ["ann", "int8", "converted", "hybrid", "integer", "lava"]
    assert [row["images"] for row in said["rows"]] == [60, 60, 60, 60, 60, 2]
    assert rows["int8"]["agreement_with_previous"] > 0.9
    for row in said["rows"]:
        low, high = row["ci95"]
        assert low <= row["accuracy"] <= high
    assert rows["ann"]["energy_j"] is None and rows["ann"]["agreement_with_previous"] is None
    assert rows["integer"]["agreement_with_previous"] > 0.9
    assert rows["lava"]["agreement_with_previous"] == 1.0
    assert said["verify"]["spikes_equal"] is True
    assert said["gpu"]["kind"] in ("measured", "modelled")
    assert said["report"] == str(report)
    page = report.read_text()
    assert page.count("<img") == page.count("alt=") >= 3
    assert "http://" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "")


def test_compare_takes_the_gpus_row_from_elsewhere(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    macs = load(trained / "ann.safetensors").macs()
    ours = gpu_results.result(tmp_path, gpu_results.row("one"), network={"ann_macs": macs})
    stages = ("--ann", trained / "ann.safetensors", "--net", trained / "net.safetensors")
    options = (*stages, "--data", "digits", "-n", 2, "--report", tmp_path / "r.html")
    said = run("compare", *options, "--gpu-result", ours)["gpu"]
    assert (said["kind"], said["device"], said["energy_j"]) == ("measured", "NVIDIA Test", 2e-3)
    (tmp_path / "other").mkdir()
    other = gpu_results.result(
        tmp_path / "other", gpu_results.row("one"), network={"ann_macs": macs + 1}
    )
    assert main(["compare", *map(str, options), "--gpu-result", str(other)]) == 2
    assert f"this one has {macs}" in capsys.readouterr().err


def test_export_to_lava(trained: Path, tmp_path: Path) -> None:
    run("export", trained / "net.safetensors", "--to", "lava", "-o", tmp_path / "out")
    assert (tmp_path / "out" / "plan.npz").is_file()


def test_predict_a_picture(trained: Path, tmp_path: Path) -> None:
    Image.fromarray(np.full((20, 20, 3), 128, np.uint8)).save(tmp_path / "grey.png")
    (answer,) = run("predict", trained / "net.safetensors", tmp_path / "grey.png")["predictions"]
    assert len(answer["scores"]) == 10
    ranked = sorted(answer["scores"])
    assert answer["margin"] == ranked[-1] - ranked[-2]


def test_from_an_onnx_file_with_batch_norm_and_a_residual_sum(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Residual()
    for _ in range(3):
        model(torch.randn(32, 1, 8, 8))  # batch norm sees something
    onnx = tmp_path / "model.onnx"
    helpers.export_onnx(model.eval(), torch.zeros(1, 1, 8, 8), onnx, dynamo=False)
    snn, net = tmp_path / "snn.nir", tmp_path / "net.safetensors"
    data = ("--data", "digits")
    run("convert", onnx, *data, "-T", 6, "-n", 100, "-o", snn)
    run("finetune", snn, *data, "-T", 6, "--epochs", 1, "-n", 200, "-o", tmp_path / "tuned.nir")
    run("quantize", tmp_path / "tuned.nir", *data, "-o", net)
    assert run("verify", net, *data, "-n", 2)["spikes_equal"] is True
    said = run(
        "compare", "--ann", onnx, "--net", net, *data, "-n", 20, "--report", tmp_path / "r.html"
    )
    rows = {row["stage"]: row for row in said["rows"]}
    assert rows["onnxruntime"]["agreement_with_previous"] == 1.0


def test_from_a_module_and_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    torch.save(factory().state_dict(), tmp_path / "weights.pth")
    run(
        "convert", "--arch", "test_cli:factory", "--weights", tmp_path / "weights.pth",
        "--data", "digits", "-T", 5, "-n", 50, "--encoding", "direct", "-o", tmp_path / "s.nir",
    )  # fmt: skip
    run("quantize", tmp_path / "s.nir", "-o", tmp_path / "n.safetensors")
    said = run("simulate", tmp_path / "n.safetensors", "--data", "digits", "-n", 5)
    assert said["num_steps"] == 5


def test_nobody_converts_what_was_never_trained_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    torch.save(factory().state_dict(), tmp_path / "weights.pth")
    made = ["convert", "--arch", "test_cli:factory", "--data", "digits", "-T", "5", "-n", "50"]
    out = ["-o", str(tmp_path / "s.nir")]
    weights = ["--weights", str(tmp_path / "weights.pth")]
    for given in ([], [*weights, "--untrained"]):
        assert main([*made, *given, *out]) == 2
        assert "give its trained weights with --weights, or --untrained" in capsys.readouterr().err
    assert main([*made, "--untrained", *out]) == 0
    assert main(["convert", "ann.onnx", "--untrained", "--data", "digits", *out]) == 2
    assert "--untrained: ann.onnx holds weights" in capsys.readouterr().err


def test_json_on_standard_output_stands_alone(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = str(trained / "net.safetensors")
    assert main(["simulate", net, "--data", "digits", "-n", "2", "--json", "-"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["images"] == 2
    assert "synaptic operations" in said.err


def test_the_same_seed_says_the_same(trained: Path) -> None:
    net = trained / "net.safetensors"
    options = ("simulate", net, "--data", "digits", "-n", 10, "--seed")
    assert run(*options, 3) == run(*options, 3)
    assert run(*options, 3)["spikes"] != run(*options, 4)["spikes"]


@pytest.fixture
def bad(trained: Path, tmp_path: Path) -> Path:
    """A directory of files that cannot be used."""
    whole = (trained / "net.safetensors").read_bytes()
    (tmp_path / "truncated.safetensors").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "truncated.nir").write_bytes((trained / "snn.nir").read_bytes()[:3000])
    (tmp_path / "text.nir").write_text("no NIR at all")
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Sigmoid())
    model = nn.Sequential(model, nn.Flatten(), nn.Linear(64, 10)).eval()
    helpers.export_onnx(model, torch.zeros(1, 1, 8, 8), tmp_path / "unsupported.onnx", dynamo=False)
    (tmp_path / "damaged.onnx").write_bytes((tmp_path / "unsupported.onnx").read_bytes()[:-50])
    np.savez(tmp_path / "wide.npz", x_test=np.zeros((3, 1, 9, 9)), y_test=np.zeros(3, int))
    np.savez(tmp_path / "labels.npz", x_train=np.zeros((3, 1, 8, 8)), y_train=np.array([0, 1, 77]))
    np.savez(tmp_path / "words.npz", x=np.array(["a", "b"]))
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 not really")
    weight = np.full((2, 64), 254)
    files.save(
        FixedGraph(
            Input("input", (1, 8, 8), "direct", max_message=127, scale=0.005),
            (Neuron("heavy", (2,), vth=np.array(9)), Readout("out", (2,))),
            (
                Dense(name="fc", source="input", target="heavy", weight=weight),
                Dense(name="fc2", source="heavy", target="out", weight=np.eye(2, dtype=int)),
            ),
            num_steps=4,
        ),
        tmp_path / "heavy.safetensors",
    )
    files.save(cases.graph("conv"), tmp_path / "other.safetensors")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("simulate {bad}/none.safetensors --data digits", "no such file"),
        ("simulate {bad}/truncated.safetensors --data digits", "not a whole safetensors file"),
        ("verify {trained}/ann.safetensors", "not a quantized network"),
        ("simulate {bad}/other.safetensors --data digits", "(1, 8, 8)"),
        ("simulate {trained}/net.safetensors --data npz:{bad}/wide.npz", "(1, 9, 9)"),
        ("simulate {trained}/net.safetensors --data nothing", "nothing"),
        ("simulate {trained}/net.safetensors --data cifar10 --data-dir {bad}", "cifar10"),
        ("simulate {bad}/heavy.safetensors --data digits", "'heavy'"),
        ("verify {bad}/heavy.safetensors --data digits", "24 bits"),
        ("predict {trained}/net.safetensors {bad}/none.png", "no such file"),
        ("predict {trained}/net.safetensors {bad}/text.nir", "not a picture"),
        ("predict {trained}/net.safetensors {bad}/words.npz", "words.npz"),
        ("predict {trained}/net.safetensors {bad}/broken.npz", "not a readable .npz"),
        ("quantize {bad}/none.nir -o {bad}/n", "no such file"),
        ("quantize {bad}/truncated.nir -o {bad}/n", "truncated.nir"),
        ("quantize {bad}/text.nir -o {bad}/n", "text.nir"),
        ("quantize {trained}/tuned.nir --weight-bits 1 -o {bad}/n", "more weight bits"),
        ("quantize {trained}/tuned.nir --weight-bits 77 -o {bad}/n", "weight_bits"),
        ("convert {bad}/damaged.onnx --data digits -o {bad}/n", "damaged.onnx"),
        ("convert {bad}/unsupported.onnx --data digits -o {bad}/n", "MaxPool"),
        ("convert {bad}/text.nir --data digits -o {bad}/n", ".onnx"),
        ("convert --arch no_such_module:f --data digits -o {bad}/n", "no_such_module"),
        ("convert --data digits -o {bad}/n", "--arch"),
        ("convert {trained}/ann.safetensors --data digits --balance x -o {bad}/n", "'x'"),
        ("convert {trained}/ann.safetensors --data npz:{bad}/wide.npz -o {bad}/n", "wide.npz"),
        ("finetune {trained}/snn.nir --data npz:{bad}/labels.npz -o {bad}/n", "10 classes"),
        ("finetune {trained}/snn.nir --data digits --method x -o {bad}/n", "--method"),
        ("train vgg77 --data digits --epochs 1 -o {bad}/n", "vgg77"),
        ("train vgg5 --data digits --epochs 1 -o /proc/nowhere/n", "/proc/nowhere"),
        ("export {trained}/net.safetensors --to floppy -o {bad}/n", "'floppy'"),
        ("export {trained}/net.safetensors --to lava -o {bad}", "not an export"),
        ("simulate", "Missing argument"),
        ("simulate {trained}/net.safetensors --data digits -n 0", "-n"),
        ("juggle", "juggle"),
    ],
)
def test_bad_input_gets_one_line_and_status_2(
    arguments: str, says: str, bad: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = arguments.format(bad=bad, trained=trained).split()
    assert main([*words]) == 2
    error = capsys.readouterr().err.strip()
    assert "\n" not in error, error
    assert error.startswith("spikeship: ")
    assert says in error
    assert not (bad / "n").exists()


def test_real_fashion_mnist_goes_the_same_way(tmp_path: Path) -> None:
    folder = Path(os.environ.get("SPIKESHIP_DATA", "")) / "fashion-mnist"
    if not os.environ.get("SPIKESHIP_DATA") or not folder.is_dir():
        pytest.skip("SPIKESHIP_DATA is not set, or holds no fashion-mnist")
    data = ("--data", "fashion-mnist", "--data-dir", folder.parent, "-n", 24)
    ann, snn, net = (tmp_path / name for name in ("ann.safetensors", "snn.nir", "net.safetensors"))
    run("train", "vgg5", *data, "--width", 0.25, "--epochs", 1, "-o", ann)
    run("convert", ann, *data, "-T", 3, "-o", snn)
    run("quantize", snn, *data, "-o", net)
    said = run("simulate", net, *data)
    assert (said["images"], said["num_steps"], said["chip_steps"]) == (24, 3, 10)


def test_columns_stay_and_letters_that_move_cursors_do_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Voice(None, quiet=False).say("name     value\n  a\x1b[2J  1")
    assert capsys.readouterr().out == "name     value\n  a\\x1b[2J  1\n"
