"""The words that options of training take; importing them loads nothing."""

from typing import Literal

Schedule = Literal["milestones", "cosine", "one-cycle"]
Head = Literal["dense", "pool"]
Pooling = Literal["average", "max"]
Start = Literal["paper", "he", "identity"]
Fill = Literal["black", "reflect"]
Flip = Literal["random", "alternating", "none"]
