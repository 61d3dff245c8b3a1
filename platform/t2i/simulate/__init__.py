"""A service as a discrete-event model, fed with measured costs: how many replicas of what does a load need?

A request is followed through gateway, prior, decoder and reranker; what decides about it is the service's own code: the
fair queue (``Turns``), the admission by deadline (``Backlog``), the scaling policy (``by_outstanding_tokens``), the
choice of slots (``choose``). What the model leaves out, so that a thousand GPUs take seconds:

- Image tokens. A replica of the prior counts steps as time goes by; events happen when candidates join or end.
- Which replica is the least busy is known at once; Serve asks two at random, and so does the model.
- A deadline that passes in the middle of an image is noticed when next a candidate ends, not within a step.
- Clients that are refused do not come back, and nobody asks for previews, guidance or continued images.
"""
