"""The version of the sampling: what else than the models and the settings decides about image tokens."""

ENGINE_VERSION = 1
"""Raise it with every change by which the same request gives other image tokens (beyond rounding): recipes name it."""
