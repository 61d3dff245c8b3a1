"""What this package refuses."""

from __future__ import annotations

from models.errors import UserError


class DataError(UserError):
    """Data that cannot be read or written as asked; one sentence with the field and the remedy."""
