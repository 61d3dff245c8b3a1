"""The one kind of error that is addressed to the user."""

from __future__ import annotations


class UserError(ValueError):
    """Something the user can mend: print the message, one sentence naming field and remedy, without a traceback."""
