"""Images for a caption: candidates are decoded and ranked as they finish, while others are still sampled.

    prior     ......A...B..C....D         image tokens of candidates A to D, a message whenever some are finished
    decoder          AA  BBCC    DD       in batches that concurrent requests fill together
    reranker           AA  BBCC    DD     reads the pixels from the object store, where the decoder has put them
    best             -  A  A A   B B      of keep = 1; pixels that no longer belong to the best are let go

Only the best images come to this process.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
from ray.exceptions import RayError
from ray.serve.exceptions import BackPressureError

from t2i.engine.request import FinishedCandidate, PartialCandidate
from t2i.serve.generation.best import BestCandidates, RankedCandidate
from t2i.serve.generation.calls import Calls
from t2i.serve.generation.events import Event, Picture, Preview, Progress, Stage, Wanted
from t2i.serve.generation.image_codec import encode_image
from t2i.serve.generation.receipt import PictureRecipe, Prefix, Receipt, Recipe, Setup, pixels_hash, tokens_hash
from t2i.serve.generation.stages import StageHandles
from t2i.serve.generation.stopwatch import Stopwatch
from t2i.serve.messages import (
    DecodedImages,
    RankedImages,
    ReplicaStarting,
    SampledImages,
    SampleHeader,
    SampleProgress,
)

CHUNK = 8
"""Candidates that are decoded and ranked by one call; pixels are kept or let go by so many."""

BUSY_S = 0.1
"""Seconds after which a decoder or reranker whose queue is full is asked again."""


async def generate(stages: StageHandles, wanted: Wanted, calls: Calls) -> AsyncGenerator[Event]:
    """Yield progress and previews as they come, then the best images, best first, then the receipt.

    Raises:
        RequestError: the prior refuses the request.
        QueueFullError: other requests leave it too little time.
        TimeoutError: the deadline passed.
        RayActorError: a replica was lost again and again.
    """
    run = _Run(stages, wanted, calls)
    work = asyncio.create_task(run.work())
    try:
        while (event := await run.events.get()) is not None:
            if isinstance(event, Preview):
                calls.monitor.preview()
            yield event
        await work
    finally:
        work.cancel()
        await asyncio.wait([work])


class _Run:
    """The state of one request: what is ranked so far, and the events that nobody has taken yet (None: the end)."""

    def __init__(self, stages: StageHandles, wanted: Wanted, calls: Calls) -> None:
        self.events: asyncio.Queue[Event | None] = asyncio.Queue()
        self._stages, self._wanted, self._calls = stages, wanted, calls
        self._best = BestCandidates(wanted.keep)
        self._progress = Progress(Stage.QUEUE, 0, 0, 0, 0, 0.0)
        self._weights: dict[str, str] = {}  # SHA-256 by stage, as decoder and reranker themselves tell it
        self._watch = Stopwatch("queue")
        self._tokens_per_step = 0.0
        self._drawn: set[int] = set()  # candidates of which a preview is being made

    async def work(self) -> None:
        """Do all of it; whatever happens, the last event is None."""
        try:
            await self._sample_and_rank()
            await self._hand_out()
        except BaseExceptionGroup as group:  # of the tasks; one error says enough
            raise group.exceptions[0] from group
        finally:
            self._watch.stop()
            self.events.put_nowait(None)

    async def _sample_and_rank(self) -> None:
        """Sample all candidates, decode and rank each as it is finished."""
        wanted = replace(self._wanted.caption, ranking_s=self._stages.ranking_time.seconds)
        async with asyncio.TaskGroup() as tasks:
            async for event in self._calls.sample(self._stages, wanted):
                match event:
                    case ReplicaStarting():
                        self._tell(Stage.STARTING)
                    case SampleHeader():
                        self._grid, self._truncated, self._setup = event.grid, event.truncated, event.setup
                    case SampleProgress():
                        self._note(event)
                        self._tell(Stage.QUEUE if event.position else Stage.SAMPLE, event)
                    case SampledImages():
                        for work in self._on(event):
                            tasks.create_task(work)
            self._watch.begin("rank")
            self._tell(Stage.DECODE)
        self._stages.ranking_time.note(self._watch.read()["rank"])
        self._tell(Stage.RANK)

    def _on(self, images: SampledImages) -> Iterable[Coroutine[Any, Any, None]]:
        """Yield what is to be done about new image tokens."""
        for i in range(0, len(images.finished), CHUNK):
            yield self._rank(images.finished[i : i + CHUNK])
        finished = {each.candidate for each in images.finished}
        for partial in reversed(images.partial):  # of several rows of a candidate the last
            if partial.candidate not in finished | self._drawn:
                # Noted here, not when the preview begins: more rows of it may come before the event loop gets to that.
                self._drawn.add(partial.candidate)
                yield self._preview(partial)

    async def _rank(self, chunk: Sequence[FinishedCandidate]) -> None:
        """Decode and rank some finished candidates."""
        grids = [each.image_tokens.reshape(self._grid) for each in chunk]
        decoded, answer = await self._decode_and_rank(grids)
        self._weights["reranker"] = answer.model
        ranked = [
            RankedCandidate(each.candidate, grid, score, decoded, row)
            for row, (each, grid, score) in enumerate(zip(chunk, grids, answer.scores, strict=True))
        ]
        self._best.add(ranked)
        self._progress = replace(self._progress, ranked=self._progress.ranked + len(chunk))
        if self._wanted.caption.preview_rows:
            for each in ranked:
                data = await self._encode(await self._pixels(each))
                self.events.put_nowait(Preview(each.candidate, self._grid[0], data, each.score))

    async def _decode_and_rank(self, grids: list[np.ndarray]) -> tuple[Any, RankedImages]:
        """Return the decoder's response, which holds the pixels, and the ranking; again if a replica is lost."""
        attempt, decode, rank = 1, self._stages.decoder.decode, self._stages.reranker.rank
        async with self._stages.chunks:
            while True:
                try:
                    decoded = self._calls.start(decode, grids)
                    return decoded, await self._calls.start(rank, self._wanted.caption.caption, decoded)
                except BackPressureError:  # from clients' own calls; what has been sampled is not thrown away for them
                    await asyncio.sleep(BUSY_S)
                except RayError as error:
                    self._calls.raise_if_last(error, attempt)
                    attempt += 1

    async def _preview(self, partial: PartialCandidate) -> None:
        """Decode the rows that a candidate has, unless the decoder is busy; meanwhile further rows are passed over."""
        grid = partial.image_tokens.reshape(-1, self._grid[1])
        if not self._stages.previews.locked():
            async with self._stages.previews:
                with suppress(BackPressureError):
                    decoded: DecodedImages = await self._calls.call(self._stages.decoder.decode, [grid])
                    data = await self._encode(decoded.images[0])
                    self.events.put_nowait(Preview(partial.candidate, len(grid), data, None))
        self._drawn.remove(partial.candidate)

    async def _hand_out(self) -> None:
        """Encode the best images and write the receipt."""
        self._watch.begin("encode")
        for each in self._best:
            image = await self._pixels(each)
            data = await self._encode(image, self._recipe_of(each, image) if self._wanted.metadata else None)
            self._calls.monitor.image(image.shape[0] * image.shape[1])
            self.events.put_nowait(Picture(each.candidate, data, each.score))
        best = tuple(each.candidate for each in self._best)
        self._calls.monitor.ranked(self._progress.ranked, len(best), self._tokens_per_step)
        spent, seconds = self._calls.tokens_spent, self._watch.read()
        self.events.put_nowait(Receipt(self._recipe, best, spent, self._tokens_per_step, seconds))

    @property
    def _recipe(self) -> Recipe:
        """What all images follow from, as far as it is known by now."""
        asked, wanted = self._wanted.caption, self._wanted
        prefix = Prefix.of(asked.prefix, self._grid[1]) if asked.prefix else None
        words, numbers = (asked.caption, self._truncated, asked.seed, asked.sampling), (asked.candidates, wanted.keep)
        return Recipe(*words, *numbers, wanted.model, self._with_weights(self._setup), prefix)

    def _with_weights(self, setup: Setup) -> Setup:
        """Return what computed with the weights that decoder and reranker themselves told."""
        stages = {name: replace(getattr(setup, name), weights=weights) for name, weights in self._weights.items()}
        return replace(setup, **stages)

    def _recipe_of(self, ranked: RankedCandidate, image: np.ndarray) -> PictureRecipe:
        hashes = tokens_hash(ranked.grid), pixels_hash(image)
        file = self._wanted.file_format, self._wanted.quality
        return PictureRecipe(self._recipe, ranked.candidate, ranked.score, self._grid, *file, *hashes)

    async def _pixels(self, ranked: RankedCandidate) -> np.ndarray:
        """Return a candidate's image uint8 [H, W, 3], decoded once more if what held its pixels is lost."""
        try:
            decoded: DecodedImages = await ranked.decoded
            image: np.ndarray = decoded.images[ranked.row]
        except RayError:
            decoded = await self._calls.call(self._stages.decoder.decode, [ranked.grid])
            image = decoded.images[0]
        self._weights["decoder"] = decoded.model
        return image

    async def _encode(self, image: np.ndarray, recipe: PictureRecipe | None = None) -> bytes:
        return await asyncio.to_thread(encode_image, image, self._wanted.file_format, self._wanted.quality, recipe)

    def _note(self, sampled: SampleProgress) -> None:
        """Note what the receipt says of sampling."""
        if not sampled.position:
            self._watch.begin("sample")
        if sampled.steps:
            self._tokens_per_step = sampled.tokens_done / sampled.steps

    def _tell(self, stage: Stage, sampled: SampleProgress | None = None) -> None:
        """Put progress into the events: new tokens if ``sampled`` has some, else what is ranked by now."""
        self._progress = replace(self._progress, stage=stage, position=0, seconds_left=0.0)
        if sampled is not None:
            self._progress = replace(
                self._progress,
                tokens_done=max(self._progress.tokens_done, sampled.tokens_done),
                tokens_total=sampled.tokens_total,
                position=sampled.position,
                seconds_left=sampled.seconds_left,
            )
        self.events.put_nowait(self._progress)
