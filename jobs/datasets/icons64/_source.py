"""Put this checkout's source roots first on ``sys.path``; the scripts here import this module before all others."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT / "platform"), str(ROOT / "jobs" / "datasets"), str(ROOT)]
