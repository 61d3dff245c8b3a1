"""The console script against a service in this process."""

from __future__ import annotations

import re
import shlex
import socket
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from models.errors import UserError
from t2i.client import Client
from t2i.config import load_config
from t2i.serve.cli import main, make_parser
from t2i.serve.command import ServeCommand, write_address
from t2i.serve.runs import version_of
from tests.commands import commands
from tests.kept_models import keep, promote


@pytest.mark.parametrize("stream", [[], ["--stream"]])
def test_generate_writes_the_best_images_by_rank(
    service: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], stream: list[str]
) -> None:
    words = ["a red taco", "-n", "4", "-k", "2", "--seed", "7", "--format", "webp"]
    main(["generate", *words, "--out", str(tmp_path / "new"), "--server", service.address, *stream])
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == ["7-000.webp", "7-001.webp"]
    assert Image.open(tmp_path / "new" / "7-000.webp").size == (32, 32)
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
        (["generate", "a taco", "--server", "::1"], "the server's address is '::1': use HOST:PORT"),
        (["generate", "a taco", "-n", "many"], "argument -n/--candidates: invalid int value: 'many': see"),
        (["generate", "caf\udce9"], r"b'caf\xe9' is not UTF-8"),
        (["serve", "--run", "/no/such/run"], "/no/such/run has no tokenizer"),
        (["serve", "--run", "a", "run=b"], "run is given twice"),
        (["serve", "--max-candidates", "4"], "unrecognized arguments: --max-candidates: see t2i --help."),
        (["serve", "--port", "70000"], "port is 70000"),
        (["serve", "host=0.0.0.0"], "host is 0.0.0.0, which others may reach, and there is neither TLS nor keys"),
        (["generate", "a taco", "--ca", "/none"], "cannot read /none"),
        (["generate", "a taco", "--key", "with space"], "the key has spaces"),
        (["keys", "new", "a b", "--file", "/dev/null/k"], "/dev/null/k: keys: the name 'a b' is not possible"),
        (["keys", "new", "a", "--file", "/dev/null/k"], "cannot write /dev/null/k"),
        (["models", "pull", "none/1", "/dev/null/run"], "models://none/1 is not in "),
        (["models", "promote", "none", "1"], "models://none/1 is not in "),
        (["models", "push", "a b", "models/trained/small"], "'a b' is no model: write NAME or NAME/VERSION"),
        (["models", "push", "none", "/no/such/run"], "/no/such/run/tokenizer is not a complete checkpoint"),
        (["models", "list", "--store", "nothing://x"], "path is 'nothing://x': use a local path"),
        (["serve", "--run", "models://none"], "run: models://none is not in "),
        (["serve", "prior.slot=3"], "prior.slot is not a known key: did you mean prior.slots?"),
    ],
)
def test_mistakes_end_in_one_sentence(
    service: Any, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    place = ["--server", service.address] if words[0] == "generate" and "--server" not in words else []
    with pytest.raises(SystemExit) as caught:
        main([*words, *place])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"t2i: {message}")
    assert error.count("\n") == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_port_in_use_is_named(run_directory: Path, capsys: pytest.CaptureFixture[str], host: str) -> None:
    if ":" in host and not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as taken, pytest.raises(SystemExit):
        main(["serve", "--run", str(run_directory), "--port", str(taken.getsockname()[1]), f"host={host}"])
    assert "choose another --port" in capsys.readouterr().err


@pytest.mark.parametrize("host", ["203.0.113.7", "2001:db8::7", "nobody.invalid"])
def test_a_host_that_this_machine_does_not_have_is_named(
    run_directory: Path, capsys: pytest.CaptureFixture[str], host: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["serve", "--run", str(run_directory), "--port", "0", f"host={host}", "insecure=true"])
    assert caught.value.code == 2
    assert re.fullmatch(r"t2i: cannot listen on \S+:0 \(.+\): choose another host=\.\n", capsys.readouterr().err)


def test_a_store_is_filled_listed_and_read(
    run_directory: Path, other_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def t2i(*words: str) -> list[str]:
        main(["models", *words, "--store", str(tmp_path / "store")])
        return [
            re.sub(r" \(tokenizer \w{12}, dvae \w{12}, prior \w{12}, clip \w{12}\)", "", line)
            for line in capsys.readouterr().out.splitlines()
        ]

    assert t2i("list") == [f"{tmp_path}/store has no models: keep one by t2i models push"]
    assert t2i("push", "small", str(run_directory)) == ["models://small/1 is in the store"]
    assert t2i("push", "small/best", str(other_run)) == ["models://small/best is in the store"]
    assert t2i("promote", "small", "1") == ["small is models://small/1"]
    assert t2i("list") == ["models://small/best", "models://small/1, promoted"]
    assert t2i("pull", "small", str(tmp_path / "run")) == [f"models://small/1 is in {tmp_path}/run"]
    assert version_of(str(tmp_path / "run")) == version_of(str(run_directory))


def test_the_address_is_written_where_it_is_wanted(tmp_path: Path) -> None:
    write_address(tmp_path / "new" / "address", "127.0.0.1:1")
    assert (tmp_path / "new" / "address").read_text() == "127.0.0.1:1"
    with pytest.raises(UserError, match="choose another address_file="):
        write_address(tmp_path / "new" / "address" / "below", "127.0.0.1:1")


def test_status_says_whether_the_models_are_there(service: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for running, code in (({"prior"}, 1), ({"prior", "decoder", "reranker"}, 0)):
        service.set_running(running)
        with pytest.raises(SystemExit) as caught:
            main(["status", "--server", service.address])
        assert caught.value.code == code
    assert "not ready" in capsys.readouterr().out


def test_an_interrupt_ends_in_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Client, "is_serving", interrupt)
    with pytest.raises(SystemExit) as caught:
        main(["status"])
    assert caught.value.code == 130
    assert capsys.readouterr().err == "t2i: interrupted: the service stops what it was doing for you.\n"


@pytest.mark.parametrize(
    "line", [line for name in ("README.md", "docs/serving.md") for line in commands(name) if "bin/t2i " in line]
)
def test_the_documents_commands_are_understood(run_directory: Path, line: str) -> None:
    promote(keep("small/1", run_directory))
    words = shlex.split(line.partition("bin/t2i ")[2])
    options = make_parser().parse_args(words)
    assert callable(options.command)
    if words[0] == "serve":
        run = [f"run={options.run}"] if options.run else []
        assert load_config(ServeCommand, "serve", [*run, *options.settings])
