"""What one run of the simulator tells: accuracy at every step, when to stop, and a live stream.

A classifier for digits becomes integers with T = 32 Poisson steps. One run over all held-out digits
gives the accuracy after each step; early exit lets easy images stop; a stream takes messages a few
steps at a time.
"""

import numpy as np
import torch

from spikeship.deploy.compiler.quantize import quantize
from spikeship.deploy.io.inputs import messages_of, of_set
from spikeship.deploy.run.evaluate import Running, evaluate_graph
from spikeship.hw_models.simulator.early_exit import EarlyExit
from spikeship.hw_models.simulator.simulator import simulate
from spikeship.hw_models.simulator.stream import Stream
from spikeship.training.ann.zoo import build
from spikeship.training.conversion.convert import convert
from spikeship.training.data import load as data
from spikeship.training.fit.classifier import ann_config, train_ann
from spikeship.training.frontends.trace import trace
from spikeship.training.nir_io.to_nir import to_nir

STEPS = 32

digits = data.load("digits")
train, test = of_set(digits, split="train"), of_set(digits)
torch.manual_seed(0)
model = build("vgg5", digits.input_shape, digits.classes, width=0.5)
train_ann(model, digits, ann_config(digits.input_shape, epochs=40), quiet=True)
images = train.values[:128]
snn = convert(trace(model, digits.input_shape), images, num_steps=STEPS, data=train.data)
graph = quantize(to_nir(snn))

whole = evaluate_graph(graph, test, seed=0)
assert whole.correct_by_step is not None  # the digits are labelled
for step in (2, 4, 8, 16, STEPS):
    print(f"after {step:2} steps  {whole.correct_by_step[step - 1] / len(test.values):.1%}")

for margin in (2.0, 5.0, 10.0):
    early = evaluate_graph(graph, test, seed=0, running=Running(early_exit=EarlyExit(margin)))
    share = test.correct(early.predictions) / len(test.values)
    print(f"stopped at a lead of {margin:4}: {early.steps.mean():4.1f} steps, {share:.1%}")

# two images that run side by side and come in pieces, as from a sensor
messages = messages_of(graph, test.first(2), seed=0)
stream = Stream(graph, images=2)
pieces = [stream.feed(messages[:, begin : begin + 3]) for begin in range(0, STEPS, 3)]
scores = np.concatenate(pieces, axis=1)
print("the stream ends where the run does:", end=" ")
print(np.array_equal(scores, simulate(graph, messages).scores_by_step))
