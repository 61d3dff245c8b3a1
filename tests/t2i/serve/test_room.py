"""A service that a cluster has no room for is refused in a sentence, before anything starts."""

from __future__ import annotations

import logging

import pytest

from models.errors import UserError
from t2i.serve.config import PriorReplicaConfig, ReplicaConfig, ServeConfig
from t2i.serve.room import Room, check_room, needs

TWO_CORES = Room(1, {"CPU": 2.0})
TOO_MUCH = ServeConfig(prior=PriorReplicaConfig(min_replicas=2, max_replicas=2))


def test_the_defaults_fit_on_two_cores() -> None:
    check_room(ServeConfig(http_port=8000), TWO_CORES)
    assert needs(ServeConfig(http_port=8000)) == pytest.approx({"CPU": 1.9, "GPU": 0.0})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (TOO_MUCH, r"reserve 2.7 CPUs and the cluster has 2: use fewer min_replicas, reserve less with prior.cpus="),
        (ServeConfig(decoder=ReplicaConfig(gpus=1)), r"reserve 1 GPUs and the cluster has 0"),
        (ServeConfig(gateways=3), "gateways is 3 and each node has 2: use at most 2"),
    ],
)
def test_what_cannot_start_is_refused(config: ServeConfig, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_room(config, TWO_CORES)


def test_replicas_that_load_may_add_need_no_room_yet() -> None:
    check_room(ServeConfig(prior=PriorReplicaConfig(min_replicas=0, max_replicas=9)), TWO_CORES)


def test_a_cluster_that_grows_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "t2i"):
        check_room(TOO_MUCH, Room(1, {"CPU": 2.0}, most={"CPU": 8.0}))
    assert "reserve 2.7 CPUs and the cluster has 2: it waits" in caplog.text
    with pytest.raises(UserError, match=r"reserve 2.7 CPUs"):
        check_room(TOO_MUCH, Room(1, {"CPU": 2.0}, most={"CPU": 2.0}))
