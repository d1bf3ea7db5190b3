"""The base of every error that Spikeship raises on purpose."""


class SpikeshipError(Exception):
    """Something that cannot be read, done or taken, in one line: which, why, and what to do.

    Errors about what somebody gave are ``ValueError`` too, as Python has it; those of Lava and of
    a missing package are what Python calls these.
    """


class InputError(SpikeshipError, ValueError):
    """Something that was given and cannot be taken: a name, a shape, a number."""
