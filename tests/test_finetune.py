"""Options of fine-tuning at work on small networks: each does what it says, and all combine."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from spiking import chain, counts_of, images, residual
from torch import Tensor, nn

from spikeship.deploy.compiler.quantize import quantize
from spikeship.hw_models.simulator.simulator import simulate
from spikeship.training.ann.network import INPUT, Layer, Network
from spikeship.training.conversion.convert import convert
from spikeship.training.finetuning import stdb
from spikeship.training.finetuning.losses import distillation, tet
from spikeship.training.finetuning.stdb import finetune, stdb_config
from spikeship.training.finetuning.tuning import Tuning
from spikeship.training.fit.config import EpochMetrics, FitConfig, FitError
from spikeship.training.nir_io.to_nir import to_nir
from spikeship.training.quantization.qat import quantization_aware
from spikeship.training.snn.encoding import Encoding, InputCoding, encode, encode_train
from spikeship.training.snn.observe import evaluate
from spikeship.training.snn.spiking_network import SpikingNetwork
from spikeship.training.snn.surrogates import SURROGATES

STEPS = 6
X = images(48, seed=9)
Y = torch.arange(48) % 5
STILL = FitConfig(epochs=1, batch_size=48, learning_rate=1e-12, device="cpu")


def network(encoding: Encoding = "direct", ann: Network | None = None) -> SpikingNetwork:
    """Convert; without dropout, so that one batch's loss can be computed again."""
    snn = convert(ann or chain(bias=True), X, num_steps=STEPS, encoding=encoding)
    for module in snn.modules():
        if hasattr(module, "p"):
            module.p = 0.0
    return snn


def tune(
    snn: SpikingNetwork, config: FitConfig = STILL, **options: Any
) -> tuple[SpikingNetwork, list[EpochMetrics]]:
    return finetune(snn, lambda indices: X[indices], Y, config, quiet=True, **options)


def outputs_of(snn: SpikingNetwork, messages: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    with torch.no_grad():
        found = {name: (weighted, spikes) for name, weighted, spikes in snn.walk(messages)}
    outputs, _ = found.pop(snn.network.output)
    return outputs, {name: spikes for name, (_, spikes) in found.items() if spikes is not None}


def test_a_batch_s_loss_is_the_sum_of_what_was_asked_for() -> None:
    """And the share of operations in it is that of the integers' own counts."""
    ann = residual(strided=True)
    snn = network(ann=ann)
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(128, 5))
    tuning = Tuning("tet", 0.1, 0.5, distill=0.25, temperature=3.0, synop_weight=7.0)
    _, metrics = tune(snn, tuning=tuning, teacher=teacher)
    messages = encode(X, snn.coding, STEPS)
    outputs, spikes = outputs_of(snn, messages)
    graph = quantize(to_nir(snn))
    counts = [
        layer
        for node, layer in zip(graph.nodes, counts_of(graph, spikes, messages), strict=True)
        if {synapse.source for synapse in graph.incoming(node.name)} != {"input"}
    ]
    done = sum(int(layer.connected.sum()) for layer in counts)
    share = done / len(X) / sum(layer.dense for layer in counts)
    assert 0.01 < share < 0.9
    expected = 0.75 * tet(outputs, Y, 0.1, 0.5) + 7.0 * share
    expected += 0.25 * distillation(outputs.mean(0), teacher(X), 3.0).detach()
    assert metrics[0].loss == pytest.approx(expected.item(), rel=1e-5)


def test_a_teacher_is_followed_and_stays_as_it_is() -> None:
    torch.manual_seed(3)
    # in training, its dropout would teach something else at every call
    teacher = nn.Sequential(nn.Flatten(), nn.Dropout(0.9), nn.Linear(128, 5)).train()
    before = copy.deepcopy(teacher.state_dict())
    config = FitConfig(epochs=25, batch_size=12, learning_rate=5e-3, optimizer="adam", device="cpu")
    options = {"tuning": Tuning(distill=1.0, temperature=4.0), "teacher": teacher}
    taught = teacher[2](X.flatten(1)).argmax(1)

    def agreeing(snn: SpikingNetwork) -> float:
        return (evaluate(snn, X).argmax(1) == taught).double().mean().item()

    tuned, metrics = tune(network(), config, **options)
    assert metrics[-1].loss < 0.3 * metrics[0].loss
    assert agreeing(network()) < 0.4 < 0.6 < agreeing(tuned)
    assert teacher.training
    assert all(value.grad is None for value in teacher.parameters())
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    _, again = tune(network(), config, **options)
    assert [entry.loss for entry in again] == [entry.loss for entry in metrics]


def test_t_is_annealed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[int] = []

    def noted(x: Tensor, coding: InputCoding, num_steps: int) -> Tensor:
        seen.append(num_steps)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return encode_train(x, coding, num_steps)

    monkeypatch.setattr(stdb, "encode_train", noted)
    config = FitConfig(epochs=4, batch_size=48, learning_rate=1e-3, device="cpu")
    options = {"tuning": Tuning(start_steps=10), "state_path": tmp_path / "state"}
    with pytest.raises(KeyboardInterrupt):
        tune(network("poisson"), config, **options)
    tuned, _ = tune(network("poisson"), config, **options)
    # the third epoch ran twice, with one T
    assert seen == [10, 8, 6, 6, 6]
    assert tuned.num_steps == STEPS


@pytest.mark.parametrize("part", ["threshold", "leak"])
@pytest.mark.parametrize("per", ["layer", "channel"])
def test_neurons_learn_what_is_asked_for(part: str, per: str) -> None:
    snn = network()
    for neuron in snn.neurons.values():
        neuron.leak.fill_(0.9)
    config = FitConfig(epochs=2, batch_size=16, learning_rate=1e-2, optimizer="adam", device="cpu")
    options: dict[str, Any] = {f"learn_{part}": True, "learn_per": per}
    tuned, _ = tune(snn, config, tuning=Tuning(**options))
    shapes = [(6, 1, 1), (8, 1, 1), (20,)]
    for (name, neuron), shape in zip(tuned.neurons.items(), shapes, strict=True):
        start = snn.neurons[name]
        learnt, kept = ("threshold", "leak") if part == "threshold" else ("leak", "threshold")
        value = getattr(neuron, learnt)
        assert value.shape == (shape if per == "channel" else ())
        assert (value != getattr(start, learnt)).any()
        if per == "channel":
            assert len(value.unique()) > 1
        assert torch.equal(getattr(neuron, kept), getattr(start, kept))
        assert torch.equal(neuron.v0, start.v0)
        # what was learnt is fixed again: it is for this run alone
        assert not list(neuron.parameters())
    again, _ = tune(tuned, config)
    for name, neuron in again.neurons.items():
        assert torch.equal(getattr(neuron, part), getattr(tuned.neurons[name], part))


def test_what_neurons_learn_has_its_own_rate_and_no_decay() -> None:
    # the first weights of direct input have a rate of their own
    snn = network("poisson")
    config = FitConfig(
        epochs=1, batch_size=48, learning_rate=1e-3, weight_decay=100.0, device="cpu"
    )

    def moved(factor: float) -> Tensor:
        tuning = Tuning(learn_threshold=True, learn_factor=factor)
        tuned, _ = tune(snn, config, tuning=tuning)
        weights = [dict(net.named_parameters()) for net in (snn, tuned)]
        for name, before in weights[0].items():
            # a tenth is what decay takes
            assert weights[1][name].norm() < 0.95 * before.norm()
        pairs = zip(snn.neurons.values(), tuned.neurons.values(), strict=True)
        return torch.stack([after.threshold - before.threshold for before, after in pairs])

    once, tenfold = moved(1.0), moved(10.0)
    assert 0 < once.abs().max() < 0.02
    assert torch.allclose(tenfold, 10 * once, rtol=1e-3, atol=1e-5)


def test_learnt_values_stay_in_their_range() -> None:
    """Steps so large that they would leave it."""
    config = FitConfig(epochs=2, batch_size=16, learning_rate=1e-5, optimizer="adam", device="cpu")
    tuning = Tuning(learn_threshold=True, learn_leak=True, learn_per="channel", learn_factor=1e7)
    tuned, _ = tune(network(), config, tuning=tuning)
    leaks = torch.cat([neuron.leak.flatten() for neuron in tuned.neurons.values()])
    assert ((leaks >= 0) & (leaks <= 1)).all()
    assert (leaks == 0).any()
    assert all((neuron.threshold > 0).all() for neuron in tuned.neurons.values())


def test_the_epoch_that_validates_best_is_kept() -> None:
    held_out = images(40, seed=11), torch.arange(40) % 5
    config = FitConfig(epochs=5, batch_size=12, learning_rate=0.3, device="cpu")
    tuned, metrics = tune(network("poisson"), config, validation=held_out)
    qualities = [entry.validation for entry in metrics]
    messages = encode(held_out[0], tuned.coding, STEPS, seed=config.seed)
    right = (tuned(messages).argmax(1) == held_out[1]).double().mean().item()
    assert right == max(quality for quality in qualities if quality is not None)
    assert qualities[-1] != right


def test_an_attached_reset_teaches_otherwise() -> None:
    config = FitConfig(epochs=1, batch_size=48, learning_rate=1e-2, device="cpu")
    (detached, before), (attached, after) = (
        tune(network(), config, tuning=Tuning(attached=on)) for on in (False, True)
    )
    # the first step's loss came before the first gradient
    assert before[0].loss == after[0].loss
    assert [neuron.attached for neuron in attached.neurons.values()] == [True] * 3
    weights = [dict(net.named_parameters()) for net in (detached, attached)]
    readout = "network.at/classes.weight"
    for name, value in weights[0].items():
        if "weight" in name:
            assert torch.equal(value, weights[1][name]) == (name == readout)


ALL = Tuning(
    "tet",
    distill=0.3,
    start_steps=8,
    attached=True,
    learn_threshold=True,
    learn_leak=True,
    learn_per="channel",
    synop_weight=1.0,
)


@pytest.mark.parametrize("name", sorted(SURROGATES))
@pytest.mark.parametrize("encoding", ["poisson", "direct"])
def test_all_options_combine_and_resume(name: Any, encoding: Encoding, tmp_path: Path) -> None:
    snn = convert(residual(), X, num_steps=STEPS, encoding=encoding, leak=0.95)
    options = {"tuning": ALL, "teacher": residual(), "surrogate_name": name}
    config = stdb_config((2, 8, 8), name, epochs=3, batch_size=24, device="cpu")
    whole, metrics = tune(snn, config, **options)
    assert all(entry.loss > 0 for entry in metrics)
    assert any(
        not torch.equal(value, snn.state_dict()[key])
        for key, value in whole.state_dict().items()
        if "weight" in key
    )
    calls = 0

    def interrupted(indices: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return X[indices]

    options["state_path"] = tmp_path / "state"
    with pytest.raises(KeyboardInterrupt):
        finetune(snn, interrupted, Y, config, quiet=True, **options)
    resumed, _ = tune(snn, config, **options)
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key])


def test_all_options_combine_with_the_integers_own_rounding() -> None:
    """What was fine-tuned in integers is what the quantizer then gives."""
    snn = convert(residual(), X, num_steps=STEPS, leak=0.95)
    aware = quantization_aware(snn, quantize(to_nir(snn)))
    config = stdb_config((2, 8, 8), epochs=3, batch_size=24, device="cpu")
    tuned, _ = tune(aware, config, tuning=ALL, teacher=residual())
    graph = quantize(to_nir(tuned))
    result = simulate(graph, encode(X, tuned.coding, STEPS).numpy())
    scores = torch.from_numpy(result.scores).double() * graph.nodes[-1].scale
    torch.testing.assert_close(evaluate(tuned, X).double(), scores, atol=1e-5, rtol=0)
    with pytest.raises(FitError, match="precision"):
        tune(aware, FitConfig(epochs=1, precision="bf16-mixed", device="cpu"))


def test_a_run_with_other_options_is_another(tmp_path: Path) -> None:
    state = tmp_path / "state"
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(128, 5))
    tune(network(), tuning=Tuning(distill=0.5), teacher=teacher, state_path=state)
    with pytest.raises(FitError, match="differs in synop_weight"):
        tune(
            network(),
            tuning=Tuning(distill=0.5, synop_weight=0.1),
            teacher=teacher,
            state_path=state,
        )
    nn.init.zeros_(teacher[1].weight)
    with pytest.raises(FitError, match="differs in teacher"):
        tune(network(), tuning=Tuning(distill=0.5), teacher=teacher, state_path=state)


def readout_only(encoding: Encoding = "direct") -> SpikingNetwork:
    layers = [
        Layer("flatten", nn.Flatten(), (INPUT,)),
        Layer("fc", nn.Linear(128, 5), ("flatten",)),
    ]
    return SpikingNetwork(Network(layers, (2, 8, 8)), InputCoding(encoding), STEPS)


@pytest.mark.parametrize(
    ("snn", "options", "said"),
    [
        (network, {"tuning": Tuning(distill=0.5)}, "belong together"),
        (network, {"teacher": nn.Flatten()}, "belong together"),
        (network, {"tuning": Tuning(distill=0.5), "teacher": nn.Flatten()}, "scores of shape"),
        (network, {"tuning": Tuning(distill=0.5), "teacher": nn.Linear(3, 5)}, "cannot take"),
        (network, {"tuning": Tuning(start_steps=6)}, "more than T, which is 6"),
        (readout_only, {"tuning": Tuning(learn_leak=True)}, "no neurons"),
        (readout_only, {"tuning": Tuning(synop_weight=0.1)}, "no neurons"),
        (
            lambda: readout_only("spikes"),
            {"tuning": Tuning(distill=0.5), "teacher": nn.Flatten()},
            "teacher: takes images",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused(snn: Any, options: Any, said: str) -> None:
    config = FitConfig(epochs=2, device="cpu")
    with pytest.raises(FitError, match=said) as error:
        tune(snn(), config, **options)
    assert "\n" not in str(error.value)
