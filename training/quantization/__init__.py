"""Training in a chip's integers."""
