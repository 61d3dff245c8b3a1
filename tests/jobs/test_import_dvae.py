from __future__ import annotations

from pathlib import Path

import pytest

import import_dvae
from import_dvae import ImportDVAE, main
from models.checkpoint import load_model
from models.dvae import DVAE, DVAEConfig
from t2i.storage import fetch_directory, filesystem_for, write_file


def test_files_and_run_may_be_in_a_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """tests/peers/test_released_dvae.py converts real files, which need the package that wrote them."""
    store = f"memory://{tmp_path.name}"
    imported = DVAE(DVAEConfig(width=8, groups=2, codebook_size=16, decoder_input_width=8))
    read: list[bytes] = []

    def from_released(encoder: Path, decoder: Path) -> DVAE:
        read.extend([encoder.read_bytes(), decoder.read_bytes()])
        return imported

    monkeypatch.setattr(import_dvae, "from_released", from_released)
    for name in ("encoder", "decoder"):
        write_file(*filesystem_for(f"{store}/{name}.pkl"), name.encode())
    main(ImportDVAE(f"{store}/encoder.pkl", f"{store}/decoder.pkl", f"{store}/run"))
    assert read == [b"encoder", b"decoder"]
    stored = load_model(DVAE, DVAEConfig, fetch_directory(f"{store}/run/dvae/model"))
    assert all(stored.state_dict()[name].equal(tensor) for name, tensor in imported.state_dict().items())
