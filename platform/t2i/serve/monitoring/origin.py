"""For whom a replica works: handed over with each call, for its log and its spans."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, TypeVar, cast

from t2i.logs import get_logger, name_request
from t2i.serve.monitoring import tracing
from t2i.serve.monitoring.outcome import ANSWERED, End, outcome_of

logger = get_logger("serve.replica")

MethodT = TypeVar("MethodT", bound=Callable[..., Any])


@dataclass(frozen=True)
class Origin:
    """The request that a call belongs to: its id, and its trace in W3C's headers."""

    request_id: str
    headers: Mapping[str, str] = field(default_factory=dict)


def for_request(stage: str) -> Callable[[MethodT], MethodT]:
    """Let a method of a replica, a coroutine or an asynchronous generator, take the keyword ``origin``.

    Its lines of the log then have the request's id, and it is the span ``stage.method`` of the request's trace. What
    its caller can mend is one line of the log.
    """

    def decorate(method: MethodT) -> MethodT:
        name = f"{stage}.{method.__name__}"

        @wraps(method)
        async def call(*arguments: Any, origin: Origin | None = None, **named: Any) -> Any:
            with _working(origin, name):
                return await method(*arguments, **named)

        @wraps(method)
        async def stream(*arguments: Any, origin: Origin | None = None, **named: Any) -> AsyncIterator[Any]:
            with _working(origin, name):
                async with aclosing(method(*arguments, **named)) as items:
                    async for item in items:
                        yield item

        return cast(MethodT, stream if inspect.isasyncgenfunction(method) else call)

    return decorate


@contextmanager
def _working(origin: Origin | None, name: str) -> Iterator[None]:
    origin = origin or Origin("")
    name_request(origin.request_id)
    span = tracing.start_span(name, origin.headers)
    outcome = ANSWERED
    try:
        yield
    except BaseException as error:
        outcome = outcome_of(error)
        if outcome.end is End.REJECTED:
            logger.info("request %s refused by %s: %s", origin.request_id, name, error)
        raise
    finally:
        tracing.end_span(span, outcome)
