"""What Prometheus reads from the metrics agent of the local Ray."""

from __future__ import annotations

from urllib.request import urlopen


def scrape() -> str:
    """Return the agent's page."""
    import ray

    node = ray.nodes()[0]
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    page: str = urlopen(url, timeout=10).read().decode()
    return page
