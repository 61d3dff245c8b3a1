"""Watching a run: curves, pictures, speed, metrics for Prometheus, and advice."""
