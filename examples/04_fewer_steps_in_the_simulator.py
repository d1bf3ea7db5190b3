"""What one run of the simulator tells: accuracy at every step, when to stop, and a live stream.

A classifier for digits becomes integers with T = 32 Poisson steps. One run over all held-out digits
gives the accuracy after each step; early exit lets easy images stop; a stream takes messages a few
steps at a time.
"""

import numpy as np

import spikeship as ss

STEPS = 32

digits = ss.load_data("digits")
ann = ss.train("vgg5", digits, width=0.5)
net = ss.quantize(ss.convert(ann, digits, num_steps=STEPS))

whole = ss.simulate(net, digits)
for step in (2, 4, 8, 16, STEPS):
    print(f"after {step:2} steps  {whole.result['accuracy_by_step'][step - 1]:.1%}")

for margin in (2.0, 5.0, 10.0):
    early = ss.simulate(net, digits, early_exit=margin)
    steps = early.result["early_exit"]["mean_steps"]
    print(f"stopped at a lead of {margin:4}: {steps:4.1f} steps, {early.accuracy:.1%}")

# two images that run side by side and come in pieces, as from a sensor
messages = ss.messages(net, digits, limit=2)
stream = ss.stream(net, images=2)
pieces = [stream.feed(messages[:, begin : begin + 3]) for begin in range(0, STEPS, 3)]
scores = np.concatenate(pieces, axis=1)
print("the stream ends where the run does:", end=" ")
print(np.array_equal(scores[:, -1], whole.evaluation.scores[:2]))
