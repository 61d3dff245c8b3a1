"""Commands: what a job does beside its main work, named by the first word of the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from t2i.config.errors import ConfigError
from t2i.config.leaves import field_types, known_keys


@dataclass(frozen=True)
class Command:
    """``python jobs/X.py NAME ARGUMENT ... [key=value ...]`` runs ``main`` with a ``config_cls``.

    ``arguments`` are the fields that need no key: the words without one fill them in this order, and all are needed.
    """

    name: str
    meaning: str
    main: Callable[[Any], Any]
    config_cls: type
    arguments: tuple[str, ...] = ()

    @property
    def usage(self) -> str:
        """The command's name and its arguments."""
        return " ".join([self.name, *map(str.upper, self.arguments)])

    def words(self, typed: Sequence[str]) -> list[str]:
        """Return what was typed after the command's name as ``key=value`` words.

        ``--deep`` stands for ``deep=true``, ``--draws 5`` and ``--draws=5`` for ``draws=5``.

        Raises:
            ConfigError: an argument is missing.
        """
        words = list(self._words(iter(typed), iter(self.arguments)))
        missing = [name for name in self.arguments if not any(word.startswith(f"{name}=") for word in words)]
        if missing:
            raise ConfigError(f"{missing[0]} is missing: type {self.usage}, or see {self.name} --help.")
        return words

    def _words(self, typed: Iterator[str], places: Iterator[str]) -> Iterator[str]:
        known = set(known_keys(self.config_cls))
        for word in typed:
            key, equals, _ = word.removeprefix("--").partition("=")
            if word.startswith("--") and key in known and not equals:
                flag = field_types(self.config_cls).get(key) is bool
                yield f"{key}={'true' if flag else next(typed, '')}"
            elif key in known and equals:
                yield word.removeprefix("--")
            else:
                # A path may have an equals sign: what is before it is then no key.
                place = None if word.startswith("--") else next(places, None)
                yield f"{place}={word}" if place else word
