"""Python's interface, ``import spikeship as ss``: the verbs as functions.

Each takes what the command line takes, as keyword arguments of the same names, with the same
defaults, and calls the same code. Networks may be objects or files, data sets objects or names,
paths strings.
"""
