"""The machine: integers, chips, cores and joules."""
