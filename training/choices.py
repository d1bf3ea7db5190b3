"""The words that options of training take; importing them loads nothing."""

from typing import Literal

# where, and how long
Device = Literal["auto", "cpu", "cuda"]
Schedule = Literal["milestones", "cosine", "one-cycle"]

# networks
Head = Literal["dense", "pool"]
Pooling = Literal["average", "max"]
Start = Literal["paper", "he", "identity"]
MaxPool = Literal["keep", "average"]

# training images
Fill = Literal["black", "reflect"]
Flip = Literal["random", "alternating", "none"]

# spiking networks
Timing = Literal["pipelined", "staged"]
Encoding = Literal["poisson", "direct", "spikes"]
Reset = Literal["subtract", "zero"]
FirstPotential = Literal["zero", "half"]
Calibrated = Literal["bias", "v0"]
Correction = Literal["refit", "bias", "none"]
LossName = Literal["ce", "tet"]
Share = Literal["layer", "channel"]
