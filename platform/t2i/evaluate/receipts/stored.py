"""An evaluation as its receipt describes it: image sets, captions and files, found beside the receipt."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.errors import UserError
from t2i.evaluate.features import FeatureFolder
from t2i.evaluate.image_sets import ImageSet
from t2i.evaluate.layout import SetLayout
from t2i.evaluate.measure import ImageCaptions
from t2i.evaluate.receipts.make import FORMAT
from t2i.evaluate.reference import Reference
from t2i.evaluate.work_list import WorkItem, WorkList
from t2i.metrics.features import ExtractorProtocol
from t2i.storage import read_file


class UnusableReceiptError(UserError):
    """A receipt cannot be used: it is damaged, of another format, or lacks what is asked for."""


@dataclass(frozen=True)
class StoredSet:
    """One caption set of the receipt in the folder ``root``: its ``entry``, and the ``protocol`` of its features.

    Features are cut to a multiple of ``multiple_of`` images.
    """

    entry: Mapping[str, Any]
    root: str
    protocol: str
    multiple_of: int = 1

    @property
    def name(self) -> str:
        """The caption set's name."""
        return str(self.entry["name"])

    @property
    def layout(self) -> SetLayout:
        """Where the set's files are."""
        return SetLayout(f"{self.root}/{self.name}")

    @property
    def images(self) -> dict[str, ImageSet]:
        """The measured image sets by name, in the order in which they were measured."""
        return {name: self._image_set(name, entry) for name, entry in self.entry["images"].items()}

    def _image_set(self, name: str, entry: Mapping[str, Any]) -> ImageSet:
        layout = SetLayout(f"{self.root}/{entry['folder']}")
        folder = FeatureFolder(layout.features(self.protocol, entry["family"]), entry["shards"])
        return ImageSet(name, folder, layout, self.protocol, self.multiple_of)

    @property
    def items(self) -> list[WorkItem]:
        """The captions in the list beside the receipt, in its order, without seeds.

        Raises:
            DataError: the list cannot be read.
        """
        rows = csv.DictReader(io.StringIO(read_file(f"{self.root}/{self.entry['captions']['list']}").decode()))
        return [WorkItem(row["id"], row["caption"], row["image_id"], 0) for row in rows]

    @property
    def captions(self) -> ImageCaptions:
        """The CLIP features of the captions."""
        return ImageCaptions.of_items(self.images["best"].folder, self.items)

    @property
    def elb(self) -> FeatureFolder | None:
        """The measured evidence lower bound; None if there is none."""
        shards = self.entry["elb_shards"]
        return FeatureFolder(self.layout.features(self.protocol, "elb"), shards) if shards else None

    @property
    def work_list(self) -> WorkList:
        """Everything that decides what the candidates look like.

        Raises:
            DataError: the work list cannot be read.
        """
        document = json.loads(read_file(self.layout.work_list))
        document.pop("caption_hash")
        return WorkList(**document | {"items": tuple(WorkItem(**item) for item in document["items"])})

    def reference(self, file: str | None) -> Reference | None:
        """Return what the images were compared with; ``file`` is where a reference file lies now, None if it stayed."""
        entry, real = self.entry["reference"], self.images.get("real")
        if entry is None:
            return None
        return Reference(real, file or entry["file"]) if "file" in entry else Reference(real)


@dataclass(frozen=True)
class Receipt:
    """The receipt at ``uri``, local or in a store, and its content."""

    uri: str
    document: Mapping[str, Any]

    @property
    def root(self) -> str:
        """The folder of the evaluation."""
        return self.uri.rpartition("/")[0]

    @property
    def sets(self) -> list[StoredSet]:
        """The caption sets, in order."""
        protocol = self.document["measuring"]["features"]
        multiple_of = self.document["measuring"]["extractor"].get("multiple_of", 1)
        return [StoredSet(entry, self.root, protocol, multiple_of) for entry in self.document["sets"]]

    @property
    def extractor(self) -> ExtractorProtocol:
        """The extractor whose features were compared."""
        return ExtractorProtocol(**self.document["measuring"]["extractor"])

    @property
    def files(self) -> dict[str, str]:
        """Path relative to the folder -> SHA-256 of every file."""
        return dict(self.document["files"])


def read_receipt(uri: str) -> Receipt:
    """Return the receipt at ``uri``.

    Raises:
        DataError: there is none, or it cannot be read.
        UnusableReceiptError: it is no receipt, or of a format that this code does not know.
    """
    data = read_file(uri)
    try:
        document = json.loads(data)
        version = document["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise UnusableReceiptError(
            f"receipt is {uri}, which is none: name the receipt.json of an evaluation."
        ) from error
    if version != FORMAT:
        raise UnusableReceiptError(
            f"receipt is {uri} of format {version}, and this code reads {FORMAT}: use the code that the receipt names."
        )
    return Receipt(uri, document)
