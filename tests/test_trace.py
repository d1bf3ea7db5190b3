"""From nn.Module to Network, and batch norm folded away."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from spikeship.training.ann.activations import QCFS, ClippedReLU
from spikeship.training.ann.network import INPUT, Add, Layer, Network
from spikeship.training.ann.zoo import build
from spikeship.training.conversion.fold_batchnorm import FoldError, fold_batchnorm
from spikeship.training.frontends.refusal import UnsupportedLayerError
from spikeship.training.frontends.trace import TraceError, trace


class Residual(nn.Module):
    """Batch norm, an identity skip, a strided skip, and every spelling of the functions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding="same")
        self.norm = nn.BatchNorm2d(4)
        self.block = nn.Sequential(
            nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace=True)
        )
        self.down = nn.Conv2d(4, 6, 3, 2, 1, bias=False)
        self.skip = nn.Conv2d(4, 6, 1, 2, bias=False)
        self.drop = nn.Dropout(0.25)
        self.nothing = nn.Identity()
        self.unused = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(24, 5)
        self.fc2 = nn.Linear(5, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.norm(self.stem(x)))
        y = self.block(x)
        y += x
        y = self.drop(torch.relu(y))
        z = torch.add(self.down(y), self.skip(self.nothing(y))).relu()
        z = functional.avg_pool2d(z, 2)
        z = functional.dropout(self.fc1(z.view(z.size(0), -1)), 0.4, training=self.training)
        scores: Tensor = self.fc2(functional.relu(z, inplace=True))
        return scores


def _residual() -> Residual:
    torch.manual_seed(1)
    model = Residual()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for value in (module.weight, module.bias, module.running_mean):
                assert value is not None
                nn.init.normal_(value)
            assert module.running_var is not None
            nn.init.uniform_(module.running_var, 0.2, 2.0)
    return model


def _kinds(network: Network) -> dict[str, str]:
    return {layer.name: type(layer.module).__name__ for layer in network.layers}


def test_a_residual_network_is_followed_by_name() -> None:
    model = _residual()
    network = trace(model, (2, 8, 8))
    assert _kinds(network) == {
        "stem": "Conv2d",
        "norm": "BatchNorm2d",
        "relu": "ReLU",
        "block.0": "Conv2d",
        "block.1": "BatchNorm2d",
        "block.2": "ReLU",
        "add": "Add",
        "relu_1": "ReLU",
        "drop": "Dropout",
        "down": "Conv2d",
        "skip": "Conv2d",
        "add_1": "Add",
        "relu_2": "ReLU",
        "avg_pool2d": "AvgPool2d",
        "view": "Flatten",
        "fc1": "Linear",
        "dropout": "Dropout",
        "relu_3": "ReLU",
        "fc2": "Linear",
    }
    assert network["add"].inputs == ("block.2", "relu")
    assert network["add_1"].inputs == ("down", "skip")
    assert network["skip"].inputs == ("drop",)
    assert network["stem"].module.padding == (1, 1)
    dropout = network["dropout"].module
    assert isinstance(dropout, nn.Dropout)
    assert dropout.p == 0.4
    x = torch.randn(5, 2, 8, 8)
    assert torch.equal(network.eval()(x), model.eval()(x))


def test_the_module_stays_as_it_is_and_shares_nothing() -> None:
    model = _residual().train()
    before = copy.deepcopy(model.state_dict())
    network = trace(model, (2, 8, 8))
    assert network.training
    for value in network.parameters():
        value.data.zero_()
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_vgg5_keeps_its_paths() -> None:
    model = build("vgg5", (1, 8, 8), 10)
    leaves = [name for name, module in model.named_modules() if not list(module.children())]
    assert list(_kinds(trace(model, (1, 8, 8)))) == leaves


class Unsupported(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1, padding_mode="reflect")
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        self.mean = nn.AvgPool2d(2, ceil_mode=True)
        self.norm = nn.BatchNorm1d(16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mean(self.pool(self.relu(self.relu(self.conv(x)))))
        x = self.norm(torch.sigmoid(x).flatten(1)) + 1
        return x


def test_everything_unsupported_is_listed_at_once() -> None:
    with pytest.raises(UnsupportedLayerError) as caught:
        trace(Unsupported().eval(), (1, 8, 8))
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        "conv (Conv2d): padding_mode 'reflect'",
        "relu (ReLU): applied more than once",
        "pool (MaxPool2d): has ceil_mode or returns indices",
        "mean (AvgPool2d): ceil_mode",
        "norm (BatchNorm1d): not known",
        "sigmoid (sigmoid): not known",
        "add (add): sums something else",
    ):
        assert part in message
    assert "flatten" not in message


class Averages(nn.Module):
    """Every spelling of an average over positions, and sizes that are asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3, padding=1)
        self.relu = nn.ReLU()
        self.same = nn.AdaptiveAvgPool2d((8, None))
        self.whole = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.conv(x))
        whole = self.whole(functional.adaptive_avg_pool2d(functional.avg_pool2d(x, 2), 2))
        y = whole.flatten(1) + x.mean((2, 3))
        y = y + torch.mean(x, dim=[-1, -2], keepdim=True).flatten(1)
        result: Tensor = y + functional.avg_pool2d(self.same(x), x.size(3)).view(x.size(0), -1)
        return result


def test_averages_over_positions_become_pools() -> None:
    torch.manual_seed(0)
    model = Averages().eval()
    network = trace(model, (1, 8, 8))
    pools = {
        layer.name: layer.module.kernel_size
        for layer in network.layers
        if isinstance(layer.module, nn.AvgPool2d)
    }
    assert pools == {
        "avg_pool2d": 2,
        "adaptive_avg_pool2d": 2,
        "whole": 2,
        "mean": 8,
        "mean_1": 8,
        "avg_pool2d_1": 8,
    }
    assert network["add"].inputs == ("flatten", "mean.flatten")
    x = torch.randn(3, 1, 8, 8)
    assert torch.allclose(network(x), model(x), atol=1e-6)


class Pooled(nn.Module):
    """A convolution, whatever pools, and a mean."""

    def __init__(self, pool: Callable[[Tensor], Tensor], axes: tuple[int, ...] = (2, 3)) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3, padding=1)
        self.pool = pool
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(functional.relu(self.conv(x)))
        return x.mean(self.axes) if self.axes else x


@pytest.mark.parametrize(
    ("model", "shape", "reason"),
    [
        (Pooled(nn.AdaptiveAvgPool2d(3)), (1, 8, 8), r"pool \(AdaptiveAvgPool2d\): averages 8 x 8"),
        (Pooled(nn.AdaptiveAvgPool2d((4, 2))), (1, 8, 8), "positions to 4 x 2, not over squares"),
        (Pooled(nn.Identity()), (1, 8, 4), r"mean \(mean\): averages 8 x 4 positions to 1 x 1"),
        (Pooled(nn.Identity(), (1,)), (1, 8, 8), r"over axes \[1\] of 4; only over height"),
    ],
)
def test_pools_that_are_no_average_over_squares_are_refused(
    model: nn.Module, shape: tuple[int, ...], reason: str
) -> None:
    with pytest.raises(UnsupportedLayerError, match=reason) as caught:
        trace(model, shape)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "pool",
    [
        nn.MaxPool2d(2),
        nn.MaxPool2d((2, 2), stride=2),
        lambda x: functional.max_pool2d(x, 2),
        lambda x: torch.max_pool2d(x, kernel_size=2, stride=(2, 2)),
    ],
)
def test_max_pools_become_averages_where_asked_for(pool: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    model = Pooled(pool, ())
    network = trace(model, (1, 8, 8), max_pool="average").eval()
    x = torch.randn(2, 1, 8, 8)
    expected = functional.avg_pool2d(functional.relu(model.conv(x)), 2)
    assert torch.equal(network(x), expected)
    assert not torch.equal(model(x), expected)  # and the module is what it was


@pytest.mark.parametrize(
    "pool",
    [
        nn.MaxPool2d(2),
        nn.MaxPool2d((2, 4), stride=2),
        nn.MaxPool2d(3, 2, padding=1),
        nn.MaxPool2d(2, 1, dilation=2),
        lambda x: functional.max_pool2d(x, 3, stride=1),
        lambda x: torch.max_pool2d(x, kernel_size=2, stride=(2, 2), padding=1),
    ],
)
def test_max_pools_are_kept(pool: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    model = Pooled(pool, ()).eval()
    network = trace(model, (1, 8, 8)).eval()
    assert any(isinstance(layer.module, nn.MaxPool2d) for layer in network.layers)
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(network(x), model(x))


@pytest.mark.parametrize(
    "pool",
    [
        nn.MaxPool2d(3, 2),
        nn.MaxPool2d(2, padding=1),
        nn.MaxPool2d(2, dilation=2),
        nn.MaxPool2d(2, ceil_mode=True),
        lambda x: functional.max_pool2d(x, 3, stride=1),
    ],
)
def test_other_max_pools_are_refused_even_then(pool: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(UnsupportedLayerError, match="no average stands for a max pool of"):
        trace(Pooled(pool, ()), (1, 8, 8), max_pool="average")


def test_bounded_relus_stay() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3), ClippedReLU(0.5), nn.Flatten(), nn.Linear(72, 9), QCFS(0.75, 4)
    )
    network = trace(model, (1, 8, 8))
    assert _kinds(network) == {
        "0": "Conv2d",
        "1": "ClippedReLU",
        "2": "Flatten",
        "3": "Linear",
        "4": "QCFS",
    }
    x = torch.randn(3, 1, 8, 8) * 4
    assert torch.equal(network.eval()(x), model.eval()(x))
    clipped = network["1"].module
    assert isinstance(clipped, ClippedReLU) and clipped is not model[1]


class InPlace(nn.Module):
    """Changes a value that is read again."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 6)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc(x)
        x = self.relu(x) + x
        return x


class OtherName(nn.Module):
    """Adds to a tensor that has another name too."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 6)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = y = self.fc(x)
        y += self.relu(y)
        result: Tensor = x + y
        return result


class Deciding(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class Several(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


@pytest.mark.parametrize(
    ("make", "shape", "error", "reason"),
    [
        (lambda: build("vgg5", (1, 8, 8), 10), (3, 8, 8), TraceError, "features.conv1 .*shape"),
        (lambda: build("vgg5", (1, 8, 8), 10), (1, 12, 12), TraceError, "classifier.fc1 .*shape"),
        (lambda: build("vgg5", (1, 8, 8), 10), (), TraceError, "holds nothing"),
        (lambda: nn.Linear(4, 4), (2, 4), UnsupportedLayerError, "put a Flatten before"),
        (InPlace, (6,), TraceError, "changes in place"),
        (OtherName, (6,), TraceError, "changes in place"),
        (Deciding, (4,), TraceError, "decisions on values"),
        (Several, (4,), TraceError, r"takes 2 inputs \(x, y\)"),
        (nn.Identity, (4,), TraceError, "no layers"),
    ],
)
def test_what_cannot_be_followed_is_refused_in_one_line(
    make: Callable[[], nn.Module], shape: tuple[int, ...], error: type[ValueError], reason: str
) -> None:
    model = nn.Sequential(make()) if isinstance(make(), nn.Linear) else make()
    with pytest.raises(error, match=reason) as caught:
        trace(model, shape)
    assert "\n" not in str(caught.value)


def test_a_module_called_input_gets_another_name() -> None:
    model = nn.Sequential()
    model.add_module("input", nn.Linear(4, 4))
    assert list(_kinds(trace(model, (4,)))) == ["input_1"]


def test_folded_batch_norm_computes_the_same() -> None:
    network = trace(_residual(), (2, 8, 8)).eval()
    before = copy.deepcopy(network.state_dict())
    folded = fold_batchnorm(network)
    assert "BatchNorm2d" not in _kinds(folded).values()
    gone = {"norm", "block.1"}
    assert [layer.name for layer in folded.layers] == [
        layer.name for layer in network.layers if layer.name not in gone
    ]
    x = torch.randn(16, 2, 8, 8)
    assert torch.allclose(folded(x), network(x), rtol=1e-5, atol=1e-5)
    for value in folded.parameters():
        value.data.zero_()
    after = network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_batch_norm_that_cannot_be_folded_is_refused_by_name() -> None:
    conv, bare = nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2, track_running_stats=False)
    layers = [
        Layer("first", nn.BatchNorm2d(1), (INPUT,)),
        Layer("conv", conv, ("first",)),
        Layer("shared", nn.BatchNorm2d(2), ("conv",)),
        Layer("sum", Add(), ("shared", "conv")),
        Layer("conv2", nn.Conv2d(2, 2, 1), ("sum",)),
        Layer("bare", bare, ("conv2",)),
    ]
    with pytest.raises(FoldError) as caught:
        fold_batchnorm(Network(layers, (1, 4, 4)))
    message = str(caught.value)
    assert "\n" not in message
    assert "'first' follows 'input', which is no convolution" in message
    assert "'shared' follows 'conv', which 'sum' reads too" in message
    assert "'bare' keeps no running statistics" in message


@pytest.mark.parametrize("name", ["output", "layers", "forward", "training"])
def test_a_layer_may_be_called_like_an_attribute_of_ours(name: str) -> None:
    last = nn.Linear(64, 3)
    layers = [Layer("flat", nn.Flatten(), (INPUT,)), Layer(name, last, ("flat",))]
    network = Network(layers, (1, 8, 8))
    x = torch.randn(2, 1, 8, 8)
    assert network.output == name
    assert torch.equal(network(x), last(x.flatten(1)))


def test_a_layer_may_read_one_value_twice_while_another_reads_it_too() -> None:
    layers = [
        Layer("twice", Add(), (INPUT, INPUT)),
        Layer("sum", Add(), ("twice", INPUT)),
    ]
    assert torch.equal(Network(layers, (3,))(torch.ones(1, 3)), torch.full((1, 3), 3.0))
