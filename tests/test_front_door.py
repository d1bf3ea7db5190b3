"""``import spikeship as ss``: lazy, with the command line's defaults, and short to look at."""

import inspect
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
from torch import nn

import spikeship as ss
from net_files import dense, write_net
from spikeship.deploy.api import judge
from spikeship.deploy.cli.app import main
from spikeship.deploy.cli.verbs import VERBS
from spikeship.deploy.options.compare import CompareOptions
from spikeship.hw_models.graph import FixedGraph

# verbs of the shell alone, and what is no verb
SHELL = {"demo", "doctor", "install-lava"}
MORE = {"SpikeshipError", "__version__", "load", "load_ann", "load_data", "messages", "save"} | {
    "stream",
    "trace",
}


def test_importing_it_loads_nothing() -> None:
    code = (
        "import sys, spikeship\n"
        "heavy = {'torch', 'numpy', 'lava', 'typer', 'nir'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "spikeship.__version__\n"
        "assert 'torch' not in sys.modules\n"
        "assert 'train' in dir(spikeship)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_verb_is_a_function() -> None:
    verbs = {verb.name.replace("-", "_") for verb in VERBS if verb.name not in SHELL}
    assert set(ss.__all__) - MORE == verbs
    for name in ss.__all__:
        assert getattr(ss, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        ss.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"spikeship {ss.__version__}"


def test_compare_has_the_command_lines_defaults() -> None:
    own = inspect.signature(judge.compare).parameters
    shared = [field for field in fields(CompareOptions) if field.name in own]
    assert {field.name for field in shared} >= {"chip", "lava", "int8", "gpu_result"}
    for field in shared:
        if field.name not in ("net", "report", "ann"):  # there they are required, or written to
            assert own[field.name].default == field.default, field.name


@pytest.fixture(scope="module")
def stages() -> tuple[object, object, object, FixedGraph]:
    """A classifier, its conversion, fine-tuned, in integers."""
    ann = ss.train("vgg5", "digits", width=0.5, epochs=8)
    snn = ss.convert(ann, "digits", num_steps=8)
    tuned = ss.finetune(snn, "digits", epochs=1)
    return ann, snn, tuned, ss.quantize(tuned, weight_bits=6)


def test_python_and_the_command_line_do_the_same(
    stages: tuple[object, object, object, FixedGraph], tmp_path: Path
) -> None:
    data = ("--data", "digits", "--quiet")
    ann, snn, net = (str(tmp_path / name) for name in ("a.safetensors", "s.nir", "n.safetensors"))
    said = tmp_path / "said.json"
    for words in (
        ("train", "vgg5", *data, "--width", "0.5", "--epochs", "8", "-o", ann),
        ("convert", ann, *data, "-T", "8", "-o", snn),
        ("finetune", snn, *data, "--epochs", "1", "-o", snn),
        ("quantize", snn, "--weight-bits", "6", "-o", net, "--quiet"),
        ("simulate", net, *data, "--json", str(said)),
    ):
        assert main(list(words)) == 0
    here = json.loads(json.dumps(ss.simulate(stages[3], "digits").result))
    assert here == json.loads(said.read_text())


def test_what_comes_back_is_short_to_look_at(
    stages: tuple[object, object, object, FixedGraph], tmp_path: Path
) -> None:
    ann, _, tuned, net = stages
    record = ss.verify(net, against="reference")
    shown = [
        *(ann, tuned.history, net, net.nodes[0], net.synapses[0], record, record.recording),  # type: ignore[attr-defined]
        ss.load_data("digits"),
        ss.simulate(net, "digits", limit=5),
        ss.estimate(net, "digits", limit=5),
        ss.estimate(net, "digits", limit=5).placement,
        ss.what_if(net, "digits", limit=2, steps=[2], rates=(), weight_bits=(), chip=["loihi2"]),
        ss.compare(ann, net, "digits", limit=5),  # type: ignore[arg-type]
        ann.ann,  # type: ignore[attr-defined]
    ]
    for thing in shown:
        assert len(repr(thing)) < 250 and "array(" not in repr(thing), repr(thing)


def test_networks_are_written_and_read_by_what_they_are(
    stages: tuple[object, object, object, FixedGraph], tmp_path: Path
) -> None:
    ann, snn, tuned, net = stages
    paths = [str(tmp_path / name) for name in ("a.safetensors", "s.nir", "t.nir", "n.safetensors")]
    for thing, path in zip(stages, paths, strict=True):
        assert ss.save(thing, path) == Path(path)  # type: ignore[arg-type]
    kinds = [type(ss.load(path)).__name__ for path in paths]
    assert kinds == ["Ann", "SpikingNetwork", "SpikingNetwork", "FixedGraph"]
    assert ss.simulate(paths[3], "digits").result == ss.simulate(net, "digits").result
    with pytest.raises(ss.SpikeshipError, match="a list has no file of its own"):
        ss.save([], paths[0])  # type: ignore[arg-type]


def test_integers_of_another_framework_are_the_same_by_every_way_in(tmp_path: Path) -> None:
    path = write_net(tmp_path / "net.net", [dense([[100, -60], [30, 90]])])
    output = tmp_path / "n.safetensors"
    assert main(["quantize", str(path), "-o", str(output), "--quiet"]) == 0
    written, loaded, quantized = ss.load(output), ss.load(path), ss.quantize(path)
    assert loaded.metadata == quantized.metadata == written.metadata  # type: ignore[union-attr]
    assert ss.verify(path, against="reference").spikes_equal


def test_ones_own_module_goes_in(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.ReLU(), nn.Linear(20, 10))
    trained = ss.train(model, "digits", epochs=3)
    by_module, by_training = (
        ss.quantize(ss.convert(ann, "digits", num_steps=4)) for ann in (model, trained)
    )
    assert ss.simulate(by_module, "digits").result == ss.simulate(by_training, "digits").result
    assert ss.trace(model, (1, 8, 8)).network.input_shape == (1, 8, 8)
    with pytest.raises(ss.SpikeshipError, match="a module of your own cannot be built again"):
        ss.save(trained, tmp_path / "x.safetensors")


def test_strings_are_paths_wherever_these_are_wanted(
    stages: tuple[object, object, object, FixedGraph], tmp_path: Path
) -> None:
    ann, snn, _, net = stages
    path = str(ss.save(ann, tmp_path / "a.safetensors"))  # type: ignore[arg-type]
    few = ss.load_data("digits", limit=40)
    ss.finetune(snn, few, teacher=path, epochs=1)  # type: ignore[arg-type]
    ss.simulate(net, "digits", limit=2, record=str(tmp_path / "r.npz"))
    assert (tmp_path / "r.npz").is_file()
    with pytest.raises(ss.SpikeshipError, match=r"none\.json"):
        ss.what_if(net, "digits", limit=2, ann=path, gpu_result=str(tmp_path / "none.json"))


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda net: ss.train("vgg55", "digits"), "'vgg55' is not known"),
        (lambda net: ss.estimate(net, "digits", chip="loihi9"), "'loihi9' is unknown"),
        (lambda net: ss.estimate(net, "digits", picture="x.svg"), "no option 'picture'"),
        (lambda net: ss.what_if(net, "digits", output="x"), "no option 'output'"),
        (lambda net: ss.train("vgg5", "digits", test=False), "no option 'test'"),
        (lambda net: ss.stream(net, images=0), "give at least 1"),
        (lambda net: ss.load_data("nothing"), "'nothing' is not known"),
        (lambda net: ss.quantize("missing.net", weight_bits=4), "holds integers already"),
    ],
)
def test_what_cannot_be_taken_is_a_spikeship_error(
    stages: tuple[object, object, object, FixedGraph],
    call: Callable[[FixedGraph], object],
    reason: str,
) -> None:
    with pytest.raises(ss.SpikeshipError, match=reason):
        call(stages[3])


def test_unknown_options_are_refused_with_those_there_are() -> None:
    with pytest.raises(ss.SpikeshipError, match="convert: has no option 'steps'; it has num_steps"):
        ss.convert(nn.Linear(2, 2), "digits", steps=3)
