"""Decoding: the KV cache, attention of one step, and weights laid out for reading them once a step."""
