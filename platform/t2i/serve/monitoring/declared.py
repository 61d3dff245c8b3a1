"""Every metric of a service, declared once: dashboard, alert rules, documents and tests are held to this list.

Ray puts ``ray_`` before the names and adds its own labels: deployment, replica, application, node. The names after
``t2i_`` are those of vLLM where it measures the same, so that routers and dashboards know them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

REQUEST_BUCKETS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300)
"""Seconds of requests."""

COMPUTE_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
"""Seconds of one step or batch."""

COUNT_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


@dataclass(frozen=True)
class Metric:
    """A metric: its name for Prometheus, what it tells, its labels, and the upper bounds of a histogram's buckets."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    meaning: str
    labels: tuple[str, ...] = ("model",)
    buckets: tuple[float, ...] = ()


REQUESTS_RUNNING = Metric(
    "t2i_num_requests_running", "gauge", "requests between their first image token and their answer"
)
REQUESTS_WAITING = Metric("t2i_num_requests_waiting", "gauge", "requests that wait for their first image token")
REQUEST_SUCCESS = Metric(
    "t2i_request_success_total",
    "counter",
    "requests answered in full; finished_reason is always length, as all make a fixed number of tokens",
    ("model", "finished_reason"),
)
REQUESTS_CANCELLED = Metric("t2i_requests_cancelled_total", "counter", "requests whose client went away")
REQUESTS_REJECTED = Metric(
    "t2i_requests_rejected_total",
    "counter",
    "requests refused for what their client can mend: invalid, unauthenticated, forbidden, quota or queue_full",
    ("model", "reason"),
)
REQUESTS_FAILED = Metric(
    "t2i_requests_failed_total",
    "counter",
    "requests that ended without an answer: deadline, unavailable (a replica was lost) or internal",
    ("model", "reason"),
)
E2E_LATENCY = Metric(
    "t2i_e2e_request_latency_seconds",
    "histogram",
    "seconds from a request to the end of its answer, of those answered in full",
    buckets=REQUEST_BUCKETS,
)
FIRST_PREVIEW = Metric(
    "t2i_time_to_first_preview_seconds",
    "histogram",
    "seconds from a request to its first preview, of those that ask for previews",
    buckets=REQUEST_BUCKETS,
)
PROMPT_TOKENS = Metric("t2i_prompt_tokens_total", "counter", "text tokens read")
GENERATION_TOKENS = Metric(
    "t2i_generation_tokens_total", "counter", "image tokens made, of all candidates, repeated ones included"
)
WASTED_TOKENS = Metric(
    "t2i_wasted_tokens_total",
    "counter",
    "image tokens of no use: repeated after a replica was lost, or of a request that ended without an answer",
    ("model", "reason"),
)
TOKENS_PER_STEP = Metric(
    "t2i_accepted_tokens_per_step",
    "histogram",
    "image tokens that a step of the engine made for a request, on average over the request",
    buckets=COUNT_BUCKETS,
)
CANDIDATES = Metric("t2i_candidates_total", "counter", "candidates drawn and ranked for requests answered in full")
CANDIDATES_PRUNED = Metric(
    "t2i_candidates_pruned_total", "counter", "those of them that were let go, as better ones were returned"
)
IMAGES = Metric("t2i_images_total", "counter", "images returned")
PIXELS = Metric("t2i_pixels_total", "counter", "pixels of the images returned")
CALLS_REPEATED = Metric(
    "t2i_calls_repeated_total", "counter", "calls of a stage that were repeated because a replica was lost"
)
QUEUE_SECONDS = Metric(
    "t2i_queue_seconds",
    "histogram",
    "seconds at a replica until work began: of a request at the prior, of an image at the others",
    ("model", "stage"),
    REQUEST_BUCKETS,
)
COMPUTE_SECONDS = Metric(
    "t2i_compute_seconds",
    "histogram",
    "seconds of one computation of a replica: a step of the prior's engine, a batch of the others",
    ("model", "stage"),
    COMPUTE_BUCKETS,
)
SLOTS_USED = Metric("t2i_slots_used", "gauge", "slots of an engine that hold a candidate")
SLOTS = Metric("t2i_slots", "gauge", "slots of an engine")
STAGE_READY = Metric(
    "t2i_stage_ready",
    "gauge",
    "1 if a stage answers, as a replica runs or a request would start one; else 0",
    ("model", "stage"),
)
GATEWAY_STARTED = Metric("t2i_gateway_start_time_seconds", "gauge", "Unix time at which a gateway began to listen", ())

METRICS = tuple(value for value in list(globals().values()) if isinstance(value, Metric))
