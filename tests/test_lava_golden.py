"""Lava's own golden cases: what its wheel's tests expect, given by the reference.

The expectations are read from the wheel as it is installed: the statements of a test function
that build its inputs and what it expects, and the recorded results of its convolutions.
"""

import ast
import importlib.metadata
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from spikeship.hw_models.events.recording import Recording
from spikeship.hw_models.graph import (
    AnySynapse,
    Conv,
    Dense,
    FixedGraph,
    Identity,
    Input,
    Neuron,
    Node,
    Readout,
    SigmaDelta,
)
from spikeship.hw_models.reference import interpreter as reference
from spikeship.hw_models.reference import sums as reference_sums

Array = NDArray[np.int64]


def _folder() -> Path | None:
    """Where the wheel keeps its tests of Processes."""
    if importlib.util.find_spec("lava") is None:
        return None
    try:
        folder = Path(str(importlib.metadata.distribution("lava-nc").locate_file("tests")))
    except importlib.metadata.PackageNotFoundError:
        return None
    return folder / "lava" / "proc"


FOLDER = _folder()
pytestmark = pytest.mark.skipif(
    FOLDER is None or not FOLDER.is_dir(), reason="needs the tests in lava-nc's wheel"
)


def _said(file: str, test: str, *names: str) -> dict[str, Any]:
    """Values that a test function of the wheel gives these names, in its own words."""
    assert FOLDER is not None
    tree = ast.parse((FOLDER / file).read_text())
    owner, _, function = test.rpartition(".")
    bodies = [
        node
        for scope in ast.walk(tree)
        if isinstance(scope, ast.ClassDef) and scope.name == owner
        for node in scope.body
        if isinstance(node, ast.FunctionDef) and node.name == function
    ]
    assert len(bodies) == 1, f"lava-nc has no test {test} in {file} any more"
    kept = [line for line in bodies[0].body if _assigned(line) in names]
    space: dict[str, Any] = {"np": np}
    exec(compile(ast.Module(kept, []), file, "exec"), space)
    assert all(name in space for name in names)
    return space


def _assigned(line: ast.stmt) -> str | None:
    """Name that a statement assigns to, as a whole or in part."""
    if not isinstance(line, ast.Assign | ast.AugAssign):
        return None
    target = line.targets[0] if isinstance(line, ast.Assign) else line.target
    while isinstance(target, ast.Subscript):
        target = target.value
    return target.id if isinstance(target, ast.Name) else None


def _run(node: Node, synapse: AnySynapse, source: Input, sent: Array) -> Recording:
    """Run one node, fed by one synapse, on messages (steps, *shape)."""
    graph = FixedGraph(source, (node,), (synapse,), gated=False)
    return reference.run(graph, sent[None])


def _driven(node: Node, sent: Array) -> Recording:
    """Run one node on what arrives at it, (steps, neurons)."""
    source = Input("input", sent.shape[1:], "spikes", max_message=max(1, int(np.abs(sent).max())))
    return _run(node, Identity(name="i", source="input", target="n", delay=0), source, sent)


def test_neurons_driven_by_a_bias() -> None:
    said = _said(
        "lif/test_models.py",
        "TestLIFProcessModelsFixed.test_bitacc_pm_no_decay",
        "shape",
        "num_steps",
        "expected_spk_data",
    )
    node = Neuron(
        "n",
        said["shape"],
        vth=8,
        du=0,
        bias_mant=2,
        bias_exp=6,
        reset="zero",  # type: ignore[arg-type]
    )
    silence = np.zeros((said["num_steps"], *said["shape"]), np.int64)
    spikes = _driven(node, silence).nodes["n"][0]
    np.testing.assert_array_equal(spikes, said["expected_spk_data"])
    assert spikes.any()


@pytest.mark.parametrize(
    ("test", "decays", "kind", "expected"),
    [
        ("test_bitacc_pm_impulse_du", {"du": 2047}, "currents", "expected_u_timeseries"),
        ("test_bitacc_pm_impulse_dv", {"du": 0, "dv": 2048}, "potentials", "expected_v_timeseries"),
    ],
)
def test_the_response_to_an_impulse(
    test: str, decays: dict[str, int], kind: str, expected: str
) -> None:
    said = _said(
        "lif/test_models.py",
        f"TestLIFProcessModelsFixed.{test}",
        "shape",
        "num_steps",
        expected,
    )
    sent = np.zeros((said["num_steps"], *said["shape"]), np.int64)
    sent[0] = 128
    node = Neuron("n", said["shape"], vth=256, reset="zero", **decays)  # type: ignore[arg-type]
    found = getattr(_driven(node, sent), kind)["n"][0, :, 0]
    assert found.tolist() == said[expected]


def test_a_bias_with_its_exponent() -> None:
    said = _said(
        "lif/test_models.py",
        "TestLIFProcessModelsFixed.test_bitacc_pm_scaling_of_bias",
        "bias_mant",
        "bias_exp",
    )
    mant, exp = said["bias_mant"], said["bias_exp"]
    node = Neuron("n", (1,), vth=2**17 - 1, du=0, bias_mant=mant, bias_exp=exp)  # type: ignore[arg-type]
    found = _driven(node, np.zeros((1, 1), np.int64)).potentials["n"]
    assert found.item() == mant * 2**exp


def test_rest_after_a_spike() -> None:
    """Lava rests in floating point only; a weight unit is 64 of ours."""
    said = _said(
        "lif/test_models.py",
        "TestLIFRefractory.test_float_model",
        "num_neurons",
        "num_steps",
        "refractory_period",
        "v_expected",
    )
    neurons = said["num_neurons"]
    node = Neuron(
        "n",
        (neurons,),
        vth=np.array(4),
        bias_mant=np.arange(1, neurons + 1),
        bias_exp=np.array(6),
        reset="zero",
        refractory=said["refractory_period"],
    )
    found = _driven(node, np.zeros((said["num_steps"], neurons), np.int64)).potentials["n"][0]
    np.testing.assert_array_equal(found.T, 64 * said["v_expected"])


def _held(weights: NDArray[Any], num_weight_bits: int) -> Array:
    """Weights as Lava's Dense holds them: clipped, then their low bits cleared by floor."""
    whole = np.asarray(weights).astype(np.int64)
    mixed = bool(whole.min() < 0 < whole.max())
    cleared = 8 - num_weight_bits + mixed
    clipped = np.clip(whole, -256 if mixed else 0, 255)
    return (clipped >> cleared) << cleared


DENSE = [
    ("fan_out_excitatory", {}),
    ("fan_out_mixed_sign", {}),
    ("fan_out_weight_exp", {"weight_exp": 1}),
    ("fan_out_weight_precision", {"num_weight_bits": 7}),
    ("fan_in_mixed_sign", {}),
]


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(("test", "options"), DENSE)
def test_dense_sums(test: str, options: dict[str, int], late: bool) -> None:
    """With delays 0, 1, 2 by synapse, or 2 for all, too."""
    owner = "TestDelayDenseProcessModel" if late else "TestDenseProcessModelFixed"
    names = ["shape", "num_steps", "send_at_times", "weights", "expected_spk_data"]
    said = _said(
        "dense/test_models.py",
        f"{owner}.test_bitacc_pm_{test}{'_delay' * late}",
        *names,
        *["delays"] * late,
    )
    out, inputs = said["shape"]
    delays = said["delays"] if late else None
    synapse = Dense(
        name="fc",
        source="input",
        target="n",
        weight=_held(said["weights"], options.get("num_weight_bits", 8)),
        delays=np.full((1, 1), delays) if isinstance(delays, int) else delays,
        **options,
    )
    sent = np.repeat(said["send_at_times"].astype(np.int64)[:, None], inputs, axis=1)
    source = Input("input", (inputs,), "spikes", signed=False)
    steps = said["num_steps"]
    potentials = _run(Readout("n", (out,)), synapse, source, sent).nodes["n"][0, :steps]
    found = np.diff(potentials, axis=0, prepend=np.zeros((1, out), np.int64))
    np.testing.assert_array_equal(found, said["expected_spk_data"])
    assert found.any()


def test_graded_messages_and_a_negative_exponent() -> None:
    said = _said(
        "graded/test_graded.py",
        "TestGradedVecProc.test_gradedvec_dot_dense",
        *("num_steps", "weights1", "inp_data", "weight_exp", "ww", "expected_out"),
    )
    assert said["ww"].shape == (10, 1)
    synapse = Dense(
        name="fc",
        source="input",
        target="n",
        weight=said["ww"].astype(np.int64),
        weight_exp=-said["weight_exp"],
    )
    sent = said["inp_data"].T.astype(np.int64)
    source = Input("input", (1,), "spikes", max_message=20000)
    potentials = _run(Readout("n", (10,)), synapse, source, sent).nodes["n"][0]
    found = np.diff(potentials, axis=0, prepend=np.zeros((1, 10), np.int64))
    np.testing.assert_array_equal(found[1:].T, said["expected_out"])
    assert (found < 0).any()


def test_sigma_adds_up() -> None:
    said = _said("sdn/test_models.py", "TestSigmaModels.test_sigma_decoding_fixed", "num_steps")
    wave = (np.sin(0.1 * np.arange(said["num_steps"])) * (1 << 12)).astype(np.int64)
    sent = np.diff(wave, prepend=0)[:, None]
    np.testing.assert_array_equal(_driven(Readout("n", (1,)), sent).nodes["n"][0, :, 0], wave)


@pytest.mark.parametrize("cum_error", [False, True])
def test_what_sigma_delta_sends_adds_up_to_its_input(cum_error: bool) -> None:
    """Its threshold there is beyond 24 bits, so one that is not; the claim is Lava's, tighter."""
    name = f"test_reconstruction_{'cum_error_' * cum_error}fixed"
    said = _said(
        "sdn/test_models.py",
        f"TestSigmaDeltaModels.{name}",
        *("num_steps", "spike_exp", "state_exp"),
    )
    spike_exp, state_exp = said["spike_exp"], said["state_exp"]
    wave = np.sin(0.1 * np.arange(said["num_steps"])) * (1 << spike_exp + state_exp)
    sent = np.diff(wave, prepend=0).astype(np.int64)[:, None] * (1 << 6)
    node = SigmaDelta(
        "n",
        (1,),
        vth=np.array(10),
        activation="unit",
        spike_exp=spike_exp,
        state_exp=state_exp,
        cum_error=cum_error,
    )
    messages = _driven(node, sent).nodes["n"][0]
    kept = np.cumsum(sent, axis=0) - (np.cumsum(messages, axis=0) << state_exp)
    # what is kept back is below the threshold; each message lost less than one by its floor
    lost = np.count_nonzero(messages) << state_exp
    assert np.abs(kept).max() < (10 << spike_exp + state_exp) + lost
    assert 3 < np.count_nonzero(messages) < len(messages)


@pytest.mark.parametrize("number", range(10))
def test_recorded_convolutions(number: int) -> None:
    """Inputs there are fractions: taken as 30-bit integers, and the result divided again."""
    assert FOLDER is not None
    with np.load(FOLDER / "conv" / "ground_truth" / f"gt_conv_paris_{number}.npz") as file:
        case = {key: file[key] for key in file.files}
    weight = case["weights"].transpose(0, 3, 2, 1)[:, :, ::-1, ::-1]
    synapse = Conv(
        name="conv",
        source="input",
        target="n",
        weight=weight,
        num_weight_bits=9,
        groups=int(case["groups"]),
        **{key: tuple(case[key][::-1]) for key in ("stride", "padding", "dilation")},  # type: ignore[arg-type]
    )
    whole = np.rint(case["input"].transpose(2, 1, 0) * 2.0**30).astype(np.int64)
    expected = case["out_gt"].transpose(2, 1, 0)
    assert synapse.output_shape(whole.shape) == expected.shape
    found = reference_sums.apply(synapse, whole[None], expected.shape)[0] / 2.0**30
    np.testing.assert_allclose(found, expected, atol=2e-3)
