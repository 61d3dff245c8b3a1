"""The command ``t2i``: serve a run directory, generate images with a service, ask whether a service is ready."""

from __future__ import annotations

import argparse
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from tqdm import tqdm

from models.errors import UserError
from models.files import write_whole
from models.settings import setting
from t2i.cluster import RayConfig, start_ray
from t2i.config import load_config
from t2i.sampling import SamplingParams
from t2i.serve.client import FORMATS, Answer, Client, GeneratedImage, GenerationOptions, GenerationProgress, Summary
from t2i.serve.config import ServeConfig, check_run


@dataclass
class ServeCommand(ServeConfig):
    """Settings of ``t2i serve``: the service's, and the Ray cluster's on which it runs."""

    ray: RayConfig = setting(RayConfig, "the Ray cluster")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the console script; errors that the user can mend are printed in one sentence, with exit code 2."""
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except UserError as error:
        print(f"t2i: {error}", file=sys.stderr)
        sys.exit(2)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="t2i", description="Text to image: serve a trained run and ask it for images."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("serve", help="serve a run directory over gRPC until interrupted")
    command.add_argument(
        "--run", default="runs/tiny", help="run directory with the trained models (default: %(default)s)"
    )
    command.add_argument(
        "--port", default="50051", help="port to listen on; 0 takes any free one (default: %(default)s)"
    )
    command.add_argument("settings", nargs="*", metavar="key=value", help="any other field of ServeConfig, or ray.*")
    command.set_defaults(command=_serve)

    command = commands.add_parser("generate", help="ask a service for images of a caption")
    command.add_argument("caption", help="what the images should show")
    command.add_argument("-n", "--candidates", type=int, default=8, help="images to sample (default: %(default)s)")
    command.add_argument(
        "-k", "--keep", type=int, default=1, help="how many of them to save, the best by CLIP (default: %(default)s)"
    )
    command.add_argument("--out", type=Path, default=Path("."), help="directory for the images (default: this one)")
    command.add_argument(
        "--seed", type=int, help="the same seed gives the same images; by default the service chooses one"
    )
    for field in fields(SamplingParams):
        option = f"--{field.name.replace('_', '-')}"
        command.add_argument(option, type=type(field.default), default=field.default, help=field.metadata["help"])
    command.add_argument("--image", type=Path, help="an image file whose top every image continues")
    command.add_argument("--image-rows", type=int, help="rows of its image tokens to keep; by default 15 of 32")
    command.add_argument("--format", choices=FORMATS, default="png", help="file format of the images (default: png)")
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
    words = [f"run={options.run}", f"port={options.port}", *options.settings]
    config = load_config(ServeCommand, "serve", words)
    check_run(config.run)
    _check_port(config.host, config.port)
    from t2i.serve.launch import launch_service

    start_ray(config.ray)
    with launch_service(config) as address:
        _write(Path(config.run) / "serve" / "address", address.encode())
        print(f"serving {config.run} on {address}", flush=True)
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


def _check_port(host: str, port: int) -> None:
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        raise UserError(f"cannot listen on {host}:{port} ({error.strerror}): choose another --port, or 0.") from error


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
