from __future__ import annotations

import subprocess
import sys

import pytest

from t2i.lost_node import LOST
from tests.conftest import StartProcess

DRIVER = """
import os, signal, time, ray
from t2i.cluster import RayConfig, start_ray

@ray.remote
def raylet():
    return os.getppid()

if __name__ == "__main__":
    start_ray(RayConfig(cpus=1, object_store_gb=0.2))
    os.kill(ray.get(raylet.remote()), signal.SIGKILL)
    print("killed", flush=True)
    time.sleep(100)  # as an executor that looks for finished tasks again and again
"""


@pytest.mark.ray
def test_a_driver_whose_raylet_is_killed_ends_with_a_sentence(start_process: StartProcess) -> None:
    driver = start_process([sys.executable, "-c", DRIVER], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    output, _ = driver.communicate(timeout=120)
    assert driver.returncode == LOST
    assert "killed" in output
    assert "Ray's process on this machine is gone (killed, or out of memory): start the job again" in output
