"""The compiler and the command line."""
