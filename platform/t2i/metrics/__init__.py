"""Metrics of sets of images: numpy arrays in, numbers out; only the feature extractors need torch."""
