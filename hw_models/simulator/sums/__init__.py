"""Exact weighted sums of integers, the fastest way there is."""
