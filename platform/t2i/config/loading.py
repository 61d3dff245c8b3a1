"""Load a configuration: defaults, then the preset's YAML, then ``key=value`` words; later ones win."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from models.errors import UserError
from models.settings import Bounds, out_of_bounds
from t2i.config.errors import ConfigError
from t2i.config.leaves import build, leaves
from t2i.config.paths import ROOT, resolve_path
from t2i.config.words import read_words, read_yaml

CONFIGS = ROOT / "jobs" / "configs"
WIDEST = 60
"""Characters of a field with its default that the help text makes room for; a longer one moves its meaning alone."""
PRESET_FIELDS = ("preset", "protocol")
"""Fields that name a YAML file of settings."""

ConfigT = TypeVar("ConfigT")


def load_config(config_cls: type[ConfigT], job: str, arguments: Sequence[str] = ()) -> ConfigT:
    """Return a ``config_cls`` made of its defaults, ``jobs/configs/<job>/<preset>.yaml`` and ``arguments``.

    A field ``protocol`` names the file where there is no field ``preset``. Defaults may depend on the preset (see
    :func:`_defaults`); the YAML file may be missing. Both may refer to other fields (``${preset}``); what was typed is
    never replaced. Paths come out absolute.

    Raises:
        ConfigError: a word is not ``key=value``, a key is unknown or comes twice, a value has the wrong type or is out
            of its bounds, or ``__post_init__`` of a dataclass refuses the combination.
    """
    words = read_words(config_cls, arguments)
    config = _defaults(config_cls, words.get("preset"))
    field = _preset_field(config_cls)
    preset_file = CONFIGS / job / f"{words.get(field, config.get(field))}.yaml"
    if preset_file.is_file():
        config = _merged(config, read_yaml(config_cls, preset_file.read_text(), str(preset_file)))
    return _finished(config_cls, _merged(config, _literal(words)))


def load_mapping(config_cls: type[ConfigT], values: Mapping[str, Any]) -> ConfigT:
    """Return a ``config_cls`` made of its defaults and of ``values``, as a YAML file that others have read holds them.

    Raises:
        ConfigError: as of :func:`load_config`.
    """
    return load_text(config_cls, yaml.safe_dump(dict(values)), "args")


def load_text(config_cls: type[ConfigT], text: str, origin: str) -> ConfigT:
    """Return a ``config_cls`` made of its defaults and of a YAML document; errors name its ``origin``, such as a file.

    Raises:
        ConfigError: as of :func:`load_config`.
    """
    given = read_yaml(config_cls, text, origin)
    try:
        return _finished(config_cls, _merged(_defaults(config_cls, None), _literal(given)))
    except ConfigError as error:
        raise ConfigError(f"{origin}: {error}") from error


def describe(config_cls: type, job: str, command: str = "") -> str:
    """Return the ``--help`` text of a job or its ``command``.

    It has every field of ``config_cls`` with default and meaning, and its ``help_notes()``.
    """
    rows = [(f"{key}={value}", meaning) for key, value, meaning in _rows(_defaults(config_cls, None), config_cls)]
    width = max(len(word) for word, _ in rows if len(word) <= WIDEST)
    lines = [f"  {word:<{width}}  {meaning}" for word, meaning in rows]
    notes = config_cls.help_notes() if hasattr(config_cls, "help_notes") else []
    words = " ".join(filter(None, [f"jobs/{job}.py", command, "[key=value ...]"]))
    return "\n".join([f"usage: python {words}", "", *lines, *notes])


def _defaults(config_cls: type, preset: str | None) -> DictConfig:
    """Return the defaults of the dataclass, or of its ``for_preset(preset)`` if it has one.

    ``preset`` None stands for the default of the field ``preset``.
    """
    if not hasattr(config_cls, "for_preset"):
        return typing.cast(DictConfig, OmegaConf.structured(config_cls))
    default = next(field.default for field in fields(config_cls) if field.name == "preset")
    try:
        return typing.cast(DictConfig, OmegaConf.structured(config_cls.for_preset(preset or default)))
    except UserError as error:
        raise ConfigError(str(error)) from error


def _preset_field(config_cls: type) -> str:
    """Return the field that names the YAML file of ``config_cls``; ``preset`` if it has none."""
    return next((field.name for field in fields(config_cls) if field.name in PRESET_FIELDS), "preset")


def _merged(config: DictConfig, change: dict[str, Any]) -> DictConfig:
    return typing.cast(DictConfig, OmegaConf.merge(config, change))


def _literal(value: Any) -> Any:
    """Return nested values whose texts OmegaConf takes as they are: ``${`` and backslashes before it are escaped."""
    if isinstance(value, dict):
        return {key: _literal(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_literal(each) for each in value]
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", value) if isinstance(value, str) else value


def _finished(config_cls: type[ConfigT], config: DictConfig) -> ConfigT:
    """Return the configuration with interpolations replaced, paths absolute, and all values checked."""
    try:
        values = typing.cast("dict[str, Any]", OmegaConf.to_container(config, resolve=True))
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key}: {str(error).splitlines()[0].rstrip('.')}.") from error
    for leaf in leaves(config_cls, values):
        if problem := out_of_bounds(leaf.value, leaf.field.metadata.get("bounds", Bounds())):
            raise ConfigError(f"{leaf.key} {problem}")
        if leaf.field.metadata.get("path"):
            resolve_path(leaf)
    try:
        return typing.cast(ConfigT, build(config_cls, values))
    except (ValueError, TypeError) as error:
        raise ConfigError(str(error)) from error


def _rows(config: Any, config_cls: Any, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Yield (dotted key, value, meaning) of every leaf field."""
    for field in fields(config_cls):
        value = config._get_node(field.name)
        nested = OmegaConf.get_type(value) if isinstance(value, DictConfig) else None
        if nested is not None and is_dataclass(nested):
            yield from _rows(value, nested, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", _plain(value), field.metadata.get("help", "")


def _plain(node: Any) -> Any:
    """Return a leaf's value as the user would type it: interpolations such as ``${preset}`` are not resolved."""
    value = node._value() if hasattr(node, "_value") and not isinstance(node._value(), list) else node
    return "null" if value is None else value
