"""The networks that the simulator is timed on, the engines beside it, and the page of results."""
