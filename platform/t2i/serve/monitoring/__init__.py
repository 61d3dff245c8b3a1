"""What an operator sees of a service: metrics for Prometheus, traces for OpenTelemetry, lines of the log."""
