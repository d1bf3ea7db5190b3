"""Placement: which core holds which neurons, by a chip's limits, and what does not fit."""
