from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from generate import GenerateConfig, main
from t2i.config import ConfigError, load_config
from t2i.engine import TextToImage


def test_the_best_are_saved_beside_a_sheet_of_all(tiny_run, tmp_path, capsys):
    config = GenerateConfig(
        run=str(tiny_run), captions=["a Red circle!"], candidates=3, keep=2, slots=4, out=str(tmp_path)
    )
    main(config)
    names = ["000-a-red-circle_1.png", "000-a-red-circle_2.png", "contact_sheet.png"]
    assert sorted(file.name for file in tmp_path.iterdir()) == names
    (expected,) = TextToImage.load(tiny_run, slots=4).generate(config.captions, candidates=3, seed=0)
    best = np.asarray(Image.open(tmp_path / names[0]))
    assert np.array_equal(best, expected.images[expected.order[0]])
    assert f"CLIP {expected.scores.max():.3f}" in capsys.readouterr().out


def test_refuses_to_keep_more_than_it_draws():
    with pytest.raises(ConfigError, match="keep is 9"):
        load_config(GenerateConfig, "generate", ["captions=[x]", "keep=9"])


def test_refuses_an_empty_list():
    with pytest.raises(ConfigError, match="captions is empty"):
        load_config(GenerateConfig, "generate", [])
