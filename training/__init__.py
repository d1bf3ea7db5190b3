"""Float networks in PyTorch: from a trained classifier to a fine-tuned spiking one."""
