"""Fine-tuning a converted digits classifier, and what running one on images says."""

import copy
from pathlib import Path

import pytest
import torch
from spiking import chain, images
from torch import Tensor, nn

from spikeship.deploy.compiler.quantize import quantize
from spikeship.hw_models.simulator.simulator import simulate
from spikeship.training.ann.network import INPUT, Layer, Network
from spikeship.training.conversion.convert import convert
from spikeship.training.data.load import load
from spikeship.training.finetuning.stdb import finetune, stdb_config
from spikeship.training.finetuning.tuning import Tuning
from spikeship.training.fit.config import FitConfig
from spikeship.training.fit.loop import fit
from spikeship.training.nir_io.to_nir import to_nir
from spikeship.training.snn.encoding import InputCoding, encode
from spikeship.training.snn.observe import evaluate, observe_ranges
from spikeship.training.snn.recompute import Value, run
from spikeship.training.snn.scan import Rule, scan
from spikeship.training.snn.spiking_network import SpikingNetwork
from spikeship.training.snn.surrogates import SURROGATES

Digits = tuple[Network, Tensor, Tensor, Tensor, Tensor]
STEPS = 12


@pytest.fixture(scope="module")
def digits() -> Digits:
    """A small classifier of handwritten digits, and the set: x and y, training and held out."""
    data = load("digits")
    train, test = data.split("train"), data.split("test")
    assert train.labels is not None and test.labels is not None
    x, held_out = data.normalised("train"), data.normalised("test")
    torch.manual_seed(0)
    layers = [
        Layer("conv", nn.Conv2d(1, 12, 3, padding=1, bias=False), (INPUT,)),
        Layer("relu", nn.ReLU(), ("conv",)),
        Layer("pool", nn.AvgPool2d(2), ("relu",)),
        Layer("flatten", nn.Flatten(), ("pool",)),
        Layer("fc1", nn.Linear(192, 64, bias=False), ("flatten",)),
        Layer("relu1", nn.ReLU(), ("fc1",)),
        Layer("dropout", nn.Dropout(0.2), ("relu1",)),
        Layer("fc2", nn.Linear(64, 10, bias=False), ("dropout",)),
    ]
    ann = Network(layers, (1, 8, 8))

    def loss(model: nn.Module, inputs: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        scores: Tensor = model(inputs)
        return nn.functional.cross_entropy(scores, y), scores

    config = FitConfig(epochs=15, learning_rate=3e-3, optimizer="adam", device="cpu")
    fit(ann, lambda indices: x[indices], train.labels, config, loss, quiet=True)
    return ann, x, train.labels, held_out, test.labels


def accuracy(scores: Tensor, labels: Tensor) -> float:
    return (scores.argmax(1) == labels).double().mean().item()


@torch.no_grad()
def ann_accuracy(digits: Digits) -> float:
    ann, _, _, held_out, labels = digits
    return accuracy(ann(held_out), labels)


def test_the_hybrid_is_within_a_point_of_its_ann(digits: Digits) -> None:
    ann, x, y, held_out, labels = digits
    assert ann_accuracy(digits) > 0.96
    snn = convert(ann, x[:64], num_steps=STEPS)
    config = stdb_config((1, 8, 8), device="cpu")
    tuned, metrics = finetune(snn, lambda indices: x[indices], y, config, quiet=True)
    before = accuracy(evaluate(snn, held_out), labels)
    after = accuracy(evaluate(tuned, held_out), labels)
    assert after > before
    assert after > ann_accuracy(digits) - 0.01
    assert metrics[-1].loss < metrics[0].loss
    assert not tuned.training


def test_only_weights_and_biases_change(digits: Digits) -> None:
    ann, x, y, _, _ = digits
    snn = convert(ann, x[:64], num_steps=STEPS, leak=0.98)
    before = copy.deepcopy(snn.state_dict())
    config = stdb_config((1, 8, 8), epochs=1, device="cpu")
    tuned, _ = finetune(snn, lambda i: x[i], y[:200], config, num_steps=7, quiet=True)
    assert (tuned.num_steps, snn.num_steps) == (7, STEPS)
    after = tuned.state_dict()
    for name, value in snn.state_dict().items():
        assert torch.equal(value, before[name])
        kept = name.endswith(("threshold", "leak", "v0"))
        assert torch.equal(value, after[name]) == kept
    for neuron in tuned.neurons.values():
        assert neuron.leak == torch.tensor(0.98)
        assert (neuron.surrogate_name, neuron.attached) == ("linear", False)
    assert tuned.ranges != snn.ranges
    assert tuned.ranges == observe_ranges(tuned, x[:200], seed=config.seed)


def test_every_surrogate_teaches_hidden_layers(digits: Digits) -> None:
    ann, x, y, held_out, labels = digits
    snn = convert(ann, x[:64], num_steps=8)
    torch.manual_seed(0)
    for name in ("conv", "fc1"):
        layer = snn.network[name].module
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        layer.weight.data += torch.randn_like(layer.weight) * 1.2 * layer.weight.std()
    # with the readout as it is, only what comes back through the neurons can mend it
    snn.network["fc2"].module.requires_grad_(False)
    spoilt = accuracy(evaluate(snn, held_out), labels)
    config = stdb_config((1, 8, 8), epochs=3, device="cpu")
    losses = set()
    for name in SURROGATES:
        tuned, metrics = finetune(snn, lambda i: x[i], y, config, surrogate_name=name, quiet=True)
        assert accuracy(evaluate(tuned, held_out), labels) > spoilt + 0.1
        assert {n.surrogate_name for n in tuned.neurons.values()} == {name}
        losses.add(metrics[-1].loss)
    # the slopes are really so many
    assert len(losses) == len(SURROGATES)


def test_a_weight_on_operations_saves_them(digits: Digits) -> None:
    """Fewer operations, counted in the integers, for much the same accuracy."""
    ann, x, y, held_out, labels = digits
    snn = convert(ann, x[:64], num_steps=8, encoding="direct")
    config = stdb_config((1, 8, 8), epochs=4, device="cpu")
    operations, right = [], []
    for weight in (0.0, 1.0):
        tuning = Tuning(synop_weight=weight)
        tuned, _ = finetune(snn, lambda i: x[i], y, config, tuning=tuning, quiet=True)
        right.append(accuracy(evaluate(tuned, held_out), labels))
        messages = encode(held_out, tuned.coding, 8).numpy()
        layers = simulate(quantize(to_nir(tuned)), messages).counts.per_inference()["layers"]
        # the first layer's are the image's own
        operations.append(sum(layer["synops_effective"] for layer in layers[1:]))
    assert operations[1] < 0.75 * operations[0]
    assert right[1] > right[0] - 0.015


def test_an_interrupted_run_ends_where_a_whole_one_does(digits: Digits, tmp_path: Path) -> None:
    ann, x, y, _, _ = digits
    snn = convert(ann, x[:64], num_steps=5)
    config = stdb_config((1, 8, 8), epochs=2, device="cpu")
    whole, _ = finetune(snn, lambda i: x[i], y[:256], config, quiet=True)
    state = tmp_path / "state.safetensors"
    calls = 0

    def interrupted(indices: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 7:
            raise KeyboardInterrupt
        return x[indices]

    with pytest.raises(KeyboardInterrupt):
        finetune(snn, interrupted, y[:256], config, state_path=state, quiet=True)
    resumed, metrics = finetune(snn, lambda i: x[i], y[:256], config, state_path=state, quiet=True)
    assert [entry.epoch for entry in metrics] == [1, 2]
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name])
    assert resumed.ranges == whole.ranges


def test_an_evaluation_depends_on_the_image_and_its_place_alone() -> None:
    snn = convert(chain(bias=True), images(6), num_steps=9)
    x = images(7, seed=4)
    whole = evaluate(snn, x, seed=2)
    assert whole.shape == (7, 5)
    assert torch.equal(whole, snn(encode(x, snn.coding, 9, seed=2)))
    assert torch.allclose(evaluate(snn, x, seed=2, batch_size=3), whole, atol=1e-5)
    some = torch.tensor([5, 1])
    assert torch.allclose(evaluate(snn, x[some], seed=2, indices=some), whole[some], atol=1e-5)
    assert not torch.allclose(evaluate(snn, x, seed=3), whole, atol=1e-3)
    longer = evaluate(snn, x, seed=2, num_steps=30)
    assert torch.equal(longer, snn(encode(x, snn.coding, 30, seed=2)))


def test_evaluating_leaves_a_network_in_training_as_it_was() -> None:
    snn = convert(chain(), images(4), num_steps=5).train()
    assert torch.equal(evaluate(snn, images(3)), evaluate(snn, images(3)))
    observe_ranges(snn, images(3))
    assert snn.training
    assert all(module.training for module in snn.modules())


def test_the_readout_is_the_sum_and_the_loss_its_mean() -> None:
    """Whole numbers: R is W·(number of spikes) + T·b, and cross-entropy is taken on R / T."""
    linear = nn.Linear(3, 2)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[1.0, -2.0, 3.0], [0.0, 5.0, -1.0]]))
        linear.bias.copy_(torch.tensor([0.5, -1.5]))
    net = Network([Layer("fc", linear, (INPUT,))], (3,))
    snn = SpikingNetwork(net, InputCoding("spikes"), 4)
    spikes = torch.tensor([[[1, 0, 1], [1, 0, 0], [1, 1, 0], [0, 1, 0]]])
    assert snn(spikes).tolist() == [[3 - 4 + 3 + 2.0, 10 - 1 - 6.0]]
    config = FitConfig(epochs=1, batch_size=1, learning_rate=1e-9, device="cpu")
    _, metrics = finetune(snn, lambda i: spikes[i], torch.tensor([1]), config, quiet=True)
    expected = nn.functional.cross_entropy(torch.tensor([[4.0, 3.0]]) / 4, torch.tensor([1]))
    assert metrics[0].loss == pytest.approx(expected.item(), rel=1e-6)


def test_a_second_derivative_is_refused() -> None:
    """Not given as if what comes back through neurons and weights were a constant."""
    x = torch.rand(3, 2, 4, requires_grad=True)
    dense = nn.Linear(4, 5)
    one = torch.ones(())
    spikes, _ = scan(3 * x, one, one, torch.zeros(()), Rule())
    value = Value(x.flatten(0, 1), lambda part: x.detach()[part].flatten(0, 1))
    weighted = run(dense, (value,), len(x)).tensor
    for result in (spikes, weighted):
        (grad,) = torch.autograd.grad((result**2).sum(), x, create_graph=True)
        with pytest.raises(RuntimeError, match="once_differentiable"):
            grad.sum().backward()
