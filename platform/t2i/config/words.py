"""Read ``key=value`` words and YAML by the declared types: a field that is text takes its word as it was typed.

YAML alone would make a number of ``007`` and a boolean of ``yes``; here only a field that is a number is read as one.
"""

from __future__ import annotations

import difflib
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any

import yaml

from models.settings import AUTO
from t2i.config.errors import ConfigError
from t2i.config.leaves import field_types, item_type, known_keys, without_none

BOOLEANS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def check_encoding(arguments: Sequence[str]) -> None:
    """Check that all arguments are UTF-8.

    Raises:
        ConfigError: names the first that is not.
    """
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError as error:
            word = argument.encode("utf-8", "surrogateescape")
            raise ConfigError(f"{word!r} is not UTF-8: type it, or rename the file, in UTF-8.") from error


def read_words(config_cls: type, arguments: Sequence[str]) -> dict[str, Any]:
    """Return ``key=value`` words as plain nested values: ``a.b=1`` -> ``{"a": {"b": 1}}``.

    Raises:
        ConfigError: a word is not ``key=value``, its key is unknown or comes twice, or its value has the wrong type.
    """
    check_encoding(arguments)
    values: dict[str, Any] = {}
    for argument in arguments:
        key, equals, word = argument.partition("=")
        if key.startswith("-"):
            raise ConfigError(f"{argument!r} has dashes: write {key.lstrip('-')}={word or '...'} without them.")
        if not equals:
            raise ConfigError(f"{argument!r} is not key=value: see --help for the keys.")
        _insert(values, key, read_word(word, _declared(config_cls, key), key))
    return values


def read_word(word: str, kind: Any, key: str) -> Any:
    """Return the value of a word for a field of the declared type ``kind``; lists and groups are YAML."""
    inner, optional = without_none(kind)
    if optional and (word in ("", "null") or _is_auto(word, inner)):
        return None
    if is_dataclass(inner) or item_type(inner):
        return _read(_compose(word, key), kind, key)
    return _scalar(word, inner, key)


def read_yaml(config_cls: type, text: str, origin: str) -> dict[str, Any]:
    """Return a YAML document as plain nested values; errors begin with ``origin``, such as the file's name."""
    try:
        node = _compose(text, "it")
        return _group(node, config_cls, "") if node else {}
    except ConfigError as error:
        raise ConfigError(f"{origin}: {error}") from error


def _insert(values: dict[str, Any], key: str, value: Any) -> None:
    """Put a value under its dotted key; refuse a key that comes twice, be it as part of a group."""
    *groups, name = key.split(".")
    for group in groups:
        values = values.setdefault(group, {})
        if not isinstance(values, dict):
            raise ConfigError(f"{key} is given twice: in {group}=... and by itself.")
    if name in values:
        raise ConfigError(f"{key} is given twice: leave one out.")
    values[name] = value


def _declared(config_cls: type, key: str) -> Any:
    """Return the declared type of the field with a dotted key.

    Raises:
        ConfigError: there is no such field; names the most similar one.
    """
    kind: Any = config_cls
    for position, name in enumerate(names := key.split(".")):
        group = without_none(kind)[0]
        if item_type(group):
            whole = ".".join(names[:position])
            raise ConfigError(f"{key} is not a known key: {whole} is a list, write {whole}=[...].")
        if not is_dataclass(group) or name not in field_types(typing.cast(type, group)):
            raise _unknown(config_cls, key)
        kind = field_types(typing.cast(type, group))[name]
    return kind


def _unknown(config_cls: type, key: str, prefix: str = "") -> ConfigError:
    """Return the error of an unknown key; it names the nearest known one, which may be in another group."""
    nearest = difflib.get_close_matches(key, list(known_keys(config_cls, prefix)), n=1, cutoff=0.5)
    remedy = f"did you mean {nearest[0]}?" if nearest else "see --help for the keys."
    return ConfigError(f"{key} is not a known key: {remedy}")


def _compose(text: str, key: str) -> yaml.Node | None:
    """Return the syntax tree of a YAML text, None if it is empty."""
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(f"{key} cannot be read as YAML ({problem}): put texts in quotes.") from error


def _read(node: yaml.Node | None, kind: Any, key: str) -> Any:
    """Return the value of a node for a field of the declared type ``kind``."""
    inner, optional = without_none(kind)
    if optional and (node is None or node.tag == "tag:yaml.org,2002:null"):
        return None
    if is_dataclass(inner):
        return _group(node, typing.cast(type, inner), key)
    if item := item_type(inner):
        if not isinstance(node, yaml.SequenceNode):
            raise ConfigError(f"{key} is a list: write it in brackets, as {key}='[...]'.")
        return [_read(each, item, key) for each in node.value]
    if not isinstance(node, yaml.ScalarNode):
        raise ConfigError(f"{key} has {{...}} or [...] where {_NAMES[inner]} belongs: put texts in quotes.")
    if optional and _is_auto(node.value, inner):
        return None
    return _scalar(node.value, inner, key)


def _group(node: yaml.Node | None, group: type, key: str) -> dict[str, Any]:
    """Return the values of a mapping for the dataclass ``group``."""
    prefix = f"{key}." if key else ""
    if not isinstance(node, yaml.MappingNode):
        example = next(iter(field_types(group)))
        raise ConfigError(f"{key or 'it'} is a group of fields: set one of them, such as {prefix}{example}=...")
    values: dict[str, Any] = {}
    for name_node, value_node in node.value:
        name = str(name_node.value)
        if name not in field_types(group):
            raise _unknown(group, f"{prefix}{name}", prefix)
        if name in values:
            raise ConfigError(f"{prefix}{name} is given twice: leave one out.")
        values[name] = _read(value_node, field_types(group)[name], f"{prefix}{name}")
    return values


def _is_auto(word: str, kind: Any) -> bool:
    return word == AUTO and kind in (int, float)


def _scalar(word: str, kind: Any, key: str) -> Any:
    """Return a word as text, a whole number, a number or a boolean.

    Raises:
        ConfigError: it is none, or empty.
    """
    if not word:
        raise ConfigError(f"{key}= is empty: give {_NAMES[kind]}.")
    try:
        return _READERS[kind](word)
    except (ValueError, KeyError) as error:
        raise ConfigError(f"{key} is {word!r}: use {_NAMES[kind]}.") from error


_NAMES: Mapping[Any, str] = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
_READERS: Mapping[Any, Callable[[str], Any]] = {
    str: str,
    int: int,
    float: float,
    bool: lambda word: BOOLEANS[word.lower()],
}
