"""Spiking networks as NIR graphs."""
