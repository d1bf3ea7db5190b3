"""Classifiers: their modules, architectures, first weights and files."""
