"""The fast simulator: the same spikes as the reference."""
