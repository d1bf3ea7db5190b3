"""Quantization-aware fine-tuning: what trains, and what is written, is what the chip computes."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from spiking import chain, images, residual
from torch import Tensor, nn
from torch.nn import functional

from spikeship.deploy.compiler.quantize import TRAINING_ROOM, quantize
from spikeship.deploy.errors import DeployError
from spikeship.hw_models import fixed
from spikeship.hw_models.events.recording import first_difference
from spikeship.hw_models.graph import Conv, FixedGraph, Neuron, Readout
from spikeship.hw_models.lava import runner
from spikeship.hw_models.simulator.simulator import simulate
from spikeship.training.ann.network import INPUT, Add, Layer, Network
from spikeship.training.conversion.convert import convert
from spikeship.training.finetuning.stdb import finetune, stdb_config
from spikeship.training.nir_io.from_nir import from_nir, read_nir
from spikeship.training.nir_io.to_nir import to_nir, write_nir
from spikeship.training.quantization.integer_grid import GridError
from spikeship.training.quantization.integers import IntegerNumbers, integer_neuron
from spikeship.training.quantization.qat import grid_of, in_real_numbers, quantization_aware
from spikeship.training.snn.encoding import InputCoding, encode
from spikeship.training.snn.neurons import HeldDropout, Scale, SpikingNeuron
from spikeship.training.snn.observe import observe_ranges
from spikeship.training.snn.spiking_network import SpikingNetwork

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


def nearly_one_sign() -> SpikingNetwork:
    """A layer whose few positive weights round to zero: negative ones get the bit of the sign."""
    ann = chain(bias=True)
    layer = ann["features.4"].module
    with torch.no_grad():
        weight = layer.get_parameter("weight")
        weight.abs_().mul_(-1.0)
        weight.flatten()[::7] = 1e-7
        layer.get_parameter("bias").fill_(1.0)
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
    "nearly one sign": nearly_one_sign,
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


def train(aware: SpikingNetwork, steps: int = 6, rate: float = 3e-3) -> None:
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
    # so few steps at so high a rate make sums of direct input several times as large
    graph = quantize(to_nir(snn), weight_bits=bits, headroom=4.0)
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
    assert grid_of(again) is not None
    assert_equal(again, tuned, messages(aware))
    assert_equal(again, quantize(to_nir(again), weight_bits=bits), messages(aware))
    assert again.ranges == aware.ranges


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_a_sign_that_rounds_away_is_lost_in_training_too(bits: int) -> None:
    snn = nearly_one_sign()
    graph = quantize(to_nir(snn), weight_bits=bits)
    (held,) = (s.weight for s in graph.synapses if s.name == "features.4" and isinstance(s, Conv))
    step = 1 << (8 - bits)
    assert held.max() == 0 and held.min() == -(255 // step * step)
    aware = quantization_aware(snn, graph)
    assert_equal(aware, graph, messages(aware))
    tuned = quantize(to_nir(aware), weight_bits=bits)
    for before, after in zip(graph.synapses, tuned.synapses, strict=True):
        if isinstance(before, Conv) and isinstance(after, Conv):
            np.testing.assert_array_equal(before.weight, after.weight)
    assert_equal(from_nir(to_nir(aware)), tuned, messages(aware))


def test_learnt_thresholds_and_leaks_stay_what_the_chip_holds() -> None:
    snn = mixed()
    for neuron in snn.neurons.values():
        neuron.leak = torch.tensor(0.9)
    snn.ranges = observe_ranges(snn, pictures(snn, 24))
    graph = quantize(to_nir(snn), headroom=4.0)
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
            units = neuron.threshold.double() / neuron.numbers.scale
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
    assert grid_of(tuned) is not None
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
    real = in_real_numbers(twin)
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
    assert tuned.input_bound("relu") == 32 * 255  # no negative weight is left
    assert_equal(aware, tuned, messages(aware))


@pytest.mark.parametrize(("units", "is_held"), [(2**16, True), (2**16 + 1, False)])
def test_observed_sums_that_grew_too_far_are_refused(units: int, is_held: bool) -> None:
    """As much as without training in integers: half of what 24 bits hold."""
    snn = NETWORKS["direct"]()
    aware = quantization_aware(snn, quantize(to_nir(snn)))
    with torch.no_grad():
        first = aware.network["features.0"].module
        first.get_parameter("parametrizations.weight.original").fill_(1e6)
    seen = observe_ranges(aware, images(4) + 3)
    assert seen["features.1"][1] > 2**16
    aware.ranges = seen | {"features.1": (-1.0, float(units))}
    if is_held:
        node = quantize(to_nir(aware)).node("features.1")
        assert isinstance(node, Neuron) and node.overflow == "observed"
        return
    with pytest.raises(DeployError, match=r"'features.1': its input reaches 65537 .* lower learni"):
        quantize(to_nir(aware))


def test_headroom_is_room_for_training() -> None:
    """Observed sums are at the limit before, and may grow by the factor after."""
    snn = NETWORKS["direct"]()
    weight = snn.network["features.0"].module.get_parameter("weight")
    with torch.no_grad():
        weight.fill_(0.255)  # scale 0.001, but for sums beyond 65.536
    snn.ranges["features.1"] = (-80.0, 20.0)
    ends = []
    for headroom in (1.0, TRAINING_ROOM):
        graph = quantize(to_nir(snn), headroom=headroom)
        aware = quantization_aware(snn, graph)
        ends.append(max(map(abs, aware.ranges["features.1"])))
        aware.ranges["features.1"] = (-1.9 * ends[-1], 1.0)
        if headroom == 1.0:
            with pytest.raises(DeployError, match="'features.1': its input reaches"):
                quantize(to_nir(aware))
        else:
            quantize(to_nir(aware))
    assert ends == pytest.approx([2**16, 2**16 / TRAINING_ROOM])


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
    assert grid_of(again) is not None
    quantize(
        to_nir(in_real_numbers(again)), weight_bits=4
    )  # real numbers once more, free for any width


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
    with pytest.raises(GridError, match="'classes': appears twice"):
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


def test_a_threshold_in_units_is_rounded_down_and_held() -> None:
    """At a scale of 1/4: 0.70 is 2.8 units and so 2; it ends above 1 unit and at 2^15."""
    scale = torch.full((4,), 0.25, dtype=torch.float64)
    neuron = integer_neuron(SpikingNeuron(torch.tensor([0.7, 0.75, 1.0, 1.1])), scale)
    numbers = neuron.numbers
    assert isinstance(numbers, IntegerNumbers)
    assert numbers.threshold(neuron).tolist() == [2, 3, 4, 4]
    neuron.learn(threshold=True)
    with torch.no_grad():
        neuron.threshold.copy_(torch.tensor([-1.0, 0.0, 0.7, 1e9]))
    neuron.constrain()
    assert numbers.threshold(neuron).tolist() == [1, 1, 2, 2**15]
    assert neuron.threshold[:2].min() > 0.25
    assert neuron.threshold.tolist()[2] == pytest.approx(0.7)


def test_one_threshold_for_channels_of_different_scales_fits_each() -> None:
    scale = torch.tensor([0.25, 0.5], dtype=torch.float64)
    neuron = integer_neuron(SpikingNeuron(0.7), scale)
    assert isinstance(neuron.numbers, IntegerNumbers)
    neuron.learn(threshold=True)
    for given, units in ((-1.0, [2, 1]), (1e9, [2**15, 2**14])):
        with torch.no_grad():
            neuron.threshold.fill_(given)
        neuron.constrain()
        assert neuron.numbers.threshold(neuron).tolist() == units
