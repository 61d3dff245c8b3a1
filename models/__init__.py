"""The models of Ramesh et al. 2021: dVAE, prior, reranker and tokenizer; nothing here depends on Ray or the service."""
