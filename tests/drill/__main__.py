"""The drill: a cluster on this machine loses nodes, its head and its load, while it serves and works.

    python -m tests.drill FOLDER                    with T2I_SOAK=0.1: 22 minutes on two cores

Everything is in a store that checks signatures: models, images, runs, reports. Nodes come and go by Ray's autoscaler.
Writes drill.json and drill.png into the folder that is named, and prints a table of what was done. Exits with 1 if any
work was lost: a request without its images, an image with other bytes, a job with another result than in peace.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from tests.cluster.cluster import Cluster, running_cluster
from tests.cluster.jobs import Job, Sizes, chain, put_models, write_inputs
from tests.cluster.service import answering, deploy
from tests.drill.drill import Drill, wait_until
from tests.drill.load import Load
from tests.drill.plot import plot
from tests.drill.settings import CORE, IDLE_S, NODE_TYPES, PAIR, service
from tests.drill.table import table
from tests.drill.timeline import Timeline
from tests.drill.watch import watched
from tests.processes import ROOT
from tests.soak import scaled
from tests.t2i.storage.seaweed import ACCESS_KEY, SECRET_KEY, make_bucket, seaweed

MODEL = "models/trained/small"

Pair = tuple[Sequence[Job], Sequence[Job]]
"""The same jobs twice: to be left in peace, and to be disturbed."""


def main(out: Path) -> int:
    """Hold the drill, write and print what came of it, and return the exit code."""
    out.mkdir(parents=True, exist_ok=True)
    with store() as bucket, running_cluster(node_types=NODE_TYPES, idle_s=IDLE_S) as cluster:
        put_models(ROOT / MODEL, f"{bucket}/{MODEL}")
        jobs, timeline = make_jobs(bucket), Timeline()
        load, seconds = start_service(cluster, f"{bucket}/{MODEL}", timeline)
        with watched(cluster, timeline), load.running():
            Drill(cluster, load, timeline, rate=1 / seconds).run(*jobs)
        lost = lost_work(timeline, jobs)
    tell(out, timeline, lost)
    return 1 if lost else 0


@contextmanager
def store() -> Iterator[str]:
    """An empty bucket while the block runs, of a server that the environment names."""
    with tempfile.TemporaryDirectory(prefix="drill-") as folder, seaweed(Path(folder)) as server:
        keys = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
        os.environ |= {"AWS_ENDPOINT_URL": server, **keys}
        yield make_bucket(server, "drill")


def make_jobs(bucket: str) -> Pair:
    """Write what jobs begin with, and return the jobs."""
    sizes = Sizes(images=12 * scaled(100), steps=12 * scaled(20), captions=24 + 12 * scaled(6))
    with tempfile.TemporaryDirectory() as models:
        write_inputs(bucket, Path(models))
        quiet, disturbed = (chain(bucket, Path(models), name, sizes) for name in ("quiet", "disturbed"))
    return quiet, disturbed


def start_service(cluster: Cluster, run: str, timeline: Timeline) -> tuple[Load, float]:
    """Deploy the service; return clients that know its images, and the seconds that a request alone takes."""
    wait_until(lambda: len(cluster.alive()) == 1 + NODE_TYPES[CORE]["min_workers"])  # so that its replicas are spread
    load = Load(deploy(cluster, service(run), CORE), timeline)
    wait_until(lambda: answering(cluster) >= Counter(PAIR))
    return load, load.learn()


def lost_work(timeline: Timeline, jobs: Pair) -> list[str]:
    """Return a sentence for each kind of work that was lost."""
    lost = [f"{count} requests: {fault}" for fault, count in timeline.faults().items()]
    return lost + [
        f"{each.name} ended with another result"
        for each, peace in zip(*jobs, strict=True)
        if each.result() != peace.result()
    ]


def tell(out: Path, timeline: Timeline, lost: Sequence[str]) -> None:
    """Write the record and the picture, and print the table."""
    plot(timeline, out / "drill.png")
    record = {"cores": os.cpu_count(), "lost": list(lost), **asdict(timeline)}
    (out / "drill.json").write_text(json.dumps(record, indent=1))
    print(f"\n{table(timeline)}\n\n{len(timeline.answers)} requests in {timeline.now():.0f} s; see {out}/drill.png")
    print("\n".join(["Lost:", *lost]) if lost else "No work was lost.")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing goes on running
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/drill")))
