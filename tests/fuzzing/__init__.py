"""Random graphs on every engine: what draws, runs, compares, shrinks and replays them."""
