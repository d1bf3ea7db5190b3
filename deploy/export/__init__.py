"""Ways out: Lava and NIR."""
