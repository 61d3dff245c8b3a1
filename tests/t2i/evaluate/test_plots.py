"""The report's plots are SVG in the page's own colours, with every image set and every published model named."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from t2i.evaluate import plots
from t2i.evaluate.published import BLUR_RADII, PUBLISHED, published_curves
from t2i.evaluate.section_plots import section_plots
from tests.t2i.evaluate.report_sections import EFFICIENTNET, INCEPTION, section


def texts(svg: str) -> list[str]:
    """Return the texts of an SVG element; raises if it is not well-formed."""
    return ["".join(element.itertext()).strip() for element in ElementTree.fromstring(svg).iter() if is_text(element)]


def is_text(element: ElementTree.Element) -> bool:
    return element.tag.endswith("}text")


@pytest.mark.parametrize("extractor", [EFFICIENTNET, INCEPTION])
def test_every_plot_is_whole_and_takes_the_pages_colour(extractor: object) -> None:
    parts = section_plots(section(extractor))  # type: ignore[arg-type]
    drawn = [svg for part in parts.values() for svg in part.values()]
    assert len(drawn) == 3 + 4 + 3
    assert all(texts(svg) and "currentColor" in svg and plots.INK not in svg for svg in drawn)


def test_bars_are_labelled_with_their_image_set_and_value() -> None:
    shown = texts(plots.bar_chart(section().figures_of("clip_score")))
    assert shown[-len(plots.LABELS) :] == ["0.9", "0.8", "0.7", "0.6", "0.5", "0.4", "0.3", "0.2"]
    assert set(plots.LABELS.values()) <= set(shown)


def test_error_bars_reach_from_end_to_end_of_the_interval() -> None:
    figure = section().figures_of("clip_score")[0]
    assert figure.interval is not None
    assert plots._ends(figure) == (figure.interval.low, figure.interval.high)


def test_the_sweep_has_a_tick_for_every_number_of_candidates() -> None:
    made = section()
    figures = {size: made.figure("clip_score", name) for size, name in made.sweep}
    assert texts(plots.sweep_plot(figures))[:4] == ["1", "2", "4", "8"]  # type: ignore[arg-type]
    assert texts(plots.best_of_n_plot(made.best_of_n))[:4] == ["1", "2", "4", "8"]


def test_published_values_are_drawn_beside_fid_and_inception_score_alone() -> None:
    assert all(dict(curve).keys() == set(BLUR_RADII) for curve in published_curves("fid").values())
    assert published_curves("is")["DALL·E"] == {0.0: 17.9}
    assert published_curves("fd_efficientnet_lite0") == published_curves("kid") == {}
    curves = {"best": section(INCEPTION).figures_of("fid")[:1]}
    starred = {f"{each.model}*" for each in PUBLISHED if len(each.fid) > 1}
    assert starred <= set(texts(plots.blur_plot(curves, published_curves("fid"))))
    assert not any(text.endswith("*") for text in texts(plots.blur_plot(curves, {})))


def test_every_published_figure_says_its_protocol_and_source() -> None:
    assert all(each.protocol and each.source and 0.0 in each.fid for each in PUBLISHED)
