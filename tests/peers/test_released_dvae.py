"""Our dVAE with the weights of a pickled ``dall-e`` 0.1 encoder and decoder computes what they compute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from models.dvae.dvae import reconstruction
from models.dvae.loss import to_logit_laplace
from models.dvae.released import ReleasedWeightsError, from_released

Released = tuple[Any, Any, Path]
"""An encoder and a decoder of the package, and the directory of their files."""


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Released:
    """A random pair of the package's own classes at a quarter of the width, and the files it would be shipped as."""
    from dall_e.decoder import Decoder
    from dall_e.encoder import Encoder

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("released")
    encoder, decoder = Encoder(n_hid=64, vocab_size=512), Decoder(n_hid=64, n_init=32, vocab_size=512)
    for name, module in {"encoder": encoder, "decoder": decoder}.items():
        for parameter in module.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter) / parameter[0].numel() ** 0.5  # biases too
        torch.save(module, folder / f"{name}.pkl")
    return encoder, decoder, folder


@torch.no_grad()
def test_logits_and_maps_are_the_packages(released: Released) -> None:
    encoder, decoder, folder = released
    dvae = from_released(folder / "encoder.pkl", folder / "decoder.pkl")
    images = torch.rand(2, 3, 64, 64)
    logits = encoder(to_logit_laplace(images))
    torch.testing.assert_close(dvae.encode_logits(images), logits, rtol=1e-5, atol=1e-5)
    tokens = logits.argmax(1)
    maps = decoder(torch.nn.functional.one_hot(tokens, 512).permute(0, 3, 1, 2).float())
    torch.testing.assert_close(dvae.decoder.from_tokens(tokens), maps, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(dvae.decode(tokens.flatten(1)), reconstruction(maps))


def test_files_that_are_swapped_are_refused(released: Released) -> None:
    folder = released[2]
    with pytest.raises(ReleasedWeightsError, match="are not the released pair"):
        from_released(folder / "decoder.pkl", folder / "encoder.pkl")
