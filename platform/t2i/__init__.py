"""The platform around the models: configuration, data, training, engine, evaluation, service."""
