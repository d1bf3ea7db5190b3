"""The error of a network that cannot be deployed."""


class DeployError(ValueError):
    """A network that cannot be deployed; one line names the node, the reason and the fix."""
