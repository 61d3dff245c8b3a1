"""What each part of a service costs: measured on a machine by bench_simulation.py, or computed for a GPU."""

from __future__ import annotations

from dataclasses import dataclass

from models.settings import setting


@dataclass
class PriorCosts:
    """A replica of the prior, whose steps have a fixed shape: idle slots take their part of one, too, and draft.

    Only attention depends on what is in use.
    """

    slots: int = setting(64, "candidates sampled at once", at_least=1)
    image_tokens: int = setting(256, "steps of an image", at_least=1)
    step_s: float = setting(0.02, "seconds of a step, but for what is in use", above=0)
    slot_s: float = setting(0.0, "seconds that each slot in use adds to a step", at_least=0)
    caption_s: float = setting(0.0, "seconds that each caption in use adds to a step", at_least=0)
    prefill_s: float = setting(0.005, "seconds in which a caption is read, once", at_least=0)
    progress_s: float = setting(0.0, "seconds that the engine waits while a request is told its progress", at_least=0)
    came_true: list[float] = setting(
        list,
        "by place, the share of drafts that came true together with all before them; empty: nothing is drafted",
        at_least=0,
        at_most=1,
    )
    cores: float = setting(1.0, "cores, or devices, that it keeps busy", above=0)

    def seconds_of_step(self, slots: float, captions: float) -> float:
        """Return the seconds of a step with so many slots and captions in use."""
        return self.step_s + self.slot_s * slots + self.caption_s * captions

    def tokens_of_step(self, slots: int) -> float:
        """Return the image tokens that a step makes of each candidate, on average, with so many slots in use.

        Idle slots draft, as many for each candidate. One that comes true with all before it adds a token.
        """
        drafts = (self.slots - slots) / slots
        return 1 + sum(share * min(1, max(0, drafts - place)) for place, share in enumerate(self.came_true))

    def request_s(self, candidates: int) -> float:
        """Return the seconds that a request takes of a replica whose slots are always full, of captions that differ."""
        captions = self.slots / min(candidates, self.slots)
        return self.prefill_s + self.seconds_of_step(self.slots, captions) * self.image_tokens * candidates / self.slots

    def image_s(self, candidates: int) -> float:
        """Return the seconds from an image's first token to its last, on such a replica."""
        return self.request_s(candidates) * self.slots / min(candidates, self.slots)

    def images_per_second(self, candidates: int) -> float:
        """Return the images that a replica samples a second at most."""
        return candidates / self.request_s(candidates)


@dataclass
class BatchCosts:
    """A replica of decoder or reranker: batches are filled up to one shape; an image adds what is done for it alone."""

    size: int = setting(8, "images of a full batch", at_least=1)
    batch_s: float = setting(0.01, "seconds of a batch, however many images are in it", above=0)
    image_s: float = setting(0.0, "seconds that each image of it adds", at_least=0)
    cores: float = setting(1.0, "cores, or devices, that it keeps busy", above=0)

    def images_per_second(self) -> float:
        """Return the images a second of full batches."""
        return self.size / (self.batch_s + self.size * self.image_s)


@dataclass
class GatewayCosts:
    """A gateway, and the way between processes."""

    request_s: float = setting(0.01, "seconds of a core for a request: checks, calls, the answer", at_least=0)
    progress_s: float = setting(0.001, "seconds of a core for each progress that the client is told", at_least=0)
    image_s: float = setting(0.005, "seconds of a core to write an image's file", at_least=0)
    hop_s: float = setting(0.005, "seconds of a call of a deployment and its answer, without its work", at_least=0)


@dataclass
class ServiceCosts:
    """All parts of a service."""

    prior: PriorCosts = setting(PriorCosts, "a replica of the prior")
    decoder: BatchCosts = setting(BatchCosts, "a replica of the decoder")
    reranker: BatchCosts = setting(BatchCosts, "a replica of the reranker")
    gateway: GatewayCosts = setting(GatewayCosts, "a gateway")
    start_s: float = setting(30.0, "seconds from the wish for a replica to its first request", at_least=0)
