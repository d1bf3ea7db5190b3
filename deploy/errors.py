"""The error of a network that cannot be deployed."""

from spikeship.hw_models.errors import SpikeshipError


class DeployError(SpikeshipError, ValueError):
    """A network that cannot be deployed; one line names the node, the reason and the fix."""
