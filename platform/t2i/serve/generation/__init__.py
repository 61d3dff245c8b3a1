"""How a caption becomes ranked images by calls of the three deployments; nothing here knows gRPC or HTTP."""
