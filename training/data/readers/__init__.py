"""One file for every kind of publisher's files: what they hold, as arrays or read by index."""
