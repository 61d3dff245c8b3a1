"""Settings of the prior that are left to the service: measured once for a model, and the same in all its replicas.

dtype, slots and threads all change how sums are rounded, and so now and then a token. But a request that is repeated by
another replica has to give the same images, and a receipt names one setup. So no replica chooses for itself: the first
one measures, records what it has chosen in the cluster, and every other one, also one that replaces it or comes with a
restart of the service, takes that. On machines of different kinds the first one's choice may not be the best for all:
pin the settings there. A new cluster measures again, and may choose otherwise where two choices are about equally fast.
"""
