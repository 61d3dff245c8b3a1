"""The service: a gRPC gateway in front of the deployments prior, decoder, reranker; a client; the command ``t2i``."""
