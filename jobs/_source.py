"""Imported first by every job: the code beside the job is the code that runs.

``ray job submit --working-dir .`` unpacks the checkout on the cluster and runs ``python jobs/X.py`` there. Putting its
two source roots first on ``sys.path`` lets an edit in ``platform/`` or ``models/`` win over an installed wheel.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "platform"), str(ROOT)]
