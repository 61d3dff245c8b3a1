"""Settings of the commands that work on receipts."""

from __future__ import annotations

from dataclasses import dataclass

from models.settings import setting
from t2i.storage import run_setting


@dataclass
class VerifyConfig:
    """Which receipt to verify, and how deeply."""

    receipt: str = setting("", "receipt.json of an evaluation, with its files beside it; local or s3://", path="read")
    deep: bool = setting(
        False, "also measure all images again with the run's models, from stored PNGs and tokens, and draw some again"
    )
    draws: int | None = setting(
        None, "captions to draw again from seed and models; empty: 3 with deep, else none", at_least=0
    )
    draws_seed: int = setting(0, "which captions these are: another seed draws others", at_least=0)
    run: str | None = run_setting(None, "run with the models, for deep and draws (empty: where the receipt says)")
    reference: str | None = setting(None, "the evaluation's reference.npz; empty: where the receipt says", path="read")
    extractor_weights: str | None = setting(
        None, "the extractor's weights file, for deep; empty: where the receipt says", path="read"
    )

    @property
    def drawn_again(self) -> int:
        """How many captions are drawn again."""
        return self.draws if self.draws is not None else 3 if self.deep else 0


@dataclass
class CompareConfig:
    """Which receipts to compare."""

    a: str = setting("", "receipt.json of the first evaluation", path="read")
    b: str = setting("", "receipt.json of the second; differences are b - a", path="read")
