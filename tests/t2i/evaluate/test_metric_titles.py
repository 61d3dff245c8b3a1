"""Every metric stands in a table under a name that says which network measured it."""

from __future__ import annotations

from t2i.evaluate.metric_titles import CAPTIONS, DISTANCES, OTHERS, TITLES, VARIETY, tables, title_of
from tests.t2i.evaluate.report_sections import EFFICIENTNET, INCEPTION

ELSEWHERE = ["elb_total", "clip_cosine", "fid_torch_fidelity"]


def test_the_extractor_is_named_unless_the_metric_is_fid_itself() -> None:
    assert title_of(INCEPTION.metric_name("fid"), INCEPTION.name).title == "FID"
    assert title_of(EFFICIENTNET.metric_name("fid"), EFFICIENTNET.name).title == "FD (efficientnet_lite0)"
    infinite = EFFICIENTNET.metric_name("fid_infinity")
    assert title_of(infinite, EFFICIENTNET.name).title == "FD∞ (efficientnet_lite0)"


def test_every_metric_that_is_not_elsewhere_is_in_one_table_distances_first() -> None:
    found = tables(["clip_score", "new_metric", *ELSEWHERE, "is_x", "kid_x", "fd_x", "kid_x"], "x")
    assert found == {DISTANCES: ["fd_x", "kid_x"], VARIETY: ["is_x"], CAPTIONS: ["clip_score"], OTHERS: ["new_metric"]}


def test_arrows_point_to_the_better_side() -> None:
    lower = {metric for metric, title in TITLES.items() if title.heading.endswith("↓")}
    assert lower == {"fid", "fd", "fid_infinity", "fd_infinity", "kid", "cmmd", "mind"}
