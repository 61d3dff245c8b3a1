"""The error of everything that is wrong with a configuration."""

from __future__ import annotations

from models.errors import UserError


class ConfigError(UserError):
    """An invalid configuration; the message is one sentence that names the key."""
