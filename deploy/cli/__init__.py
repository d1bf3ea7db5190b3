"""The command line: verbs, options, help."""
