"""The commands ``t2i models``: what a service has, and how that is changed."""

from __future__ import annotations

from pathlib import Path

from models.manifest import SHORT
from t2i.client import Client
from t2i.client.models import add_model, list_models, remove_model, set_default_model
from t2i.protos.v1 import models_pb2 as pb

STEPS = {
    pb.ADD_STEP_QUEUE: "another change is made first",
    pb.ADD_STEP_LOAD: "{} of 3 stages run",
    pb.ADD_STEP_SWITCH: "loaded, requests pass over to it",
    pb.ADD_STEP_SERVED: "served",
}


def print_models(client: Client) -> None:
    """Print the models of a service, the default first, and its limits.

    Raises:
        ServiceError: the service answers with an error, or not at all.
    """
    answer = list_models(client)
    for model in answer.models:
        print(_line(model))
    limits = answer.limits
    print(f"at most {limits.candidates} candidates and {limits.seconds:g} s a request")


def add(client: Client, name: str, run: str) -> None:
    """Serve a run under a name, and print how far that is.

    Raises:
        ServiceError: name or run cannot be used, the service answers with another error, or not at all.
    """
    run = run if "://" in run else str(Path(run).absolute())
    told = ""
    for event in add_model(client, name, run):
        waits = f": {event.waits_for}" if event.waits_for else ""
        line = f"{name}: {STEPS[event.step].format(event.stages_running)}{waits}"
        if line != told:
            print(line, flush=True)
        told = line


def remove(client: Client, name: str) -> None:
    """End a model.

    Raises:
        ServiceError: it is not there, or the default; the service answers with another error, or not at all.
    """
    remove_model(client, name)
    print(f"{name}: removed; what it has begun is still done")


def set_default(client: Client, name: str) -> None:
    """Let a model answer the requests that name none.

    Raises:
        ServiceError: there is no such model, the service answers with another error, or not at all.
    """
    set_default_model(client, name)
    print(f"{name}: the default")


def _line(model: pb.Model) -> str:
    state = ["default" if model.is_default else "", "ready" if model.ready else "not ready"]
    state += [f"also {' or '.join(model.aliases)}"] if model.aliases else []
    head = f"{model.name} ({', '.join(filter(None, state))})"
    if not model.HasField("setup"):
        return head
    stages = [
        f"{stage} {getattr(model.setup, stage).weights[:SHORT]} {count / 1e6:.1f} M {getattr(model.setup, stage).dtype}"
        for stage, count in sorted(model.parameters.items(), key=lambda each: ("prior decoder reranker").find(each[0]))
    ]
    size = f"{model.image_side} px, {model.grid_height} x {model.grid_width} of {model.codes} codes"
    return f"{head}  {size}, captions of {model.text_length} tokens  {'; '.join(stages)}"
