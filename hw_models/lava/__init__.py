"""Real Lava: its compatibility shim, our Processes, and the subprocess that runs them."""
