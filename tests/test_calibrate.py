"""Calibration: means that agree, and errors to the ANN that shrink on images it has not seen."""

from functools import cache

import pytest
import torch
from sklearn.datasets import load_digits
from spiking import chain, images, residual
from torch import Tensor, nn

from spikeship.training.ann.activations import QCFS
from spikeship.training.ann.network import INPUT, Add, Layer, Network
from spikeship.training.conversion.calibrate import Calibrated, CalibrationError
from spikeship.training.conversion.convert import convert
from spikeship.training.conversion.fold_batchnorm import fold_batchnorm
from spikeship.training.snn.encoding import encode
from spikeship.training.snn.observe import evaluate
from spikeship.training.snn.spiking_network import SpikingNetwork

STEPS = 8


@cache
def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Normalised digits and labels, 1,200 to learn from and 597 held out."""
    found = load_digits()
    x = torch.tensor(found.images, dtype=torch.float32)[:, None]
    x = (x - x.mean()) / x.std()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    x, y = x[order], torch.tensor(found.target)[order]
    return x[:1200], y[:1200], x[1200:], y[1200:]


@cache
def classifier(quantised: bool = False) -> Network:
    """A small digits classifier, trained for a few seconds."""
    torch.manual_seed(0)
    features, classes = nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.Linear(128, 10, bias=False)
    modules = {
        "conv1": features,
        "act1": QCFS(4.0, STEPS) if quantised else nn.ReLU(),
        "pool1": nn.AvgPool2d(2),
        "conv2": nn.Conv2d(8, 8, 3, padding=1, bias=False),
        "act2": QCFS(4.0, STEPS) if quantised else nn.ReLU(),
        "flatten": nn.Flatten(),
        "classes": classes,
    }
    layers, before = [], INPUT
    for name, module in modules.items():
        layers.append(Layer(name, module, (before,)))
        before = name
    ann = Network(layers, (1, 8, 8))
    x, y, _, _ = digits()
    optimizer = torch.optim.Adam(ann.parameters(), 5e-3)
    for _ in range(8):
        for part in torch.randperm(len(x)).split(50):
            optimizer.zero_grad()
            nn.functional.cross_entropy(ann(x[part]), y[part]).backward()
            optimizer.step()
    return ann.eval()


def error(snn: SpikingNetwork, ann: Network) -> float:
    """Mean squared error of R / T to held-out digits' scores, as a share of their variance."""
    _, _, x, _ = digits()
    with torch.no_grad():
        scores = ann(x)
    return float((evaluate(snn, x) / snn.num_steps - scores).pow(2).mean() / scores.var())


def accuracy(scores: Tensor) -> float:
    return float((scores.argmax(1) == digits()[3]).float().mean())


@pytest.mark.parametrize(
    ("options", "by", "share"),
    [
        ({"balance": "max", "factor": 1.0}, "bias", 0.3),
        ({"balance": "max", "factor": 1.0}, "v0", 0.5),
        ({"balance": "mse"}, "bias", 0.7),
        ({"balance": "mse"}, "v0", 0.4),
        ({"balance": "mse", "per_channel": True, "v0": "half"}, "v0", 1.0),
        ({"balance": "percentile:99.9", "factor": 1.0}, "bias", 0.7),
        # thresholds that clip: the means of what is left are those to reach
        ({"balance": "max", "factor": 0.4}, "v0", 0.9),
    ],
)
def test_calibration_brings_a_network_nearer_to_its_ann(
    options: dict[str, object], by: Calibrated, share: float
) -> None:
    ann, (x, _, held_out, _) = classifier(), digits()
    made = {"num_steps": STEPS, "encoding": "direct", "balance_steps": STEPS} | options
    plain = convert(ann, x[:200], **made)
    better = convert(ann, x[:200], calibrate=by, **made)
    assert error(better, ann) < share * error(plain, ann)
    assert accuracy(evaluate(better, held_out)) >= accuracy(evaluate(plain, held_out)) - 0.02


def test_a_qcfs_network_keeps_its_accuracy_in_its_own_steps() -> None:
    ann, (x, _, held_out, _) = classifier(quantised=True), digits()
    with torch.no_grad():
        whole = accuracy(ann(held_out))
    assert whole > 0.93
    snn = convert(ann, x[:200], num_steps=STEPS, encoding="direct", balance="analytic")
    assert accuracy(evaluate(snn, held_out)) > whole - 0.01
    assert error(snn, ann) < 0.03


@pytest.mark.parametrize("by", ["bias", "v0"])
@pytest.mark.parametrize("kind", ["chain", "residual"])
def test_mean_firing_becomes_the_anns_mean_activation(kind: str, by: Calibrated) -> None:
    ann = fold_batchnorm(chain(bias=True) if kind == "chain" else residual())
    x = images(60)
    off: dict[Calibrated | None, float] = {}
    for calibrate in (None, by):
        snn = convert(
            ann,
            x,
            num_steps=12,
            encoding="direct",
            balance="mse",
            calibrate=calibrate,
            batch_size=7,
        )
        off[calibrate] = worst(snn, ann, x)
    assert off[by] < 0.2 * off[None]


def worst(snn: SpikingNetwork, ann: Network, x: Tensor) -> float:
    """Largest distance of a channel's mean firing from its mean activation, clipped likewise."""
    means, unit, result = {}, 1.0, 0.0
    with torch.no_grad():
        for layer, _, value in ann.walk(x):
            if layer.name in snn.neurons and value.ndim == 4:
                unit *= float(snn.neurons[layer.name].threshold)
                means[layer.name] = unit, value.clamp(max=unit).flatten(2).mean((0, -1))
        for name, _, spikes in snn.walk(encode(x, snn.coding, snn.num_steps)):
            if spikes is not None and spikes.ndim == 5:
                worth, expected = means[name]
                fired = worth * spikes.flatten(3).mean((0, 1, 3))
                result = max(result, float((fired - expected).abs().max()))
    return result


def test_biases_appear_where_there_were_none_and_v0_leaves_the_weights() -> None:
    ann, x = chain(), images(8)
    plain, bias, start = (
        convert(ann, x, num_steps=8, balance="mse", calibrate=by) for by in (None, "bias", "v0")
    )
    for layer in plain.network.layers:
        if not isinstance(layer.module, nn.Conv2d | nn.Linear):
            continue
        changed, same = bias.network[layer.name].module, start.network[layer.name].module
        assert torch.equal(changed.weight, layer.module.weight)
        assert layer.module.bias is None and same.bias is None
        assert changed.bias is not None and changed.bias.abs().max() > 0
    assert {name: tuple(neuron.v0.shape) for name, neuron in start.neurons.items()} == {
        "features.1": (6, 1, 1),
        "features.5": (8, 1, 1),
        "relu": (20,),
    }
    # the bias is no part of what quantization bounds
    assert bias.ranges["features.1"] == pytest.approx(plain.ranges["features.1"], rel=1e-5)


def test_what_cannot_be_calibrated_is_refused_in_one_line() -> None:
    with pytest.raises(CalibrationError, match="calibrate 'mean' is not known; use bias or v0"):
        convert(chain(), images(2), num_steps=4, calibrate="mean")  # type: ignore[arg-type]
    conv = nn.Conv2d(2, 2, 3, padding=1)
    layers = [
        Layer("a", conv, (INPUT,)),
        Layer("relu", nn.ReLU(), ("a",)),
        Layer("sum", Add(), ("relu", INPUT)),
        Layer("end", nn.ReLU(), ("sum",)),
        Layer("flatten", nn.Flatten(), ("end",)),
        Layer("fc", nn.Linear(128, 3), ("flatten",)),
    ]
    ann = Network(layers, (2, 8, 8)).eval()
    with pytest.raises(CalibrationError, match="neuron 'end': reads a sum of identity skips"):
        convert(ann, images(4), num_steps=6, calibrate="bias")
    convert(ann, images(4), num_steps=6, calibrate="v0")
