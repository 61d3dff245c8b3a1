"""Time a service beside the same models in one process: at saturation, at random arrivals, alone, overloaded.

    python jobs/benchmarks/bench_serve.py run=models/trained/small
    python jobs/benchmarks/bench_serve.py rounds=1 seconds=5 uncounted=2 images=64 many=64 overload_s=5   minutes

locust sends the load (locust_users.py) from a process on the same machine: it takes a part of the CPUs, which the
models in one process have to themselves. What is compared is measured in turn. All settings of a service can be given
as well (``prior.slots=32``). Keep the results in docs/benchmarks.md, with a description of the machine.
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import grpc
import httpx
import numpy as np
import torch
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc
from ray import serve

from harness import machine, medians, seconds
from locust_load import ANSWER, FIRST_PREVIEW, REFUSAL, Counted, load
from models.settings import setting
from ratios import keep
from t2i.cluster import RayConfig, start_ray
from t2i.config import run_job
from t2i.engine import TextToImage
from t2i.protos.v1.decoder_pb2 import DecodeRequest
from t2i.protos.v1.decoder_pb2_grpc import DecoderStub
from t2i.protos.v1.generation_pb2 import GenerateRequest
from t2i.protos.v1.generation_pb2_grpc import GenerationStub
from t2i.protos.v1.prior_pb2 import TokenGrid
from t2i.protos.v1.reranker_pb2 import RankRequest
from t2i.protos.v1.reranker_pb2_grpc import RerankerStub
from t2i.serve.app import gateway_app
from t2i.serve.auto.settle import settled
from t2i.serve.config import ServeConfig, TLSConfig
from t2i.serve.launch import free_port, launch_service
from t2i.serve.running import QUIET

CAPTION = "a taco"
MESSAGE = [("grpc.max_receive_message_length", -1)]


@dataclass
class BenchServe(ServeConfig):
    """The service, the models in one process, and how much is asked of both."""

    ray: RayConfig = setting(RayConfig, "the Ray cluster")
    port: int = setting(0, "port to listen on; 0 takes any free one", at_least=0, at_most=65535)
    threads: int | None = setting(None, "threads of the models in one process; empty: torch's default", at_least=1)
    candidates: int = setting(4, "images sampled for each request of the load", at_least=1)
    rounds: int = setting(3, "timed rounds of what is compared, in turn; medians are printed", at_least=1)
    images: int = setting(128, "images of a round of the models in one process", at_least=1)
    seconds: float = setting(20.0, "seconds of each load that are counted", above=0)
    uncounted: float = setting(5.0, "seconds before them", at_least=0)
    deadline: float = setting(60.0, "deadline of a request of the load, in seconds", above=0)
    many: int = setting(512, "candidates of the one large request", at_least=4)
    overload: float = setting(10.0, "times the requests that the service can answer", above=1)
    overload_s: float = setting(60.0, "seconds of overload", above=0)


def main(config: BenchServe) -> None:
    """Print the table."""
    start_ray(config.ray)
    config = replace(config, prior=settled(config).prior, http_port=config.http_port or free_port(config))
    torch.set_num_threads(config.threads or torch.get_num_threads())
    bare = Bare(config)
    print(f"{machine()}; {config.run}, {config.prior.settings}, {config.candidates} candidates a request")
    with launch_service(config) as address, tls_gateway(config) as secure:
        doors = Doors(config, address, *secure)
        doors.wait()
        saturated = saturation(config, bare, doors)
        arrivals(config, doors, saturated)
        alone(config, bare, doors)
        large_request(config, bare, doors)
        overloaded(config, doors, saturated)


class Bare:
    """The models of the run in this process: engine, decoder and reranker, nothing else."""

    def __init__(self, config: BenchServe) -> None:
        self._models = TextToImage.load(config.run, config.prior.settings.slots, dtype=config.prior.settings.dtype)
        self._config = config

    def images_per_second(self) -> float:
        """Return the speed of drawing many captions at once."""
        captions = max(1, self._config.images // self._config.candidates)
        draw = partial(self.draw, captions, self._config.candidates)
        return captions * self._config.candidates / seconds(draw)()

    def draw(self, captions: int, candidates: int) -> None:
        """Draw and rank images."""
        self._models.generate([CAPTION] * captions, candidates=candidates, seeds=range(captions))

    def sample(self, candidates: int) -> None:
        """Sample the image tokens of a caption; nothing is decoded."""
        self._models.sample([CAPTION], candidates=candidates, seeds=0)

    def decode(self) -> np.ndarray:
        """Return an image uint8 [1, H, W, 3] of arbitrary tokens."""
        return self._models.decode(np.zeros((1, np.prod(self._models.grid)), np.int64))

    def rank(self, images: np.ndarray) -> None:
        """Rank images by their caption."""
        self._models.rank(images, CAPTION)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of image tokens."""
        return self._models.grid


class Doors:
    """The ways into a service: gRPC, gRPC with TLS, HTTP."""

    def __init__(self, config: BenchServe, address: str, secure_address: str, authority: Path) -> None:
        self.address, self.authority = address, authority
        self.channel = grpc.insecure_channel(address, MESSAGE)
        credentials = grpc.ssl_channel_credentials(authority.read_bytes())
        self.secure_channel = grpc.secure_channel(secure_address, credentials, MESSAGE)
        self._http = httpx.Client(base_url=f"http://{config.address(config.http_port)}", timeout=None)

    def wait(self) -> None:
        """Return once all answer."""
        serving = health_pb2.HealthCheckResponse.SERVING
        for channel in (self.channel, self.secure_channel):
            while self.health(channel) != serving:
                time.sleep(0.2)
        while self._http.get("/-/healthz").status_code != httpx.codes.OK:
            time.sleep(0.2)

    def health(self, channel: grpc.Channel) -> int:
        """Return what a gateway says of itself."""
        check = health_pb2_grpc.HealthStub(channel).Check
        return check(health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=60).status

    def generate(self, channel: grpc.Channel, candidates: int = 1, keep: int = 1) -> None:
        """Ask for images of a caption."""
        GenerationStub(channel).Generate(GenerateRequest(caption=CAPTION, candidates=candidates, keep=keep, seed=0))

    def generate_by_http(self) -> None:
        """Ask for an image by the Images API."""
        self._http.post("/v1/images/generations", json={"prompt": CAPTION, "seed": 0}).raise_for_status()

    def first_preview(self) -> float:
        """Return after which part of its time a request for one image brings its first row."""
        begin, first = time.perf_counter(), 0.0
        request = GenerateRequest(caption=CAPTION, seed=0, preview_rows=1)
        for event in GenerationStub(self.channel).GenerateStream(request):
            if event.HasField("preview") and not first:
                first = time.perf_counter() - begin
        return first / (time.perf_counter() - begin)

    def decode(self, grid: tuple[int, int]) -> bytes:
        """Return the image file of arbitrary tokens."""
        tokens = TokenGrid(height=grid[0], width=grid[1], image_tokens=[0] * grid[0] * grid[1])
        return DecoderStub(self.channel).Decode(DecodeRequest(grids=[tokens])).images[0]

    def rank(self, image: bytes) -> None:
        """Rank an image file."""
        RerankerStub(self.channel).Rank(RankRequest(caption=CAPTION, images=[image]))


@contextmanager
def tls_gateway(config: BenchServe) -> Iterator[tuple[str, Path]]:
    """Yield the address of one more gateway, which speaks TLS, and the file of its authority."""
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder, f"{name}.pem") for name in ("ca", "certificate", "key")}
        authority = trustme.CA()
        issued = authority.issue_cert(config.host, "localhost")
        authority.cert_pem.write_to_path(files["ca"])
        issued.cert_chain_pems[0].write_to_path(files["certificate"])
        issued.private_key_pem.write_to_path(files["key"])
        tls = TLSConfig(str(files["certificate"]), str(files["key"]))
        secure = replace(config, port=free_port(config), gateways=1, tls=tls)
        serve.run(gateway_app(secure), name="t2i-tls", route_prefix=None, logging_config=QUIET)
        yield secure.address(secure.port), files["ca"]
        serve.delete("t2i-tls")


def saturation(config: BenchServe, bare: Bare, doors: Doors) -> float:
    """Print the speed with always enough to do; return the service's in requests a second."""

    def served() -> float:
        users = 2 + 2 * config.prior.settings.slots // config.candidates
        return config.candidates * ask(config, doors, "Repeating", users).per_second(ANSWER)

    speed = medians({"bare": bare.images_per_second, "service": served}, config.rounds)
    keep("service, saturated", {name: 1 / images for name, images in speed.items()})
    title("saturated")
    row("models in one process", f"{speed['bare']:.2f} images/s")
    row("service", f"{speed['service']:.2f} images/s", f"{speed['service'] / speed['bare']:.2f} (aim 0.95)")
    return speed["service"] / config.candidates


def arrivals(config: BenchServe, doors: Doors, saturated: float) -> None:
    """Print percentiles at random arrivals."""
    for share in (0.5, 0.8):
        counted = ask(config, doors, "Arrivals", 4, rate=share * saturated, preview_rows=1)
        title(f"{share:.0%} of it, at random moments: 50, 95, 99 % of {counted.count(ANSWER)}")
        row("whole answer", percentiles(counted, ANSWER))
        row("first preview", percentiles(counted, FIRST_PREVIEW))
        row("refused", str(counted.count(REFUSAL)), f"failed: {counted.failures}")


def alone(config: BenchServe, bare: Bare, doors: Doors) -> None:
    """Print what each hop costs a request that is alone."""
    image, file = bare.decode(), doors.decode(bare.grid)
    calls: dict[str, Callable[[], object]] = {
        "one image, models in one process": partial(bare.draw, 1, 1),
        "one image, service": partial(doors.generate, doors.channel),
        "one image, service with TLS": partial(doors.generate, doors.secure_channel),
        "one image, service over HTTP": doors.generate_by_http,
        "decode, model in this process": bare.decode,
        "Decode": partial(doors.decode, bare.grid),
        "rank, model in this process": partial(bare.rank, image),
        "Rank": partial(doors.rank, file),
        "health check": partial(doors.health, doors.channel),
    }
    took = medians({name: seconds(call) for name, call in calls.items()}, 5 * config.rounds)
    base, plain = list(took.values())[:2]
    beside = {
        "one image, service": f"{plain / base:.3f}, {1e3 * (plain - base):+.1f} ms (aim +10 ms)",
        "one image, service with TLS": f"{took['one image, service with TLS'] / plain:.3f} of without (aim 1.03)",
        "one image, service over HTTP": f"{1e3 * (took['one image, service over HTTP'] - plain):+.1f} ms beside gRPC",
        "Decode": f"{1e3 * (took['Decode'] - took['decode, model in this process']):+.1f} ms",
        "Rank": f"{1e3 * (took['Rank'] - took['rank, model in this process']):+.1f} ms",
    }
    keep("service", {name: value for name, value in took.items() if name.startswith("one image")})
    title("alone")
    for name, value in took.items():
        row(name, f"{1e3 * value:.1f} ms", beside.get(name, ""))
    part = medians({"first": doors.first_preview}, config.rounds)["first"]
    row("first preview of one image", f"{part:.3f} of its time", "(aim 0.125)")


def large_request(config: BenchServe, bare: Bare, doors: Doors) -> None:
    """Print how long the best four of many candidates take."""
    alone_s = seconds(partial(bare.sample, config.many))()
    served_s = seconds(partial(doors.generate, doors.channel, config.many, 4))()
    title(f"{config.many} candidates")
    row("engine alone", f"{alone_s:.1f} s")
    row("service, keep=4", f"{served_s:.1f} s", f"{served_s / alone_s:.2f} (aim 1.05 x 1.1 = 1.155)")


def overloaded(config: BenchServe, doors: Doors, saturated: float) -> None:
    """Print what comes of far more requests than can be answered, and how long the service feels it afterwards."""
    idle = statistics.median(seconds(partial(doors.generate, doors.channel))() for _ in range(3))
    with watched_health(doors) as told:
        rate = config.overload * saturated
        counted = ask(replace(config, seconds=config.overload_s), doors, "Arrivals", 4, rate=rate)
    after = seconds(partial(doors.generate, doors.channel))()
    sent = sum(map(counted.count, counted.times))
    title(f"{config.overload:.0f} times as many, {config.overload_s:.0f} s: {sent} requests")
    row("answered", f"{counted.per_second(ANSWER):.2f} /s", f"{counted.per_second(ANSWER) / saturated:.2f} (aim 0.9)")
    row("refused after 50, 95, 99 %", percentiles(counted, REFUSAL), "(aim 0.1 s)")
    row("failed", counted.failures)
    row("health: SERVING, anything else", f"{told.count(True)}, {told.count(False)}")
    row("one image afterwards", f"{after:.2f} s", f"{after - idle:+.2f} s (aim +2 s)")


@contextmanager
def watched_health(doors: Doors) -> Iterator[list[bool]]:
    """Ask for the service's health all the time; yields the list of whether it was SERVING."""
    told: list[bool] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.5):
            told.append(doors.health(doors.channel) == health_pb2.HealthCheckResponse.SERVING)

    thread = threading.Thread(target=watch)
    thread.start()
    yield told
    over.set()
    thread.join()


def ask(config: BenchServe, doors: Doors, user: str, users: int, **options: object) -> Counted:
    """Let locust ask for the seconds of the configuration."""
    options |= {"candidates": config.candidates, "deadline": config.deadline}
    return load(doors.address, user, users, config.seconds, config.uncounted, **options)


def percentiles(counted: Counted, name: str) -> str:
    """Return three percentiles in seconds."""
    return " ".join(f"{counted.seconds_of(name, percent):.3f}" for percent in (50, 95, 99)) + " s"


def title(words: str) -> None:
    """Print the heading of some rows."""
    print(f"\n{words}")


def row(name: str, value: str, beside: str = "") -> None:
    """Print a row: what, how much, and beside what."""
    print(f"  {name:<34}{value:>22}  {beside}")


if __name__ == "__main__":
    run_job(main, BenchServe, "bench_serve")
