"""What a placed network costs a chip: work of each core, time of each step, energy."""
