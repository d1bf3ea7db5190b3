"""Spiking networks in PyTorch."""
