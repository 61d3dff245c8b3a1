"""One hash of many, in order."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def merkle_root(leaves: Sequence[bytes]) -> str:
    """Return the root of the Merkle tree over ``leaves``, as 64 hex digits (RFC 6962, section 2.1, with SHA-256).

    Whoever has all leaves finds the same root; a few hashes prove that one leaf is under it.
    """
    return _root(leaves).hex()


def _root(leaves: Sequence[bytes]) -> bytes:
    # Leaves and nodes are hashed with different first bytes, so that no node can be passed off as a leaf.
    if len(leaves) < 2:
        return hashlib.sha256(b"\x00" + leaves[0] if leaves else b"").digest()
    left = 1 << (len(leaves) - 1).bit_length() - 1  # the largest power of two below the number of leaves
    return hashlib.sha256(b"\x01" + _root(leaves[:left]) + _root(leaves[left:])).digest()
