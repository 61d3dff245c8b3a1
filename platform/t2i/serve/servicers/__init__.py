"""The four gRPC services: they check requests, call the deployments, and turn results and errors into messages."""
