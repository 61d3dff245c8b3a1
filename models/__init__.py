"""The models of Ramesh et al. 2021, in torch alone: dVAE, prior, reranker, and the tokenizer they share."""
