"""Put this checkout's source roots first on ``sys.path``; every job imports this module before all others.

``ray job submit --working-dir .`` unpacks the checkout on the cluster and runs ``python jobs/X.py`` there. With the
source roots first, edits in ``platform/`` or ``models/`` take precedence over an installed wheel.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "platform"), str(ROOT)]
