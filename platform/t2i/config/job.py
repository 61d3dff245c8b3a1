"""The entry point of every job."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

from models.errors import UserError
from t2i.config.loading import describe, load_config
from t2i.config.proxies import bypass_proxies_for_loopback

ConfigT = TypeVar("ConfigT")


def run_job(main: Callable[[ConfigT], Any], config_cls: type[ConfigT], job: str) -> None:
    """Parse the command line and run ``main`` with the configuration: the entry point of every job.

    An error that the user can correct (:class:`UserError`) is printed as one sentence and exits with code 2; any
    other keeps its traceback.
    """
    bypass_proxies_for_loopback()
    arguments = sys.argv[1:]
    if {"-h", "--help"} & set(arguments):
        print(describe(config_cls, job))
        return
    try:
        main(load_config(config_cls, job, arguments))
    except UserError as error:
        print(f"{job}: {error}", file=sys.stderr)
        sys.exit(2)
