"""The fields of a configuration dataclass, found by their declared types."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from dataclasses import Field, dataclass, fields, is_dataclass
from functools import cache
from typing import Any


@dataclass(frozen=True)
class Leaf:
    """A field that is no group, in plain nested values: its dotted key, and the mapping that holds its value."""

    key: str
    field: Field[Any]
    owner: dict[str, Any]

    @property
    def value(self) -> Any:
        """The value of the field."""
        return self.owner[self.field.name]

    def replace(self, value: Any) -> None:
        """Give the field another value."""
        self.owner[self.field.name] = value


@cache
def field_types(group: type) -> dict[str, Any]:
    """Return name -> declared type of a dataclass's fields."""
    hints = typing.get_type_hints(group)
    return {field.name: hints[field.name] for field in fields(group)}


def without_none(kind: Any) -> tuple[Any, bool]:
    """Return a declared type without ``None``, and whether it allowed None."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        allowed = [each for each in typing.get_args(kind) if each is not type(None)]
        return allowed[0], len(allowed) < len(typing.get_args(kind))
    return kind, False


def item_type(kind: Any) -> Any:
    """Return the type of a list's items, None if ``kind`` is no list."""
    return typing.get_args(kind)[0] if typing.get_origin(kind) is list else None


def known_keys(group: type, prefix: str = "") -> Iterator[str]:
    """Yield the dotted keys of all leaves; those of a list's dataclasses as if there were one."""
    for name, kind in field_types(group).items():
        inner = without_none(kind)[0]
        nested = item_type(inner) or inner
        if is_dataclass(nested):
            yield from known_keys(typing.cast(type, nested), f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def leaves(group: type, values: dict[str, Any], prefix: str = "") -> Iterator[Leaf]:
    """Yield every leaf of ``values``, the plain nested values of a ``group``; groups that are None have none."""
    for field in fields(group):
        inner = without_none(field_types(group)[field.name])[0]
        nested = item_type(inner) or inner
        if not is_dataclass(nested):
            yield Leaf(f"{prefix}{field.name}", field, values)
            continue
        value = values[field.name]
        for each in value if isinstance(value, list) else [value]:
            if each is not None:
                yield from leaves(typing.cast(type, nested), each, f"{prefix}{field.name}.")


def build(kind: Any, value: Any) -> Any:
    """Return plain nested values as the dataclasses of the declared type ``kind``."""
    inner = without_none(kind)[0]
    if is_dataclass(inner) and value is not None:
        types_of = field_types(typing.cast(type, inner))
        return typing.cast(type, inner)(**{name: build(types_of[name], each) for name, each in value.items()})
    if isinstance(value, list):
        return [build(item_type(inner), each) for each in value]
    return value
