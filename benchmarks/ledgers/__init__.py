"""Who counts what as a synaptic operation: ours, NeuroBench, sinabs and keras-spiking."""
