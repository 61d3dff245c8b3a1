"""Load a job's configuration with OmegaConf: defaults, then the preset's YAML, then ``key=value`` arguments.

A job's configuration is one dataclass that nests those of the modules it uses, each declared beside its code. It is
checked before any work: unknown keys, wrong types and invalid combinations end in one sentence.
"""

from __future__ import annotations

import difflib
import sys
import typing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from models.errors import UserError

CONFIGS = Path(__file__).resolve().parents[2] / "jobs" / "configs"

ConfigT = TypeVar("ConfigT")


class ConfigError(UserError):
    """An invalid configuration; the message is one sentence that names the key."""


def run_job(main: Callable[[ConfigT], Any], config_cls: type[ConfigT], job: str) -> None:
    """Parse the command line and run ``main`` with the configuration: the entry point of every job.

    An error that the user can correct (:class:`UserError`) is printed as one sentence and exits with code 2; any
    other keeps its traceback.
    """
    arguments = sys.argv[1:]
    if {"-h", "--help"} & set(arguments):
        print(describe(config_cls, job))
        return
    try:
        main(load_config(config_cls, job, arguments))
    except UserError as error:
        print(f"{job}: {error}", file=sys.stderr)
        sys.exit(2)


def load_config(config_cls: type[ConfigT], job: str, arguments: Sequence[str] = ()) -> ConfigT:
    """Return a ``config_cls`` made of its defaults, ``jobs/configs/<job>/<preset>.yaml`` and ``arguments``.

    Later ones win. Defaults may depend on the preset (see :func:`_defaults`); the YAML file may be missing.

    Raises:
        ConfigError: an argument is not ``key=value``, a key is unknown, a value has the wrong type, or
            ``__post_init__`` of a dataclass refuses the combination.
    """
    words = _parse(arguments)
    config = _defaults(config_cls, words.get("preset"))
    preset_file = CONFIGS / job / f"{config.get('preset')}.yaml"
    if preset_file.is_file():
        config = _merge(config, typing.cast(DictConfig, OmegaConf.load(preset_file)), f"{preset_file}: ")
    config = _merge(config, words)
    try:
        return typing.cast(ConfigT, OmegaConf.to_object(config))
    except OmegaConfBaseException as error:
        raise ConfigError(_sentence(error, config)) from error
    except (ValueError, TypeError) as error:
        raise ConfigError(str(error)) from error


def describe(config_cls: type, job: str) -> str:
    """Return the ``--help`` text: every field of ``config_cls`` with its default and meaning."""
    rows = list(_rows(_defaults(config_cls, None), config_cls))
    width = max(len(f"{key}={value}") for key, value, _ in rows)
    lines = [f"  {f'{key}={value}':<{width}}  {meaning}" for key, value, meaning in rows]
    return "\n".join([f"usage: python jobs/{job}.py [key=value ...]", "", *lines])


def _parse(arguments: Sequence[str]) -> DictConfig:
    """Return ``key=value`` arguments as a nested configuration: ``a.b=1`` -> ``{"a": {"b": 1}}``."""
    for argument in arguments:
        if "=" not in argument:
            raise ConfigError(f"{argument!r} is not key=value: see --help for the keys.")
    try:
        return OmegaConf.from_dotlist(list(arguments))
    except Exception as error:  # YAML and OmegaConf raise classes without a common base
        raise ConfigError(f"the command line cannot be read: {str(error).splitlines()[0]}.") from error


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


def _merge(config: DictConfig, change: DictConfig, origin: str = "") -> DictConfig:
    """Return ``config`` overridden by ``change``; errors begin with ``origin``."""
    try:
        return typing.cast(DictConfig, OmegaConf.merge(config, change))
    except OmegaConfBaseException as error:
        raise ConfigError(origin + _sentence(error, config, change)) from error


def _sentence(error: OmegaConfBaseException, config: DictConfig, change: DictConfig | None = None) -> str:
    """Return the error in one line that names the full key, and for an unknown key the most similar one that exists.

    ``change`` is what was merged into ``config`` when the error was raised, if it was raised by merging.
    """
    # 1. A value for a group (train=3, where train holds train.steps, ...). OmegaConf says "int is not a subclass of
    #    Train", and its error has no key: so the group is found by comparing the two configurations.
    for group, value in (change or {}).items():
        if isinstance(config.get(group), DictConfig) and not isinstance(value, DictConfig):
            example = f"{group!s}.{next(iter(config[group]))!s}=..."
            return f"{group!s} is a group of fields: set one of them, such as {example}"
    # 2. An unknown key (train.step=3). OmegaConf says "Key 'step' not in 'Train'"; the remedy is looked for among the
    #    dotted keys of the whole configuration, since a right name is often typed under the wrong group.
    known = [name for name, _, _ in _rows(config, OmegaConf.get_type(config))]
    key = error.full_key or str(error.key)
    if key not in known and "not in" in str(error):
        nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        remedy = f"did you mean {nearest[0]}?" if nearest else "see --help for the keys."
        return f"{key} is not a known key: {remedy}"
    # 3. Anything else, such as a wrong type: OmegaConf's first line says what is wrong; the others are its internals.
    return f"{key}: {str(error).splitlines()[0].rstrip('.')}."


def _rows(config: Any, config_cls: Any, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Yield (dotted key, value, meaning) of every leaf field."""
    for field in fields(config_cls):
        value = config._get_node(field.name) if isinstance(config, DictConfig) else getattr(config, field.name)
        nested = OmegaConf.get_type(value) if isinstance(value, DictConfig) else None
        if nested is not None and is_dataclass(nested):
            yield from _rows(value, nested, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", _plain(value), field.metadata.get("help", "")


def _plain(node: Any) -> Any:
    """Return a leaf's value as the user would type it: interpolations such as ``${preset}`` are not resolved."""
    value = node._value() if hasattr(node, "_value") and not isinstance(node._value(), list) else node
    return "null" if value is None else value
