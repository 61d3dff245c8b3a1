"""The command ``t2i``: serve a run directory, ask a service for images or what it has, redraw, make keys.

What only one command needs is imported there: a client starts in a fraction of a second.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import NoReturn

from models.errors import UserError
from models.files import write_whole
from t2i.client import FORMATS, Answer, Client, GeneratedImage, GenerationOptions, GenerationProgress, Summary
from t2i.proxies import bypass_proxies_for_loopback
from t2i.sampling import SamplingParams

DEFAULT_STORE = "by default that of T2I_MODEL_STORE"
NAMES = {
    "push": "the model; without VERSION the next number, or the version that has this content already",
    "pull": "the model; without VERSION the promoted one",
    "promote": "the model",
}
"""What a model's name in the store means, by command."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the console script; errors that the user can mend are printed in one sentence, with exit code 2."""
    bypass_proxies_for_loopback()
    try:
        _check_encoding(sys.argv[1:] if arguments is None else arguments)
        options = make_parser().parse_args(arguments)
        options.command(options)
    except UserError as error:
        print(f"t2i: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("t2i: interrupted: the service stops what it was doing for you.", file=sys.stderr)
        sys.exit(130)


class _Parser(argparse.ArgumentParser):
    """Ends in one sentence where the command line is wrong."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message.removesuffix('.')}: see {self.prog} --help.")


def _check_encoding(arguments: Sequence[str]) -> None:
    try:
        "".join(arguments).encode()
    except UnicodeEncodeError:
        from t2i.config import check_encoding  # it knows which word, and takes longer to import

        check_encoding(arguments)


def _local_path(word: str) -> Path:
    return Path(word if os.path.lexists(word) else os.path.expanduser(word)).absolute()


def _run(word: str) -> str:
    return word if "://" in word else str(_local_path(word))


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; what it returns has the ``command`` to be called with it."""
    parser = _Parser(prog="t2i", description="Text to image: serve a trained run and ask it for images.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("serve", help="serve a run over gRPC until interrupted")
    command.add_argument(
        "--run", help="run with the trained models: a directory, s3://... or models://NAME (default: runs/tiny)"
    )
    command.add_argument("--port", help="port to listen on; 0 takes any free one (default: 50051)")
    command.add_argument("settings", nargs="*", metavar="key=value", help="any field of ServeConfig, or ray.*")
    command.set_defaults(command=_serve)

    command = commands.add_parser("generate", help="ask a service for images of a caption")
    command.add_argument("caption", help="what the images should show")
    command.add_argument("-n", "--candidates", type=int, default=8, help="images to sample (default: %(default)s)")
    command.add_argument(
        "-k", "--keep", type=int, default=1, help="how many of them to save, the best by CLIP (default: %(default)s)"
    )
    command.add_argument(
        "--out", type=_local_path, default=".", help="directory for the images, SEED-RANK.FORMAT (default: this one)"
    )
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
    command.add_argument(
        "--no-metadata", action="store_true", help="files without the recipe by which `t2i redraw` draws them again"
    )
    command.add_argument("--stream", action="store_true", help="show progress")
    _add_server(command)
    command.set_defaults(command=_generate)

    command = commands.add_parser("redraw", help="draw a picture again from the recipe in its file, and compare")
    command.add_argument("picture", type=_local_path, help="a picture that t2i generate has saved")
    where = command.add_mutually_exclusive_group()
    where.add_argument(
        "--run",
        type=_run,
        help="draw here, with the models of this run: a directory, s3://... or models://NAME/VERSION",
    )
    _add_server(where)
    command.set_defaults(command=_redraw)

    command = commands.add_parser(
        "models",
        help="the models of a service (list, add, remove, default), or of the model store (push, pull, ...)",
    )
    _add_model_commands(command.add_subparsers(required=True, metavar="COMMAND"))

    command = commands.add_parser("status", help="say whether a service is ready; exit code 1 if it is not")
    _add_server(command)
    command.set_defaults(command=_status)

    command = commands.add_parser("keys", help="make keys for the clients of a service")
    command = command.add_subparsers(required=True, metavar="COMMAND").add_parser(
        "new", help="make a key, print it once"
    )
    command.add_argument("name", help="what the service calls the client: letters, digits, '.', '_' and '-'")
    command.add_argument(
        "--file",
        type=_local_path,
        default="keys.yaml",
        help="file for its hash, keys= of the service (default: %(default)s)",
    )
    command.add_argument("--tokens-per-minute", type=int, help="image tokens that it may ask for in a minute")
    command.add_argument("--concurrent", type=int, help="requests that it may have at once")
    command.add_argument("--admin", action="store_true", help="it may also change the service's models")
    command.set_defaults(command=_new_key)
    return parser


def _add_model_commands(commands: argparse._SubParsersAction[_Parser]) -> None:
    actions = {
        "list": "the models of a service, or with --store those of the model store",
        "add": "of a service: serve a run under a name, in the place of what it has now, while it answers",
        "remove": "of a service: end a model, once what it has begun is done",
        "default": "of a service: let a model answer the requests that name none",
    }
    for action, meaning in actions.items():
        command = commands.add_parser(action, help=meaning, description=f"{meaning}.".capitalize())
        if action != "list":
            command.add_argument("name", help="what requests call the model: letters, digits, '.', '_' and '-'")
        if action == "add":
            command.add_argument("run", help="directory as the service sees it, s3://..., or models://NAME[/VERSION]")
        if action == "list":
            command.add_argument(
                "--store", nargs="?", const="", help=f"list the model store instead of a service; {DEFAULT_STORE}"
            )
        _add_server(command)
        command.set_defaults(command=_models, action=action)
    _add_store_commands(commands)


def _add_store_commands(commands: argparse._SubParsersAction[_Parser]) -> None:
    actions = {
        "push": "of the store: keep a run in it, as a version of a model that never changes",
        "pull": "of the store: copy a version into a local folder",
        "promote": "of the store: let a model's name alone mean this version",
    }
    for action, meaning in actions.items():
        command = commands.add_parser(action, help=meaning, description=f"{meaning}.".capitalize())
        version = "NAME" if action == "promote" else "NAME[/VERSION]"
        command.add_argument("model", metavar=version, help=NAMES[action])
        if action == "push":
            command.add_argument("run", type=_run, help="run to keep: a directory, s3://... or models://NAME")
        if action == "pull":
            command.add_argument("folder", type=_local_path, help="folder that is made; it is a run then")
        if action == "promote":
            command.add_argument("version", help="a newer one, or an older one to roll back")
        command.add_argument("--store", default="", help=f"folder or address of the model store; {DEFAULT_STORE}")
        command.set_defaults(command=_store, action=action)


def _add_server(command: argparse._ActionsContainer) -> None:
    command.add_argument(
        "--server", default="127.0.0.1:50051", metavar="HOST:PORT", help="the service (default: %(default)s)"
    )
    command.add_argument("--key", help="the key by which the service knows you; by default that of T2I_KEY")
    command.add_argument(
        "--ca", help="PEM file of the authority whose certificates to trust, or 'system': turns TLS on"
    )
    command.add_argument("--certificate", help="PEM file of your own certificate, if the service asks for one")
    command.add_argument("--certificate-key", help="PEM file of its private key")


def _client(options: argparse.Namespace) -> Client:
    return Client(
        options.server,
        key=options.key,
        ca=options.ca,
        certificate=options.certificate,
        certificate_key=options.certificate_key,
    )


def _serve(options: argparse.Namespace) -> None:
    from t2i.serve.command import serve

    serve(options)


def _new_key(options: argparse.Namespace) -> None:
    from t2i.serve.access.keys import add_key

    print(add_key(options.file, options.name, options.tokens_per_minute, options.concurrent, options.admin))


def _generate(options: argparse.Namespace) -> None:
    with _client(options) as client:
        answer = _ask(client, options)
    for rank, image in enumerate(answer.images):
        path = options.out / f"{answer.summary.seed}-{rank:03d}.{image.format}"  # other answers lie beside it
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
        "metadata": not options.no_metadata,
    }
    wanted.update({field.name: getattr(options, field.name) for field in fields(SamplingParams)})  # type: ignore[typeddict-item]
    if not options.stream:
        return client.generate(options.caption, **wanted)
    from tqdm import tqdm

    images = []
    with tqdm(unit="token", file=sys.stderr) as bar:
        for event in client.generate_stream(options.caption, **wanted):
            match event:
                case GenerationProgress():
                    bar.set_description("a replica is starting" if event.stage == "starting" else None)
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


def _redraw(options: argparse.Namespace) -> None:
    from t2i.serve.redraw.command import redraw_file

    with _client(options) as client:
        is_identical = redraw_file(options.picture, options.run or client)
    sys.exit(0 if is_identical else 1)


def _models(options: argparse.Namespace) -> None:
    from t2i.serve import model_commands

    if options.action == "list" and options.store is not None:
        return _store(options)
    with _client(options) as client:
        match options.action:
            case "list":
                model_commands.print_models(client)
            case "add":
                model_commands.add(client, options.name, options.run)
            case "remove":
                model_commands.remove(client, options.name)
            case "default":
                model_commands.set_default(client, options.name)


def _store(options: argparse.Namespace) -> None:
    from t2i.serve import store_commands

    match options.action:
        case "list":
            store_commands.print_store(options.store)
        case "push":
            store_commands.push_run(options.store, options.model, options.run)
        case "pull":
            store_commands.pull_version(options.store, options.model, options.folder)
        case "promote":
            store_commands.promote_version(options.store, options.model, options.version)


def _status(options: argparse.Namespace) -> None:
    with _client(options) as client:
        ready = client.is_serving()
    print(f"{options.server} is {'ready' if ready else 'not ready: its models are loading'}")
    sys.exit(0 if ready else 1)


def _write(path: Path, data: bytes) -> None:
    try:
        write_whole(path, data)
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}): choose another --out.") from error
