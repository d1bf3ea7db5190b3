"""From a classifier to a spiking network: thresholds, biases, batch norm."""
