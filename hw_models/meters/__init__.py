"""Counters of joules, and the one way work is measured on them."""
