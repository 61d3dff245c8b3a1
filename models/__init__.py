"""The models of Ramesh et al. 2021: dVAE, prior, reranker and tokenizer; nothing here knows of Ray or of serving."""
