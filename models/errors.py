"""The base class of errors that the user can correct."""

from __future__ import annotations


class UserError(ValueError):
    """An error in what the user gave, such as a setting or a file.

    Its message is one sentence that names the field and what to do; commands print it without a traceback.
    """
