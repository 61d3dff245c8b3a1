"""How much the long tests do."""

from __future__ import annotations

import os


def scaled(number: int) -> int:
    """Return a number of kills, steps or trials times ``T2I_SOAK`` (1 by default), at least one."""
    return max(1, round(number * float(os.environ.get("T2I_SOAK", "1"))))
