"""Tasks: the models that can be trained, each with its data, loss, validation and metrics in one file."""
