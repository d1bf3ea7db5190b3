"""Four time steps and 2-bit weights: bounded activations, then fine-tuning in the chip's integers.

The classifier is trained with activations that have as many levels as there will be time steps, so
conversion needs no balancing; then it is fine-tuned while it computes with Loihi 2's integers.
"""

import torch

from spikeship.deploy.compiler.quantize import quantize, training_room
from spikeship.deploy.io.inputs import of_set
from spikeship.deploy.run.evaluate import evaluate_graph
from spikeship.training.ann.activations import QCFS
from spikeship.training.ann.zoo import build
from spikeship.training.conversion.convert import convert
from spikeship.training.data import load as data
from spikeship.training.finetuning.stdb import finetune, stdb_config
from spikeship.training.fit.classifier import ann_config, evaluate_ann, train_ann
from spikeship.training.frontends.trace import trace
from spikeship.training.nir_io.to_nir import to_nir
from spikeship.training.quantization.qat import quantization_aware
from spikeship.training.snn.observe import evaluate

STEPS, BITS = 4, 2

digits = data.load("digits")
train, test = of_set(digits, split="train"), of_set(digits)
labels = torch.from_numpy(train.labels)


def say(stage: str, classes: torch.Tensor) -> None:
    """Print a stage's accuracy on the held-out digits."""
    print(f"{stage:32} {test.correct(classes.numpy()) / len(test.values):.1%}")


torch.manual_seed(0)
model = build("vgg5", digits.input_shape, digits.classes, activation=lambda: QCFS(2.0, STEPS))
train_ann(model, digits, ann_config(digits.input_shape, epochs=40), quiet=True)
say("classifier", evaluate_ann(model, test.values))

snn = convert(
    trace(model, digits.input_shape),
    train.values[:128],
    num_steps=STEPS,
    encoding="direct",
    balance="analytic",
    peak=train.peak(),
    data=train.data,
)
say(f"spiking, {STEPS} steps", evaluate(snn, test.values).argmax(1))


def in_integers(network: object) -> torch.Tensor:
    """Classes by the simulator, of what the quantizer makes of a network."""
    graph = quantize(to_nir(network), weight_bits=BITS)
    return torch.from_numpy(evaluate_graph(graph, test, seed=0).predictions)


say(f"rounded to {BITS} bits", in_integers(snn))

# the scales leave room for what training may do to the sums
fixed = quantize(to_nir(snn), weight_bits=BITS, headroom=training_room(BITS))
aware = quantization_aware(snn, fixed)
config = stdb_config(digits.input_shape, epochs=3, learning_rate=1e-3)
tuned, _ = finetune(aware, lambda indices: train.values[indices], labels, config, quiet=True)
say(f"fine-tuned in {BITS}-bit integers", in_integers(tuned))

same = torch.equal(evaluate(tuned, test.values).argmax(1), in_integers(tuned))
print(f"trained network and integers answer alike: {same}")
