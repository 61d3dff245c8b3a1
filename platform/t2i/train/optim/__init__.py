"""Optimizer, learning rate, averaged weights, and compression of gradients."""
