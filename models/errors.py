"""The one kind of error that is addressed to the user."""

from __future__ import annotations


class UserError(ValueError):
    """Something the user can mend. The message is one sentence naming the field and the remedy: print it, no traceback."""
