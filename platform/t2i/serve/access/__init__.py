"""Who may ask the service, and how much: TLS, keys, quotas; nothing here knows gRPC's calls or HTTP."""
