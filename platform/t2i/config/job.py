"""The entry point of every job."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from models.errors import UserError
from t2i.config.commands import Command
from t2i.config.loading import describe, load_config
from t2i.proxies import bypass_proxies_for_loopback

ConfigT = TypeVar("ConfigT")


def run_job(
    main: Callable[[ConfigT], Any], config_cls: type[ConfigT], job: str, commands: Sequence[Command] = ()
) -> None:
    """Parse the command line and run ``main``, or the command that is named first: the entry point of every job.

    An error that the user can correct (:class:`UserError`) is printed as one sentence and exits with code 2; any
    other keeps its traceback.
    """
    bypass_proxies_for_loopback()
    arguments = sys.argv[1:]
    command = next((each for each in commands if arguments[:1] == [each.name]), None)
    if {"-h", "--help"} & set(arguments):
        print(_help(command, config_cls, job, commands))
        return
    try:
        if command is not None:
            command.main(load_config(command.config_cls, job, command.words(arguments[1:])))
        else:
            main(load_config(config_cls, job, arguments))
    except UserError as error:
        print(f"{job}: {error}", file=sys.stderr)
        sys.exit(2)


def _help(command: Command | None, config_cls: type, job: str, commands: Sequence[Command]) -> str:
    """Return the help of a command; of the job itself, its fields and its commands."""
    if command is not None:
        return f"{command.meaning}\n\n{describe(command.config_cls, job, command.usage)}"
    if not commands:
        return describe(config_cls, job)
    width = max(len(each.usage) for each in commands)
    listed = [f"  {each.usage:<{width}}  {each.meaning}" for each in commands]
    return "\n".join([describe(config_cls, job), "", "commands, each with its own --help:", "", *listed])
