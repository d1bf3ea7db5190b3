"""Stages, chips and what-ifs side by side."""
