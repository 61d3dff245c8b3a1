"""How long requests take from their last image token until all images are ranked: time that the prior has to leave."""

from __future__ import annotations


class RankingTime:
    """The mean over the last requests, in ``seconds``; 0 before the first one."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def note(self, seconds: float) -> None:
        """Note how long a request took: it weighs a twentieth."""
        self.seconds += (seconds - self.seconds) / 20 if self.seconds else seconds
