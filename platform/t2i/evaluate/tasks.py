"""How functions run as Ray tasks that compute figures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ray

one_thread: Callable[[Callable[..., Any]], Any] = ray.remote(num_cpus=1, max_retries=-1)
"""Decorator of such a task, which is run again when its worker dies.

One CPU is one thread: sums would come out otherwise, in the last bits, on another number of threads.
"""
