"""Conversion against the ANN, its options, and the forms that have no spikes."""

import copy
from collections.abc import Callable

import pytest
import torch
from spiking import chain, images, residual
from torch import nn

from spikeship.training.ann.network import INPUT, Add, Layer, Network
from spikeship.training.conversion import passage
from spikeship.training.conversion.balance import BalanceError
from spikeship.training.conversion.convert import convert
from spikeship.training.snn.encoding import Encoding, encode
from spikeship.training.snn.form import FormError
from spikeship.training.snn.neurons import Scale
from spikeship.training.snn.observe import evaluate


@pytest.mark.parametrize(
    "held_bytes", [0, 60_000, 2**30], ids=["computed again", "some held", "held"]
)
@pytest.mark.parametrize("balance", ["max", "percentile:99.5"])
def test_thresholds_do_not_depend_on_the_batch(
    balance: str, held_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passage, "_HELD_BYTES", held_bytes)
    ann, x = chain(bias=True), images(10)
    snns = [convert(ann, x, num_steps=12, balance=balance, batch_size=n) for n in (1, 3, 10)]
    thetas = [[float(n.threshold) for n in snn.neurons.values()] for snn in snns]
    assert thetas[0] == pytest.approx(thetas[1], rel=1e-6)
    assert thetas[0] == pytest.approx(thetas[2], rel=1e-6)
    for name, bounds in snns[0].ranges.items():
        assert bounds == pytest.approx(snns[2].ranges[name], rel=1e-5, abs=1e-5)


def test_a_percentile_is_numpys_over_all_weighted_input() -> None:
    ann, x = chain(), images(10)
    snn = convert(ann, x, num_steps=120, balance="percentile:99.1", factor=1.0, batch_size=4)
    messages = encode(x, snn.coding, 120)
    with torch.no_grad():
        weighted = next(snn.walk(messages)).weighted
    # the first neuron's input depends on no threshold
    expected = float(torch.quantile(weighted.double().flatten(), 0.991))
    assert float(snn.neurons["features.1"].threshold) == pytest.approx(expected, rel=1e-6)
    top = convert(ann, x, num_steps=12, balance="max", factor=1.0)
    hundredth = convert(ann, x, num_steps=12, balance="percentile:100", factor=1.0)
    for name, neuron in top.neurons.items():
        assert torch.equal(neuron.threshold, hundredth.neurons[name].threshold)


def nested(seed: int = 0) -> Network:
    """A sum within a sum, a branch straight from the input, pools on an identity skip."""
    torch.manual_seed(seed)
    ann = Network(
        [
            Layer("a", nn.Conv2d(2, 2, 3, padding=1), (INPUT,)),
            Layer("relu_a", nn.ReLU(), ("a",)),
            Layer("pool", nn.AvgPool2d(2), ("relu_a",)),
            Layer("b", nn.Conv2d(2, 2, 3, padding=1), ("pool",)),
            Layer("relu_b", nn.ReLU(), ("b",)),
            Layer("c", nn.Conv2d(2, 2, 3, padding=1), ("relu_b",)),
            Layer("inner", Add(), ("c", "pool")),
            Layer("d", nn.Conv2d(2, 2, 2, stride=2), (INPUT,)),
            Layer("outer", Add(), ("inner", "d")),
            Layer("relu_c", nn.ReLU(), ("outer",)),
            Layer("flatten", nn.Flatten(), ("relu_c",)),
            Layer("fc", nn.Linear(32, 5), ("flatten",)),
        ],
        (2, 8, 8),
    )
    with torch.no_grad():
        for layer in ann.layers:
            if isinstance(layer.module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.module.weight)
    return ann.eval()


ANNS: dict[str, Callable[[], Network]] = {
    "chain": chain,
    "chain with biases": lambda: chain(bias=True),
    "identity skip, batch norm": residual,
    "strided skip, batch norm": lambda: residual(strided=True),
    "nested sums": nested,
}


@pytest.mark.parametrize("encoding", ["direct", "poisson"])
@pytest.mark.parametrize("kind", ANNS)
@pytest.mark.parametrize("per_channel", [False, True], ids=["per layer", "per channel"])
def test_a_converted_network_agrees_with_its_ann(
    kind: str, encoding: Encoding, per_channel: bool
) -> None:
    ann, x = ANNS[kind](), images(24)
    # Poisson input is itself noisy; its mean needs more steps
    steps = 200 if encoding == "direct" else 1500
    few = x if encoding == "direct" else x[:12]
    snn = convert(
        ann,
        few,
        num_steps=steps,
        encoding=encoding,
        factor=1.0,
        batch_size=4,
        per_channel=per_channel,
    )
    with torch.no_grad():
        expected = ann(few)
    readout = evaluate(snn, few)
    together = torch.stack([expected.flatten(), readout.flatten()])
    assert torch.corrcoef(together)[0, 1] > 0.99
    # and in size: R / T is the ANN's result, but for the spikes still owed when the time is over
    ratio = (readout.flatten() @ expected.flatten()) / (expected.flatten() @ expected.flatten())
    assert 0.85 < ratio.item() / steps < 1.02


def test_ranges_are_of_weighted_input_without_its_bias() -> None:
    ann, x = residual(strided=True), images(5)
    snn = convert(ann, x, num_steps=15, seed=2, batch_size=2)
    assert list(snn.ranges) == ["stem_relu", "relu1", "relu2", "fc"]
    bare = copy.deepcopy(snn)
    spikes = {}
    with torch.no_grad():
        for name, _, sent in snn.walk(encode(x, snn.coding, 15, seed=2)):
            if sent is not None:
                spikes[name] = sent.flatten(0, 1)
        run = {layer.name: layer.module for layer in bare.network.layers}
        for module in run.values():
            if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
                module.bias.zero_()
        weighted = run["conv2"](spikes["relu1"]) + run["down"](spikes["stem_relu"])
        readout = run["fc"](run["flatten"](run["pool"](spikes["relu2"])))
    for name, values in (("relu2", weighted), ("fc", readout)):
        bounds = float(values.min()), float(values.max())
        assert snn.ranges[name] == pytest.approx(bounds, rel=1e-5, abs=1e-5)


def test_few_steps_have_a_smaller_factor() -> None:
    ann, x = chain(), images(4)
    for steps, factor in ((19, 0.5), (20, 0.7), (100, 0.7)):
        default = convert(ann, x, num_steps=steps)
        given = convert(ann, x, num_steps=steps, factor=factor)
        for name, neuron in given.neurons.items():
            assert torch.equal(default.neurons[name].threshold, neuron.threshold)


def test_the_factor_scales_all_thresholds_and_biases_follow() -> None:
    ann, x = chain(bias=True), images(8)
    one, part = (convert(ann, x, num_steps=10, factor=factor) for factor in (1.0, 0.5))
    for name, neuron in one.neurons.items():
        assert float(part.neurons[name].threshold) == float(neuron.threshold) / 2
    # units halve with every neuron; the last weights hold what three of them make of a spike
    for name, power in (("features.0", 1), ("features.4", 2), ("hidden", 4), ("classes", 1)):
        whole, half = one.network[name].module, part.network[name].module
        assert isinstance(whole, nn.Conv2d | nn.Linear)
        assert isinstance(half, nn.Conv2d | nn.Linear)
        share = 1 / 8 if name == "classes" else 1
        assert torch.allclose(half.weight, whole.weight * share, rtol=1e-6)
        assert half.bias is not None and whole.bias is not None
        assert torch.allclose(half.bias, whole.bias * power, rtol=1e-6)


def test_thresholds_are_balanced_over_at_least_the_steps_asked_for() -> None:
    ann, x = chain(), images(6)
    thetas = [
        [
            float(neuron.threshold)
            for neuron in convert(
                ann, x, num_steps=steps, balance_steps=balance_steps, factor=0.7
            ).neurons.values()
        ]
        for steps, balance_steps in ((10, 40), (40, 10))
    ]
    assert thetas[0] == thetas[1]
    short = convert(ann, x, num_steps=10, balance_steps=10, factor=0.7)
    assert [float(n.threshold) for n in short.neurons.values()] != thetas[0]
    # ranges are those of the T steps that it will run for
    longer = convert(ann, x, num_steps=10, balance_steps=40).ranges["features.1"]
    assert longer == pytest.approx(short.ranges["features.1"], rel=1e-6)


def test_what_is_asked_for_arrives_and_the_ann_stays_as_it_is() -> None:
    ann, x = chain(bias=True), images(8)
    before = copy.deepcopy(ann.state_dict())
    snn = convert(
        ann,
        x,
        num_steps=10,
        encoding="direct",
        peak=7.0,
        leak=0.95,
        reset="zero",
        data={"name": "made up"},
        provenance={"by": "a test"},
    )
    assert not snn.training
    assert snn.coding.scale == pytest.approx(7 / 127)
    assert snn.num_steps == 10
    assert (snn.data, snn.provenance) == ({"name": "made up"}, {"by": "a test"})
    for neuron in snn.neurons.values():
        assert (neuron.leak, neuron.v0, neuron.reset) == (0.95, 0.0, "zero")
    assert [layer.name for layer in snn.network.layers] == [layer.name for layer in ann.layers]
    for key, value in ann.state_dict().items():
        assert torch.equal(value, before[key])
    for parameter in snn.parameters():
        parameter.data.zero_()
    assert torch.equal(ann.state_dict()["at/classes.weight"], before["at/classes.weight"])


def test_float64_stays_float64() -> None:
    ann, x = chain(bias=True).double(), images(4)
    snn = convert(ann, x, num_steps=10)
    assert {tensor.dtype for tensor in snn.state_dict().values()} == {torch.float64}
    assert evaluate(snn, x).dtype == torch.float64


def build(*layers: tuple[str, nn.Module, tuple[str, ...]]) -> Network:
    return Network([Layer(*layer) for layer in layers], (2, 8, 8)).eval()


CONV, RELU, FC = nn.Conv2d(2, 2, 3, padding=1), nn.ReLU(), nn.Linear(128, 3)
FLAT = ("flat", nn.Flatten(), ("relu",))
START = ("conv", CONV, (INPUT,)), ("relu", RELU, ("conv",))


@pytest.mark.parametrize(
    ("ann", "message"),
    [
        (
            build(*START, ("max", nn.MaxPool2d(2), ("relu",)), ("fc", FC, ("max",))),
            "layer 'max': MaxPool2d has no spiking form in pipelined timing; convert with",
        ),
        (
            build(*START, ("act", nn.Tanh(), ("relu",)), ("fc", FC, ("act",))),
            "layer 'act': Tanh has no spiking form; use Conv2d, Linear, ReLU, AvgPool2d,",
        ),
        (
            build(*START, ("again", CONV, ("relu",)), ("flat", nn.Flatten(), ("again",))),
            "layer 'flat': reads 'again', which is no ReLU's result; put a ReLU between",
        ),
        (
            build(("conv", CONV, (INPUT,)), ("two", CONV, ("conv",)), ("relu", RELU, ("two",))),
            "layer 'two': reads 'conv', which is no ReLU's result; put a ReLU between",
        ),
        (
            build(*START, ("late", nn.ReLU(), ("relu",)), ("flat", nn.Flatten(), ("late",))),
            "layer 'late': follows 'relu', not a weighted layer or a sum; put the ReLU",
        ),
        (
            build(*START, FLAT, ("fc", FC, ("flat",)), ("last", nn.ReLU(), ("fc",))),
            "layer 'last': is the network's output but no Linear layer; end the network",
        ),
        (
            build(*START, ("pool", nn.AvgPool2d(3, 2, 1), ("relu",)), ("fc", FC, ("pool",))),
            r"layer 'pool': a pool of kernel \(3, 3\), stride \(2, 2\) and padding \(1, 1\) has",
        ),
        (
            build(
                *START,
                ("pool", nn.AvgPool2d(3), ("relu",)),
                ("flat", nn.Flatten(), ("pool",)),
                ("fc", nn.Linear(8, 3), ("flat",)),
            ),
            r"layer 'pool': a 3x3 pool does not divide shape \(2, 8, 8\); pad the images",
        ),
        (
            build(*START, FLAT, ("fc", nn.Linear(100, 3), ("flat",))),
            r"layer 'fc': cannot take its input when samples have shape \(2, 8, 8\)",
        ),
        (
            build(*START, ("side", nn.Conv2d(2, 2, 1), (INPUT,)), FLAT, ("fc", FC, ("flat",))),
            "layer 'side': nothing reads it; leave it out",
        ),
        (
            build(
                ("conv", CONV, (INPUT,)),
                ("relu", RELU, ("conv",)),
                ("other", nn.ReLU(), ("conv",)),
                ("sum", Add(), ("relu", "other")),
                ("end", nn.ReLU(), ("sum",)),
                ("flat", nn.Flatten(), ("end",)),
                ("fc", FC, ("flat",)),
            ),
            "layer 'conv': 2 layers read it; only what a ReLU gives may be read more than once",
        ),
        (
            build(
                *START,
                ("narrow", nn.Conv2d(2, 1, 1), ("relu",)),
                ("sum", Add(), ("narrow", "relu")),
                ("end", nn.ReLU(), ("sum",)),
                ("flat", nn.Flatten(), ("end",)),
                ("fc", FC, ("flat",)),
            ),
            r"layer 'sum': sums shapes \[\(1, 8, 8\), \(2, 8, 8\)\]; give its branches one shape",
        ),
        (
            build(
                ("conv", nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"), (INPUT,)),
                ("relu", RELU, ("conv",)),
                FLAT,
                ("fc", FC, ("flat",)),
            ),
            "layer 'conv': pads with 'circular'; pad with zeros",
        ),
        (
            build(*START, ("flat", nn.Flatten(2), ("relu",)), ("fc", nn.Linear(64, 3), ("flat",))),
            r"layer 'flat': flattens only some axes; use nn.Flatten\(\)",
        ),
    ],
)
def test_a_form_without_spikes_is_refused_by_name(ann: Network, message: str) -> None:
    with pytest.raises(FormError, match=message) as caught:
        convert(ann, images(2), num_steps=4)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("balance", ["mean", "percentile:0", "percentile:101", "percentile:x", ""])
def test_an_unknown_balance_is_refused(balance: str) -> None:
    with pytest.raises(BalanceError, match=f"balance {balance!r} is not known; use max, or"):
        convert(chain(), images(2), num_steps=4, balance=balance)


def test_a_neuron_without_positive_input_is_named() -> None:
    ann = chain()
    with torch.no_grad():
        hidden = ann["hidden"].module
        assert isinstance(hidden, nn.Linear)
        hidden.weight.abs_().neg_()
    with pytest.raises(BalanceError, match="neuron 'relu': the weighted input it is balanced on"):
        convert(ann, images(4), num_steps=6)
    with pytest.raises(BalanceError, match="factor must be positive, got -1"):
        convert(chain(), images(4), num_steps=6, factor=-1)


def test_an_identity_skip_holds_the_inner_thresholds_inverse() -> None:
    snn = convert(residual(), images(6), num_steps=20)
    (scale,) = [layer for layer in snn.network.layers if isinstance(layer.module, Scale)]
    assert (scale.name, scale.inputs) == ("sum.skip0", ("stem_relu",))
    assert snn.network["sum"].inputs == ("sum.skip0", "conv2")
    assert isinstance(scale.module, Scale)
    inner = float(snn.neurons["relu1"].threshold)
    assert float(scale.module.factor) == pytest.approx(1 / inner, rel=1e-6)
