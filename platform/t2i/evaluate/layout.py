"""Names of the files of an evaluated caption set; no other module knows them.

::

    <out>/report.html, report.json, receipt.json
    <out>/<set>/work_list.json              every caption to draw; written first
                captions.csv                the same captions, as a list that other tools read
                reference-<protocol>.npz    statistics of the real images, for other evaluations
                images/<real|train>/        images to compare with, in the run's size
                candidates/00000.parquet    the candidates of a shard's captions, and beside it
                candidates/00000.json       its done-record, written last
                features/<protocol>/<drawn|real|train|elb>/00000.npz
                statistics/<protocol>/<image set>-r<radius>.npz
"""

from __future__ import annotations

from dataclasses import dataclass

RECEIPT = "receipt.json"
"""Name of the file beside the report with every figure and what it depends on."""


@dataclass(frozen=True)
class SetLayout:
    """Paths within the folder ``root`` of one caption set, local or in a store."""

    root: str

    @property
    def work_list(self) -> str:
        """File with every caption to draw."""
        return f"{self.root}/work_list.json"

    @property
    def captions(self) -> str:
        """The chosen captions as CSV."""
        return f"{self.root}/captions.csv"

    @property
    def contact_sheet(self) -> str:
        """A picture of some captions with their best candidates."""
        return f"{self.root}/contact_sheet.png"

    @property
    def candidates(self) -> str:
        """Folder of the candidates' shards."""
        return f"{self.root}/candidates"

    def reference(self, protocol: str) -> str:
        """Return the file of the real images' statistics, which other evaluations can be given as ``reference=``."""
        return f"{self.root}/reference-{protocol}.npz"

    def images(self, name: str) -> str:
        """Return the folder of the images of ``name``: ``real`` or ``train``."""
        return f"{self.root}/images/{name}"

    def features(self, protocol: str, family: str) -> str:
        """Return the folder of a family's feature shards, measured under ``protocol`` (a short hash)."""
        return f"{self.root}/features/{protocol}/{family}"

    def statistics(self, protocol: str, image_set: str, radius: float) -> str:
        """Return the file with the mean and covariance of an image set's features at a radius of blur."""
        return f"{self.root}/statistics/{protocol}/{image_set}-r{radius:g}.npz"
