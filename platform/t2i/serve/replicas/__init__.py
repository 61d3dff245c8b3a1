"""The three deployments, one replica class each: prior, decoder, reranker; and the messages that they exchange."""
