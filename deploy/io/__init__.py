"""Files and inputs that verbs read and write."""
