"""The version of the sampling: what else than the models and the settings decides about image tokens."""

ENGINE_VERSION = 3
"""Raise it with every change by which the same request may give other image tokens, be it by rounding: recipes name it.

2: attention adds up the image tokens in raster order.
3: attention to the text is computed row by row, not in blocks of 16.
"""
