"""The engine inside an event loop: joining, leaving, deadlines, failure."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from models.checkpoint import load_model
from models.prior import Prior, PriorConfig
from t2i.engine import Engine, FinishedCandidate, Request
from t2i.sampling import RequestError
from t2i.serve.messages import QueueFullError, SampledImages, SampleProgress
from t2i.serve.replicas import engine_loop as module
from t2i.serve.replicas.backlog import SLACK
from t2i.serve.replicas.engine_loop import EngineLoop, EngineStoppedError

pytestmark = pytest.mark.usefixtures("replica_context")


@pytest.fixture
def engine(run_directory: Path) -> Engine:
    return Engine(load_model(Prior, PriorConfig, run_directory / "prior" / "model"), slots=2)


def finished(events: list[Any]) -> list[FinishedCandidate]:
    return [each for event in events if isinstance(event, SampledImages) for each in event.finished]


async def collect(loop: EngineLoop, request: Request) -> list[Any]:
    return [event async for event in loop.stream(request)]


def test_streams_candidates_and_ends_with_full_progress(engine: Engine) -> None:
    async def main() -> list[Any]:
        return await collect(EngineLoop(engine), Request("a", (1, 2), 3, seed=0))

    events = asyncio.run(main())
    progress = [event.tokens_done for event in events if isinstance(event, SampleProgress)]
    assert progress == sorted(set(progress))
    assert (events[-1].tokens_done, events[-1].tokens_total) == (192, 192)
    assert {each.candidate for each in finished(events)} == {0, 1, 2}


def test_progress_is_not_told_more_often_than_people_read(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PROGRESS_S", 3600.0)

    async def main() -> list[Any]:
        return await collect(EngineLoop(engine), Request("a", (1, 2), 3, seed=0))

    told = [event for event in asyncio.run(main()) if isinstance(event, SampleProgress)]
    assert len(told) == 2
    assert told[-1].tokens_done == told[-1].tokens_total


def test_a_request_that_is_left_stops_within_one_step(engine: Engine) -> None:
    async def main() -> tuple[int, int]:
        loop = EngineLoop(engine)
        task = asyncio.create_task(collect(loop, Request("a", (1,), 50, seed=0)))
        while loop.steps < 10:
            await asyncio.sleep(0)
        task.cancel()
        steps = loop.steps
        await asyncio.wait([task])
        while engine.has_work:
            await asyncio.sleep(0)
        return steps, loop.steps

    before, after = asyncio.run(main())
    assert after - before <= 2  # the step that ran when the request left, and at most the next


def test_expired_work_is_never_begun(engine: Engine) -> None:
    async def main() -> int:
        loop = EngineLoop(engine)
        with pytest.raises(TimeoutError):
            await collect(loop, Request("a", (1,), 1, seed=0, deadline=time.time() - 1))
        return loop.steps

    assert asyncio.run(main()) == 0


def test_a_deadline_ends_running_work(engine: Engine) -> None:
    async def main() -> int:
        loop = EngineLoop(engine)
        with pytest.raises(TimeoutError):
            await collect(loop, Request("a", (1,), 5000, seed=0, deadline=time.time() + 0.2))
        return loop.requests

    assert asyncio.run(main()) == 0


def test_rows_are_handed_out_as_they_are_completed(engine: Engine) -> None:
    async def main() -> list[Any]:
        return await collect(EngineLoop(engine), Request("a", (1, 2), 1, seed=0, progressive=True))

    events = asyncio.run(main())
    images = [event for event in events if isinstance(event, SampledImages)]
    rows = [each.image_tokens.tolist() for event in images for each in event.partial]
    (whole,) = [each.image_tokens.tolist() for each in finished(events)]
    assert rows == [whole[: 8 * count] for count in range(1, 8)]


def test_a_refused_request_leaves_the_others_alone(engine: Engine) -> None:
    async def main() -> list[Any]:
        loop = EngineLoop(engine)
        good = asyncio.create_task(collect(loop, Request("a", (1,), 2, seed=0)))
        with pytest.raises(RequestError):
            await collect(loop, Request("b", (1,) * 9, 1, seed=0))
        return await good

    assert asyncio.run(main())[-1].tokens_done == 128


def test_a_failed_engine_is_reported_to_everybody(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ValueError("broken")

    async def main() -> None:
        loop = EngineLoop(engine)
        loop.check()
        monkeypatch.setattr(engine, "step", fail)
        with pytest.raises(EngineStoppedError):
            await collect(loop, Request("a", (1,), 1, seed=0))
        with pytest.raises(EngineStoppedError):
            loop.check()
        with pytest.raises(EngineStoppedError):
            await collect(loop, Request("b", (1,), 1, seed=0))

    asyncio.run(main())


def test_what_cannot_meet_its_deadline_is_refused_at_once(engine: Engine) -> None:
    async def main() -> int:
        loop = EngineLoop(engine, seconds_per_step=0.1)
        first = asyncio.create_task(collect(loop, Request("a", (1,), 4, seed=0)))
        await asyncio.sleep(0)
        late = Request("b", (1,), 1, seed=0, deadline=time.time() + 1)
        with pytest.raises(QueueFullError) as refused:
            loop.check_queue(late, ranking_s=0.0)
        assert 0 < refused.value.late_s < SLACK * 0.1 * 64 * 5 / 2
        await first
        return loop.requests

    assert asyncio.run(main()) == 0


def test_who_waits_is_told_where_it_stands(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITING_S", 0.01)

    async def main() -> list[Any]:
        loop = EngineLoop(engine)
        first = asyncio.create_task(collect(loop, Request("a", (1,), 6, seed=0)))
        while loop.steps < 1:
            await asyncio.sleep(0)
        events = await collect(loop, Request("b", (1,), 1, seed=0))
        await first
        return events

    events = [event for event in asyncio.run(main()) if isinstance(event, SampleProgress)]
    assert events[0].position == 1
    assert events[0].tokens_total == 64
    assert events[-1].position == 0
