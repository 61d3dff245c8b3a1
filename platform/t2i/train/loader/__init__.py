"""Training data: which rows a step takes, and having them ready in time."""
