"""Quantization-aware fine-tuning: what trains, and what is written, is what the chip computes."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spiking import chain, images, residual
from torch import Tensor, nn
from torch.nn import functional

from spikeship.deploy.check import DeployError
from spikeship.deploy.quantize import quantize
from spikeship.hw_models import fixed
from spikeship.hw_models.graph import FixedGraph, Neuron, Readout
from spikeship.hw_models.lava import runner
from spikeship.hw_models.recording import first_difference
from spikeship.hw_models.simulator import simulate
from spikeship.hw_models.weight_grid import WeightGrid
from spikeship.training.convert import convert
from spikeship.training.encoding import InputCoding, encode
from spikeship.training.from_nir import from_nir, read_nir
from spikeship.training.integer_grid import GridError
from spikeship.training.network import INPUT, Add, Layer, Network
from spikeship.training.neurons import HeldDropout, Scale, SpikingNetwork, SpikingNeuron
from spikeship.training.observe import observe_ranges
from spikeship.training.qat import AwareNetwork, quantization_aware
from spikeship.training.rounding import WeightRounding, bias_units
from spikeship.training.stdb import finetune, stdb_config
from spikeship.training.to_nir import to_nir, write_nir

STEPS = 9


def mixed() -> SpikingNetwork:
    """A pool by 3, groups, three branches, and neurons with a theta, leak and V0 of their own."""
    torch.manual_seed(0)

    def each(*values: float) -> Tensor:
        return torch.tensor(values).reshape(-1, 1, 1)

    theta = torch.rand(3, 2, 2) * 0.4 + 0.3
    layers = [
        Layer("conv", nn.Conv2d(2, 4, 3, padding=1), (INPUT,)),
        Layer(
            "own leaks",
            SpikingNeuron(0.3, leak=each(1.0, 0.9, 0.75, 0.98), v0=each(0.0, 0.1, -0.2, 0.05)),
            ("conv",),
        ),
        Layer("pool", nn.AvgPool2d(3), ("own leaks",)),
        Layer("grouped", nn.Conv2d(4, 4, 3, padding=1, groups=2), ("pool",)),
        Layer("skip", Scale(each(0.7, 0.5, 0.3, 0.9)), ("pool",)),
        Layer("one", nn.Conv2d(4, 4, 1), ("pool",)),
        Layer("sum", Add(), ("grouped", "skip", "one")),
        Layer("own thetas", SpikingNeuron(each(0.2, 0.3, 0.4, 0.5)), ("sum",)),
        Layer("same", nn.Conv2d(4, 4, 3, padding=1), ("own thetas",)),
        Layer("plain sum", Add(), ("same", "own thetas")),
        Layer("after", SpikingNeuron(0.9), ("plain sum",)),
        Layer("strided", nn.Conv2d(4, 3, 2, stride=2), ("after",)),
        Layer("halved", SpikingNeuron(theta, v0=theta / 2, leak=0.95), ("strided",)),
        Layer("flat", nn.Flatten(), ("halved",)),
        Layer("dense", nn.Linear(12, 20), ("flat",)),
        Layer("hard", SpikingNeuron(0.2, v0=0.1), ("dense",)),
        Layer("fc", nn.Linear(20, 5), ("hard",)),
    ]
    snn = SpikingNetwork(Network(layers, (2, 12, 12)), InputCoding("direct", 0.05, 40), STEPS)
    gains = {"conv": 0.1, "grouped": 2.0, "one": 2.0, "same": 2.0, "strided": 2.0}
    with torch.no_grad():
        for name, gain in (gains | {"dense": 3.0, "fc": 3.0}).items():
            snn.network[name].module.get_parameter("weight").mul_(gain)
    return snn.eval()


def one_sign() -> SpikingNetwork:
    """A layer whose weights are all positive: it may hold odd ones, as long as none is negative."""
    ann = chain(bias=True)
    weight = ann["features.4"].module.get_parameter("weight")
    with torch.no_grad():
        weight.abs_()
    return convert(ann, images(6), num_steps=STEPS)


NETWORKS: dict[str, Callable[[], SpikingNetwork]] = {
    "chain": lambda: convert(chain(bias=True), images(6), num_steps=STEPS),
    "identity": lambda: convert(residual(), images(6), num_steps=STEPS, leak=0.97),
    "strided": lambda: convert(residual(strided=True), images(6), num_steps=STEPS),
    "zero": lambda: convert(chain(), images(6), num_steps=STEPS, reset="zero", leak=0.9),
    "direct": lambda: convert(chain(bias=True), images(6), num_steps=STEPS, encoding="direct"),
    "float64": lambda: convert(chain(bias=True).double(), images(6), num_steps=STEPS),
    "mixed": mixed,
    "one sign": one_sign,
}


def pictures(snn: SpikingNetwork, count: int) -> Tensor:
    shape = snn.network.input_shape
    return images(count, seed=3) if shape == (2, 8, 8) else torch.randn(count, *shape)


def messages(snn: SpikingNetwork, count: int = 12, seed: int = 1) -> Tensor:
    torch.manual_seed(seed)
    return encode(pictures(snn, count), snn.coding, STEPS, seed=seed)


def assert_equal(aware: SpikingNetwork, graph: FixedGraph, sent: Tensor) -> None:
    """Every spike, every step of the readout and the scores are the integers'."""
    found = simulate(graph, sent.numpy(), record=True)
    assert found.recording is not None
    assert isinstance(graph.output, Readout)
    scale, fired = graph.output.scale, 0.0
    with torch.no_grad():
        for name, weighted, spikes in aware.walk(sent):
            depth = graph.depths[name]
            local = found.recording.nodes[name][:, depth : depth + STEPS]
            if spikes is None:
                steps = np.rint(weighted.transpose(0, 1).double().numpy() / scale)
                np.testing.assert_array_equal(steps.cumsum(1), local)
            else:
                np.testing.assert_array_equal(spikes.transpose(0, 1).numpy(), local)
                fired += local.mean()
        scores = aware(sent).numpy()
    assert fired > 0.05, "nothing to compare"
    # to the last bit, so that equal sums are equal scores and the first of them is the class
    np.testing.assert_array_equal(scores, (found.scores * scale).astype(scores.dtype))


def train(aware: AwareNetwork, steps: int = 6, rate: float = 3e-3) -> None:
    """Real optimizer steps that move weights, biases and what neurons learn."""
    optimizer = torch.optim.Adam(aware.parameters(), rate)
    target = torch.arange(24) % 5
    before = copy.deepcopy(aware.state_dict())
    for step in range(steps):
        for neuron in aware.neurons.values():
            neuron.constrain()
        scores = aware.train()(messages(aware, 24, seed=step)) / STEPS
        optimizer.zero_grad()
        functional.cross_entropy(scores, target).backward()
        optimizer.step()
    for neuron in aware.neurons.values():
        neuron.constrain()
    aware.eval()
    for name, value in aware.named_parameters():
        assert not torch.equal(value, before[name]), f"{name} did not learn"
    aware.ranges = observe_ranges(aware, pictures(aware, 24))


@pytest.mark.parametrize("bits", [8, 5])
@pytest.mark.parametrize("kind", NETWORKS)
def test_what_trains_is_what_the_chip_computes(kind: str, bits: int) -> None:
    snn = NETWORKS[kind]()
    graph = quantize(to_nir(snn), weight_bits=bits)
    aware = quantization_aware(snn, graph)
    assert_equal(aware, graph, messages(aware))
    train(aware)
    written = to_nir(aware)
    tuned = quantize(written, weight_bits=bits)
    changed = [
        not np.array_equal(a.weight, b.weight)
        for a, b in zip(graph.synapses, tuned.synapses, strict=True)
        if not hasattr(a, "indptr")
    ]
    assert all(changed), "no integer changed"
    assert_equal(aware, tuned, messages(aware))
    for module in aware.modules():  # training is no other arithmetic, but for dropout
        if isinstance(module, HeldDropout):
            module.p = 0.0
    assert_equal(aware.train(), tuned, messages(aware))
    # the file is all there is to it
    again = from_nir(written)
    assert isinstance(again, AwareNetwork)
    assert_equal(again, tuned, messages(aware))
    assert_equal(again, quantize(to_nir(again), weight_bits=bits), messages(aware))
    assert again.ranges == aware.ranges


def test_learnt_thresholds_and_leaks_stay_what_the_chip_holds() -> None:
    snn = mixed()
    for neuron in snn.neurons.values():
        neuron.leak = torch.tensor(0.9)
    graph = quantize(to_nir(snn))
    aware = quantization_aware(snn, graph)
    for neuron in aware.neurons.values():
        neuron.learn(threshold=True, leak=True)
    train(aware, rate=0.02)
    tuned = quantize(to_nir(aware))
    assert_equal(aware, tuned, messages(aware))
    for before, after in zip(graph.nodes[:-1], tuned.nodes[:-1], strict=True):
        assert isinstance(before, Neuron) and isinstance(after, Neuron)
        assert np.any(before.vth != after.vth)
        assert np.any(before.dv != after.dv)
    with torch.no_grad():
        for neuron in aware.neurons.values():
            neuron.threshold.copy_(torch.where(torch.rand_like(neuron.threshold) < 0.5, -1, 1e9))
            neuron.leak.copy_(torch.where(torch.rand_like(neuron.leak) < 0.5, -1.0, 2.0))
            neuron.constrain()
            units = neuron.threshold.double() / neuron.scale
            assert units.min() >= 1 and units.max() <= fixed.VTH_LIMIT * (1 + 1e-6)
            assert neuron.leak.min() >= 1 / 4096 and neuron.leak.max() <= 1
    wild = quantize(to_nir(aware))
    for node in wild.nodes[:-1]:
        assert isinstance(node, Neuron)
        assert node.vth.min() >= 1 and node.vth.max() <= fixed.VTH_LIMIT
        assert node.dv.min() >= 0 and node.dv.max() <= 4095


def test_the_biases_of_a_sum_are_one() -> None:
    """The chip rounds their sum, which is not the sum of what each would be rounded to."""
    snn = NETWORKS["strided"]()
    branches = [snn.network[name].module for name in ("conv2", "down")]
    graph = quantize(to_nir(snn))
    units = torch.tensor(graph.node("relu2").scale.reshape(-1) / 64)  # type: ignore[union-attr]
    with torch.no_grad():
        for module in branches:
            module.get_parameter("bias").copy_(units * (torch.arange(6) * 1000 + 0.3))
    graph = quantize(to_nir(snn))
    assert list(graph.node("relu2").bias.ravel()[:3]) == [1, 2001, 4001]  # type: ignore[union-attr]
    aware = quantization_aware(snn, graph)
    for _ in range(2):
        first, second = (aware.network[name].module for name in ("conv2", "down"))
        node = graph.node("relu2")
        assert isinstance(node, Neuron)
        (held,) = [m.bias for m in (first, second) if m.bias is not None]
        np.testing.assert_array_equal(64 * held.detach().numpy(), node.bias.ravel())
        train(aware, steps=2)
        graph = quantize(to_nir(aware))


def test_finetune_takes_it_as_any_network_and_real_lava_agrees(tmp_path: Path) -> None:
    snn = NETWORKS["identity"]()
    aware = quantization_aware(snn, quantize(to_nir(snn), weight_bits=6))
    data, labels = images(40), torch.arange(40) % 5
    config = replace(stdb_config((2, 8, 8)), epochs=1, batch_size=20)
    tuned, _ = finetune(aware, lambda index: data[index], labels, config, quiet=True)
    assert isinstance(tuned, AwareNetwork)
    write_nir(tmp_path / "tuned.nir", to_nir(tuned))
    graph = quantize(read_nir(tmp_path / "tuned.nir"), weight_bits=6)
    sent = messages(tuned, 2)
    assert_equal(tuned, graph, sent)
    lava = runner.run(graph, sent.numpy(), stall_s=60).recording
    found = simulate(graph, sent.numpy(), record=True).recording
    assert found is not None
    assert first_difference(graph, found, lava) is None


def test_the_network_it_came_from_and_copies_stay_as_they_are() -> None:
    snn = NETWORKS["strided"]()
    before = copy.deepcopy(snn.state_dict())
    random = torch.get_rng_state()
    aware = quantization_aware(snn, quantize(to_nir(snn)))
    twin = copy.deepcopy(aware)
    real = twin.rounded()
    assert torch.equal(torch.get_rng_state(), random)
    kept = aware(messages(aware))
    train(twin, steps=2)
    assert torch.equal(aware(messages(aware)), kept)
    assert all(torch.equal(value, before[key]) for key, value in snn.state_dict().items())
    for name, neuron in real.neurons.items():  # half a step off what they were, at most
        theta = snn.neurons[name].threshold
        assert type(neuron) is SpikingNeuron
        assert torch.allclose(neuron.threshold.expand_as(theta + neuron.threshold), theta, rtol=0.1)
    assert type(real.network["conv1"].module) is nn.Conv2d


def test_the_proof_of_overflow_is_made_anew() -> None:
    snn = NETWORKS["chain"]()
    graph = quantize(to_nir(snn))
    aware = quantization_aware(snn, graph)
    assert {n.overflow for n in graph.nodes if isinstance(n, Neuron)} == {"proved"}
    with torch.no_grad():
        weight = aware.network["hidden"].module.get_parameter("parametrizations.weight.original")
        weight.fill_(1e6)  # rounded to the top of the grid
    tuned = quantize(to_nir(aware))
    assert tuned.input_bound("relu") == 32 * 254
    assert_equal(aware, tuned, messages(aware))

    snn = NETWORKS["direct"]()
    aware = quantization_aware(snn, quantize(to_nir(snn)))
    with torch.no_grad():
        first = aware.network["features.0"].module
        first.get_parameter("parametrizations.weight.original").fill_(1e6)
    aware.ranges = observe_ranges(aware, images(4) + 3)
    with pytest.raises(DeployError, match=r"'features.1': its input reaches \d+ .* lower learning"):
        quantize(to_nir(aware))


def test_other_widths_are_refused_and_other_chips_named() -> None:
    snn = NETWORKS["chain"]()
    written = to_nir(quantization_aware(snn, quantize(to_nir(snn), weight_bits=6)))
    with pytest.raises(DeployError, match="fine-tuned for 6-bit weights, not 8; quantize with 6"):
        quantize(written, weight_bits=8)
    graph = quantize(written, chip="loihi1")
    assert {synapse.num_weight_bits for synapse in graph.synapses} == {6}
    assert graph.metadata["notes"] == [
        "fine-tuned for the integers of loihi2; loihi1 is given the same"
    ]
    again = from_nir(written)
    assert isinstance(again, AwareNetwork)
    quantize(to_nir(again.rounded()), weight_bits=4)  # real numbers once more, free for any width


def test_what_does_not_belong_together_is_refused_in_a_line() -> None:
    snn = NETWORKS["chain"]()
    graph = quantize(to_nir(snn))
    cases: list[tuple[Any, Any]] = [
        (lambda: quantization_aware(NETWORKS["strided"](), graph), GridError),
        (lambda: quantize(spoilt), DeployError),
    ]
    spoilt = to_nir(quantization_aware(snn, graph))
    spoilt.nodes["hidden"].weight[0, 0] *= 1.01
    spoilt.nodes["hidden"].weight[0, 1] += 0.003
    for call, kind in cases:
        with pytest.raises(kind) as caught:
            call()
        assert "\n" not in str(caught.value)
    twice = replace(graph, synapses=(*graph.synapses, graph.synapses[-1]))
    with pytest.raises(GridError, match="'classes': stands twice"):
        quantization_aware(snn, twice)
    aware = quantization_aware(snn, graph)
    with (
        torch.autocast("cpu", dtype=torch.bfloat16),
        pytest.raises(ValueError, match="integers need float32"),
    ):
        aware(messages(aware))


def test_sums_that_a_device_rounds_are_whole_again() -> None:
    """Winograd convolutions are off by some thousandths of a weight unit, and by more."""
    snn = NETWORKS["chain"]()
    graph = quantize(to_nir(snn))
    aware = quantization_aware(snn, graph)
    for layer in aware.network.layers:
        if isinstance(layer.module, nn.Conv2d | nn.Linear):

            def off(module: nn.Module, inputs: Any, result: Tensor) -> Tensor:
                return result + 0.2 * (torch.rand_like(result) - 0.5) * (result.abs().max() > 10)

            layer.module.register_forward_hook(off)
    assert_equal(aware, graph, messages(aware))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_are_those_of_plain_autograd(checkpointing: bool) -> None:
    """What the layers keep in bytes and make again must be the rounded values."""
    snn = mixed()
    aware = quantization_aware(snn, quantize(to_nir(snn)))
    sent, target = messages(aware, 6), torch.arange(6) % 5
    aware.checkpointing = checkpointing
    functional.cross_entropy(aware(sent), target).backward()
    found = {name: value.grad for name, value in aware.named_parameters()}
    values = {INPUT: sent.transpose(0, 1).flatten(0, 1).float()}
    for layer in aware.network.layers:
        inputs = [values[name] for name in layer.inputs]
        if isinstance(layer.module, SpikingNeuron):
            inputs = [inputs[0].unflatten(0, (STEPS, 6))]
        result = layer.module(*inputs)
        values[layer.name] = (
            result.flatten(0, 1) if isinstance(layer.module, SpikingNeuron) else result
        )
    aware.zero_grad()
    scores = values["fc"].unflatten(0, (STEPS, 6)).sum(0)
    functional.cross_entropy(scores, target).backward()
    for name, value in aware.named_parameters():
        assert value.grad is not None and bool(value.grad.any())
        torch.testing.assert_close(found[name], value.grad, rtol=1e-4, atol=1e-6)


# the roundings themselves


@settings(max_examples=100)
@given(
    seed=st.integers(0, 10**6),
    bits=st.integers(2, 8),
    exponent=st.integers(0, 3),
    side=st.integers(1, 3),
    signs=st.sampled_from(["both", "positive", "negative", "nearly negative"]),
)
def test_weights_round_as_the_quantizers(
    seed: int, bits: int, exponent: int, side: int, signs: str
) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(4, 3, 2, 2)).astype(np.float32)
    if signs != "both":
        weight = np.abs(weight) * (1 if signs == "positive" else -1)
    if signs == "nearly negative":
        weight[0, 0, 0, 0] = 1e-6
    factor = 1.0 / side**2
    grid = WeightGrid.of(weight, bits)
    scale = grid.least_scale(weight.astype(np.float64) * factor) * rng.uniform(0.9, 1.5, 4)
    column = scale.reshape(4, 1, 1, 1) / 2.0**exponent
    expected = grid.round(weight.astype(np.float64) * factor / column / 2.0**exponent)
    if not np.any(expected > 0):
        expected = np.maximum(expected, grid.one_sign_low)
    assert fixed.fits_weights(expected.astype(np.int64), bits)
    tensor = torch.from_numpy(weight)
    scales = torch.from_numpy(scale / 2.0**exponent)
    rounding = WeightRounding(tensor, bits, scales, exponent, factor, 1.0)
    np.testing.assert_array_equal(rounding.units(tensor).numpy(), expected)


def test_gradients_pass_but_not_beyond_the_ends() -> None:
    weight = torch.tensor([[0.3, 5.04, 5.1, -5.04, -5.1]])
    scale = torch.tensor([0.01], dtype=torch.float64)
    rounding = WeightRounding(weight, 8, scale, 0, 0.25, 1.0)
    units = rounding(weight)
    np.testing.assert_array_equal(units.detach().numpy(), [[8, 126, 128, -126, -128]])
    wide = torch.tensor([[0.3, 50.0, 50.0, -50.0, -50.0]], requires_grad=True)
    units = rounding(wide)
    np.testing.assert_array_equal(units.detach().numpy(), [[8, 254, 254, -256, -256]])
    units.backward(torch.tensor([[1.0, 1.0, -1.0, 1.0, -1.0]]))
    assert wide.grad is not None  # the weight units of a real one: 0.25 / 0.01
    np.testing.assert_allclose(wide.grad.numpy(), [[25.0, 25.0, 0.0, 0.0, -25.0]])


@given(
    st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=8),
    st.floats(1e-4, 10.0),
)
def test_a_rounded_bias_is_rounded_to_itself(bias: list[float], scale: float) -> None:
    scales = np.full(len(bias), scale)
    once = bias_units(np.array(bias), scales)
    kept = (once * scales).astype(np.float32).astype(np.float64)  # as a file holds it
    np.testing.assert_array_equal(bias_units(kept, scales), once)
