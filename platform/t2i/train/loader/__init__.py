"""Training data: which rows a step takes, and how they are read before the step needs them."""
