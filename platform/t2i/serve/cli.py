"""The command ``t2i``: serve a run directory, generate images with a service, ask whether a service is ready."""

from __future__ import annotations

import argparse
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, fields
from errno import EACCES, EADDRINUSE
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm

from models.errors import UserError
from models.files import write_whole
from models.settings import setting
from t2i.cluster import RayConfig, start_ray
from t2i.config import absolute, bypass_proxies_for_loopback, check_encoding, load_config
from t2i.logs import get_logger
from t2i.sampling import SamplingParams
from t2i.serve.client import FORMATS, Answer, Client, GeneratedImage, GenerationOptions, GenerationProgress, Summary
from t2i.serve.config import ServeConfig, check_run


@dataclass
class ServeCommand(ServeConfig):
    """Settings of ``t2i serve``: the service's, and the Ray cluster's on which it runs."""

    ray: RayConfig = setting(RayConfig, "the Ray cluster")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the console script; errors that the user can mend are printed in one sentence, with exit code 2."""
    bypass_proxies_for_loopback()
    try:
        check_encoding(sys.argv[1:] if arguments is None else arguments)
        options = _parser().parse_args(arguments)
        options.command(options)
    except UserError as error:
        print(f"t2i: {error}", file=sys.stderr)
        sys.exit(2)


class _Parser(argparse.ArgumentParser):
    """Ends in one sentence where the command line is wrong."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message.removesuffix('.')}: see {self.prog} --help.")


def _local_path(word: str) -> Path:
    return Path(absolute(word))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="t2i", description="Text to image: serve a trained run and ask it for images.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("serve", help="serve a run directory over gRPC until interrupted")
    command.add_argument("--run", help="run directory with the trained models (default: runs/tiny)")
    command.add_argument("--port", help="port to listen on; 0 takes any free one (default: 50051)")
    command.add_argument("settings", nargs="*", metavar="key=value", help="any field of ServeConfig, or ray.*")
    command.set_defaults(command=_serve)

    command = commands.add_parser("generate", help="ask a service for images of a caption")
    command.add_argument("caption", help="what the images should show")
    command.add_argument("-n", "--candidates", type=int, default=8, help="images to sample (default: %(default)s)")
    command.add_argument(
        "-k", "--keep", type=int, default=1, help="how many of them to save, the best by CLIP (default: %(default)s)"
    )
    command.add_argument("--out", type=_local_path, default=".", help="directory for the images (default: this one)")
    command.add_argument(
        "--seed", type=int, help="the same seed gives the same images; by default the service chooses one"
    )
    for field in fields(SamplingParams):
        option = f"--{field.name.replace('_', '-')}"
        command.add_argument(option, type=type(field.default), default=field.default, help=field.metadata["help"])
    command.add_argument("--image", type=_local_path, help="an image file whose top every image continues")
    command.add_argument("--image-rows", type=int, help="rows of its image tokens to keep; by default 15 of 32")
    command.add_argument("--format", choices=FORMATS, default="png", help="file format of the images (default: png)")
    command.add_argument("--model", default="", help="which of the service's models; by default its first")
    command.add_argument("--stream", action="store_true", help="show progress")
    _add_server(command)
    command.set_defaults(command=_generate)

    command = commands.add_parser("status", help="say whether a service is ready; exit code 1 if it is not")
    _add_server(command)
    command.set_defaults(command=_status)
    return parser


def _add_server(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--server", default="127.0.0.1:50051", metavar="HOST:PORT", help="the service (default: %(default)s)"
    )


def _serve(options: argparse.Namespace) -> None:
    named = [f"{name}={value}" for name in ("run", "port") if (value := getattr(options, name)) is not None]
    config = load_config(ServeCommand, "serve", [*named, *options.settings])
    check_run(config.run)
    for name in ("port", "http_port"):
        _check_port(config, name)
    from t2i.serve.launch import launch_service

    start_ray(config.ray)
    with launch_service(config) as address:
        note_address(config.run, address)
        page = f", page and HTTP on http://{config.address(config.http_port)}" if config.http_port else ""
        print(f"serving {config.run} on {address}{page}", flush=True)
        _wait_for_signal()


def _generate(options: argparse.Namespace) -> None:
    with Client(options.server) as client:
        answer = _ask(client, options)
    for rank, image in enumerate(answer.images):
        path = options.out / f"{rank:03d}.{image.format}"
        _write(path, image.data)
        print(f"{path}  score {image.score:.3f}  candidate {image.candidate}")
    note = ", the caption's end was cut off" if answer.summary.caption_truncated else ""
    print(f"seed {answer.summary.seed}, {answer.summary.tokens_spent} image tokens{note}")


def _ask(client: Client, options: argparse.Namespace) -> Answer:
    """Ask for the images, with a progress bar if ``--stream`` is given."""
    wanted: GenerationOptions = {
        "candidates": options.candidates,
        "keep": options.keep,
        "seed": options.seed,
        "image": _read(options.image) if options.image else None,
        "image_rows": options.image_rows,
        "format": options.format,
        "model": options.model,
    }
    wanted.update({field.name: getattr(options, field.name) for field in fields(SamplingParams)})  # type: ignore[typeddict-item]
    if not options.stream:
        return client.generate(options.caption, **wanted)
    images = []
    with tqdm(unit="token", file=sys.stderr) as bar:
        for event in client.generate_stream(options.caption, **wanted):
            match event:
                case GenerationProgress():
                    bar.total = event.tokens_total
                    bar.update(event.tokens_done - bar.n)
                case GeneratedImage():
                    images.append(event)
                case Summary():
                    return Answer(images, event)
    raise UserError(f"{client.address} ended the stream too early: ask again.")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}): name another --image.") from error


def _status(options: argparse.Namespace) -> None:
    with Client(options.server) as client:
        ready = client.is_serving()
    print(f"{options.server} is {'ready' if ready else 'not ready: its models are loading'}")
    sys.exit(0 if ready else 1)


def _check_port(config: ServeConfig, name: str) -> None:
    port = getattr(config, name)
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    try:
        socket.create_server((config.host, port), family=family).close()
    except OSError as error:
        option = "--port" if name == "port" else f"{name}="
        remedy = f"another {option}, or 0" if error.errno in (EADDRINUSE, EACCES) else "another host="
        address = config.address(port)
        raise UserError(f"cannot listen on {address} ({error.strerror}): choose {remedy}.") from error


def note_address(run: str, address: str) -> None:
    """Write the service's address into the run directory, for scripts; a run that is only read goes without."""
    try:
        write_whole(Path(run) / "serve" / "address", address.encode())
    except OSError as error:
        get_logger("serve").info("%s cannot be written (%s): its serve/address is left out", run, error.strerror)


def _write(path: Path, data: bytes) -> None:
    try:
        write_whole(path, data)
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}): choose another --out.") from error


def _wait_for_signal() -> None:
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    stopped.wait()
