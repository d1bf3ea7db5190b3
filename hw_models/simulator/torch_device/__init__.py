"""The same arithmetic in PyTorch, on a GPU."""
