"""From a module of your own to the report, in ten lines."""

from torch import nn

import spikeship as ss

model = nn.Sequential(nn.Flatten(), nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 10))
trained = ss.train(model, "digits", epochs=20)
converted = ss.convert(trained, "digits", num_steps=16)
tuned = ss.finetune(converted, "digits", epochs=3)
net = ss.quantize(tuned, chip="loihi2")
found = ss.compare(
    trained, net, "digits", converted=converted, tuned=tuned, lava=3, report="report.html"
)
print(found)
print(found.result["report"])
