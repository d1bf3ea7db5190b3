"""Measured workloads beside what the estimate says of them."""
