"""Which applications answer for models, under which names."""

from __future__ import annotations

import pytest

from t2i.sampling import RequestError
from t2i.serve.catalog import Catalog, app_of
from t2i.serve.config import Alias, NamedRun, ServeConfig

CATALOG = Catalog({"a": "app-a", "b": "app-b"}, {"dall-e-3": "", "old": "b", "gone": "c"})


def test_names_and_aliases_mean_models() -> None:
    meant = {name: CATALOG.resolve(name) for name in ("", "a", "b", "dall-e-3", "old", "nothing")}
    assert meant == {"": "a", "a": "a", "b": "b", "dall-e-3": "a", "old": "b", "nothing": "nothing"}
    assert CATALOG.names == ["a", "b", "dall-e-3", "old"]
    assert Catalog().default == ""


def test_a_change_makes_another_catalog() -> None:
    assert dict(CATALOG.with_model("a", "app-a2").apps) == {"a": "app-a2", "b": "app-b"}
    assert list(CATALOG.with_model("c", "app-c").with_default("c").apps) == ["c", "a", "b"]
    assert list(CATALOG.without("b").apps) == ["a"]
    assert CATALOG.with_default("b").aliases_of("b") == ["dall-e-3", "old"]
    assert [each.revision for each in (CATALOG, CATALOG.with_default("b").without("a"))] == [0, 2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: CATALOG.without("a"), "name: a is the default: make another the default first."),
        (lambda: CATALOG.without("c"), "name: model 'c' is not served here: use a or b."),
        (lambda: CATALOG.with_default("old"), "name: model 'old' is not served here: use a or b."),
        (lambda: CATALOG.with_model("old", "app"), "name: old is an alias of b: choose another name."),
        (lambda: CATALOG.with_model("a b", "app"), "name: the name 'a b' is not possible"),
    ],
)
def test_impossible_changes_are_refused(change: object, message: str) -> None:
    assert callable(change)
    with pytest.raises(RequestError, match=message) as caught:
        change()
    assert caught.value.field == "name"


def test_deployments_are_told_all_of_it_in_its_order() -> None:
    changed = CATALOG.with_default("b")
    assert list(Catalog.from_user_config(changed.user_config()).apps) == ["b", "a"]
    assert Catalog.from_user_config(changed.user_config()) == changed
    assert Catalog.from_user_config({"models": [{"name": "a", "app": "app-a"}]}) == Catalog({"a": "app-a"})


def test_a_configuration_names_models_and_aliases() -> None:
    config = ServeConfig(
        run="/runs/a", models=[NamedRun("b", "/runs/2")], aliases=[Alias("dall-e-3"), Alias("old", "b")]
    )
    assert Catalog.of(config) == Catalog({"a": app_of("a"), "b": app_of("b")}, {"dall-e-3": "", "old": "b"})


@pytest.mark.parametrize(
    ("aliases", "message"),
    [
        ([Alias("a")], "aliases: a is the name of a model or there twice"),
        ([Alias("x"), Alias("x")], "aliases: x is the name of a model or there twice"),
        ([Alias("x", "c")], "aliases: there is no model c: use a, or leave model out"),
    ],
)
def test_aliases_that_mean_nothing_are_refused(aliases: list[Alias], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ServeConfig(run="/runs/a", aliases=aliases)
