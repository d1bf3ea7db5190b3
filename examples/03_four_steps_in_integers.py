"""Four time steps and 2-bit weights: bounded activations, then fine-tuning in the chip's integers.

The classifier is trained with activations that have as many levels as there will be time steps, so
conversion needs no balancing; then it is fine-tuned while it computes with Loihi 2's integers.
"""

import spikeship as ss

STEPS, BITS = 4, 2

digits = ss.load_data("digits")
ann = ss.train("vgg5", digits, activation=f"qcfs:{STEPS}")
snn = ss.convert(ann, digits, num_steps=STEPS, encoding="direct", balance="analytic")
rounded = ss.quantize(snn, weight_bits=BITS)
tuned = ss.finetune(snn, digits, weight_bits=BITS, epochs=3, lr=1e-3)
net = ss.quantize(tuned)

before = ss.compare(ann, rounded, digits, converted=snn)
after = ss.compare(ann, net, digits, tuned=tuned)
for words, comparison, stage in (
    ("classifier", before, "ann"),
    (f"spiking, {STEPS} steps", before, "converted"),
    (f"rounded to {BITS} bits", before, "integer"),
    (f"fine-tuned in {BITS}-bit integers", after, "integer"),
):
    (row,) = (row for row in comparison.result["rows"] if row["stage"] == stage)
    print(f"{words:32} {row['accuracy']:.1%}")

alike = after.result["rows"][-1]["agreement_with_previous"]
print(f"trained network and integers answer alike on {alike:.1%}")
