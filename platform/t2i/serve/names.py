"""The names of a service's Serve applications, but those of its models, which :mod:`t2i.serve.catalog` gives."""

GATEWAY_APP = "t2i"
HTTP_APP = "t2i-http"
ROLLOUT_APP = "t2i-rollout"
