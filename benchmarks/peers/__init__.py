"""Other ways to do the same, to measure beside."""
