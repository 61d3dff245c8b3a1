"""The console script against a service in this process."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from t2i.serve.cli import main


@pytest.mark.parametrize("stream", [[], ["--stream"]])
def test_generate_writes_the_best_images_by_rank(
    service: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], stream: list[str]
) -> None:
    words = ["a red taco", "-n", "4", "-k", "2", "--seed", "7", "--format", "webp"]
    main(["generate", *words, "--out", str(tmp_path / "new"), "--server", service.address, *stream])
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == ["000.webp", "001.webp"]
    assert Image.open(tmp_path / "new" / "000.webp").size == (32, 32)
    output = capsys.readouterr().out
    scores = [float(score) for score in re.findall(r"score (\S+)", output)]
    assert scores == sorted(scores, reverse=True)
    assert "seed 7, 256 image tokens" in output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["generate", ""], "caption is empty"),
        (["generate", "x" * 10_000], "caption has 10000 characters"),
        (["generate", "a taco", "-n", "0"], "candidates is 0"),
        (["generate", "a taco", "-n", "1", "-k", "2"], "keep is 2 of 1"),
        (["generate", "a taco", "--out", "/dev/null/here"], "cannot write"),
        (["serve", "--run", "no/such/run"], "no/such/run has no tokenizer"),
        (["serve", "--port", "70000"], "port is 70000"),
        (["serve", "prior.slot=3"], "prior.slot is not a known key: did you mean prior.slots?"),
    ],
)
def test_mistakes_end_in_one_sentence(
    service: Any, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    place = ["--server", service.address] if words[0] == "generate" else []
    with pytest.raises(SystemExit) as caught:
        main([*words, *place])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"t2i: {message}")
    assert error.count("\n") == 1


def test_a_port_in_use_is_named(run_directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(SystemExit):
        main(["serve", "--run", str(run_directory), "--port", str(taken.getsockname()[1])])
    assert "choose another --port" in capsys.readouterr().err


def test_status_says_whether_the_models_are_there(service: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for running, code in (({"prior"}, 1), ({"prior", "decoder", "reranker"}, 0)):
        service.set_running(running)
        with pytest.raises(SystemExit) as caught:
            main(["status", "--server", service.address])
        assert caught.value.code == code
    assert "not ready" in capsys.readouterr().out
