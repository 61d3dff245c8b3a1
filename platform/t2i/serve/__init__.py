"""The service: a gRPC gateway in front of prior, decoder and reranker deployments; its client; the command ``t2i``."""
