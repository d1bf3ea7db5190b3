"""Training a spiking network through time."""
