"""Readers of other frameworks' network files."""
