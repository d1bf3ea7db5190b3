"""Damaged files, signals, full disks: what a hostile file or a bad moment does."""
