"""What is counted in a run: events, traffic, recordings."""
