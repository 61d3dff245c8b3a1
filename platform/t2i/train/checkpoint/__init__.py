"""Checkpoints of a run, and the directory that holds them."""
