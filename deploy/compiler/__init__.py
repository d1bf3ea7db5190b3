"""From a NIR graph to the integers of a chip."""
