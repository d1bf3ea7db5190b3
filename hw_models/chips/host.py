"""What Loihi 1's host adds to an inference: the processors that feed it and read it out.

No estimate of cores contains it, and no published figure gives it apart. The two constants were
calibrated on one program on one board, so they say what that host took, not what another would.
"""

from spikeship.hw_models.chips.spec import Constant, Host

_CALIBRATED = (
    "calibrated by `spikeship validate` on the seven branch rows of Blouw et al., 2019 "
    "(arXiv 1812.01739; logs in github.com/abr/power_benchmarks): spikes streamed by the board's "
    "embedded x86 processors to eight cores, 10 steps an inference; range: what single rows say, "
    "whichever layers of theirs fire and by either reading of how far idle rises; by another "
    "program the same authors' keyword spotter took 3.37 ms in all, host included, which is less "
    "than this constant alone"
)

LOIHI1_HOST = Host(
    seconds=Constant(
        8.463e-3,
        7.054e-3,
        8.585e-3,
        "s",
        _CALIBRATED,
        "fitted",
    ),
    joules=Constant(56.68e-6, 44.42e-6, 86.85e-6, "J", _CALIBRATED, "fitted"),
    num_steps=10,
)

# in neither constant: the board draws it from its first run on, whether anything runs or not
LOIHI1_IDLE_RISE = Constant(
    0.070,
    0.0667,
    0.070,
    "W",
    "Blouw et al., 2019: idle lies approximately 70 mW higher after a run than after power-up; "
    "low: the same difference in their logs",
    "measured",
)

# static power of a board that has not run yet, to which the rise comes on top
LOIHI1_COLD_STATIC = Constant(
    0.0295,
    0.0295,
    0.0373,
    "W",
    "Blouw et al., 2019, power logs before the first run (29.5 mW); high: Frady et al., 2020 "
    "(104 mW, of a board that has run) less the rise of idle in Blouw et al.'s logs (66.7 mW)",
    "measured",
)
