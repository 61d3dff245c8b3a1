"""Fitting the reranker."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from open_clip.loss import ClipLoss
from torch import Tensor

from models.reranker import CLIPConfig, CLIPReranker
from t2i.contact_sheet import SheetRow
from t2i.data.columns import caption_array
from t2i.data.packed_images import pack_images
from t2i.evaluate.candidates import to_png
from t2i.train.noise import Noise
from t2i.train.tasks.base import Columns
from t2i.train.tasks.clip import CLIPTask, CLIPTaskConfig, all_gather_features, contrastive_loss, retrieval
from t2i.train.tasks.pictures import captioned_sheet
from tests.t2i.train.tiny import free_port
from tests.workers import run_workers

CAPTIONS = [
    ["a red heart, flat", "a red heart"],
    ["smiling cat", "cat", "animal"],
    ["tree"],
    ["red heart", "a red heart"],
]


@pytest.fixture(scope="module")
def task() -> CLIPTask:
    return CLIPTask(CLIPTaskConfig(model=CLIPConfig(image_size=32, width=16, hidden=64, dropout=0.0), mirror=True), 32)


@pytest.fixture(scope="module")
def model(task: CLIPTask) -> CLIPReranker:
    model = task.build()
    assert isinstance(model, CLIPReranker)
    return model


@pytest.fixture(scope="module")
def columns() -> Columns:
    pixels = np.random.default_rng(0).integers(0, 256, (len(CAPTIONS), 32, 32, 3), dtype=np.uint8)
    return {"pixels": pixels, "captions": caption_array(CAPTIONS)}


@pytest.fixture(scope="module")
def prepared(task: CLIPTask, model: CLIPReranker, columns: Columns) -> Columns:
    return task.prepare(columns, model)


def noise(seed: int, rows: int) -> Noise:
    return Noise.of_step(seed, 0, rows)


def test_prepare_runs_each_caption_and_image_through_the_towers(model: CLIPReranker, prepared: Columns) -> None:
    flat = [caption for row in CAPTIONS for caption in row]
    assert np.allclose(prepared["text"], model.text_tower(flat).numpy(), atol=1e-5)
    images = torch.from_numpy(prepared["pixels"]).permute(0, 3, 1, 2) / 255
    assert np.allclose(prepared["images"], model.image_tower(images).numpy(), atol=1e-4)
    assert np.allclose(prepared["mirrored"], model.image_tower(images.flip(-1)).numpy(), atol=1e-4)
    assert prepared["first"].tolist() == [0, 2, 5, 6]


def test_validation_takes_first_captions_and_images_as_they_are(task: CLIPTask, prepared: Columns) -> None:
    batch = task.batch(prepared, np.array([3, 1]))
    assert np.array_equal(batch["images"].numpy(), prepared["images"][[3, 1]])
    assert np.array_equal(batch["text"].numpy(), prepared["text"][[6, 2]])


def test_training_takes_any_caption_of_the_image_and_mirrors_half(task: CLIPTask, prepared: Columns) -> None:
    batch = task.batch(prepared, np.ones(400, dtype=np.int64), noise(0, 400))
    own = [(batch["text"] == torch.from_numpy(text)).all(dim=1) for text in prepared["text"][2:5]]
    shares = [chosen.float().mean().item() for chosen in own]
    assert shares == pytest.approx([0.6, 0.2, 0.2], abs=0.08)
    mirrored = (batch["images"] == torch.from_numpy(prepared["mirrored"][1])).all(dim=1)
    plain = (batch["images"] == torch.from_numpy(prepared["images"][1])).all(dim=1)
    assert (mirrored | plain).all()
    assert mirrored.float().mean() == pytest.approx(0.5, abs=0.1)


def test_a_batch_depends_on_its_noise_alone(task: CLIPTask, prepared: Columns) -> None:
    rows = np.tile(np.arange(4), 8)
    first, again, other = (task.batch(prepared, rows, noise(seed, 32)) for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["text"], other["text"])


def test_heads_learn_to_tell_pairs_apart(task: CLIPTask, prepared: Columns) -> None:
    torch.manual_seed(0)
    model = task.build().train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    for step in range(100):
        batch = task.batch(prepared, np.arange(4), noise(step, 4))
        loss, scalars = task.loss(model, batch, step, noise(step, 4))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert set(task.training_metrics) <= set(scalars)
    metrics = task.validate(model.eval(), prepared, batch_size=3)
    assert metrics["text_to_image_r1"] == metrics["image_to_text_r1"] == 1.0
    assert metrics["text_to_image_median_rank"] == 1.0
    assert {task.headline.metric, task.overfitting_metric.metric, *task.validation_metrics} <= set(metrics)


def test_pictures_show_what_a_caption_finds_and_mark_its_own(
    task: CLIPTask, model: CLIPReranker, prepared: Columns, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[SheetRow] = []

    def keep_rows(rows: Sequence[SheetRow]) -> Tensor:
        shown.extend(rows)
        return captioned_sheet(rows)

    monkeypatch.setattr("t2i.train.tasks.clip.captioned_sheet", keep_rows)
    assert task.pictures(model.eval(), prepared)["retrieved"].shape[0] == 3
    assert [row.caption for row in shown] == [captions[0] for captions in CAPTIONS]
    for place, row in enumerate(shown):
        cosines = [float(label.split(",")[0]) for label in row.labels]
        assert cosines == sorted(cosines, reverse=True)
        (own,) = (i for i, label in enumerate(row.labels) if label.endswith("its own"))
        assert np.array_equal(row.images[own], prepared["pixels"][place])


def test_the_loss_is_open_clip_s() -> None:
    images, text = (F.normalize(torch.randn(6, 8), dim=1) for _ in range(2))
    expected = ClipLoss()(images, text, torch.tensor(20.0))
    assert torch.allclose(contrastive_loss(20.0 * images @ text.T), expected)


def test_retrieval_counts_the_better_ones() -> None:
    """Query 0 finds its target second, query 1 first, query 2 third."""
    targets = np.eye(3)
    queries = np.array([[0.5, 0.8, 0.1], [0.1, 0.9, 0.2], [0.7, 0.5, 0.3]])
    assert retrieval("q", queries, targets) == {"q_r1": pytest.approx(1 / 3), "q_r10": 1.0, "q_median_rank": 2.0}


def test_a_named_clip_trains_all_of_its_weights(columns: Columns) -> None:
    task = CLIPTask(CLIPTaskConfig(model=CLIPConfig(architecture="ViT-S-32-alt"), mirror=True), 32)
    model = CLIPReranker(task.config.model).train()
    prepared = task.prepare(columns, model)
    batch = task.batch(prepared, np.arange(2), noise(0, 2))
    assert batch["images"].shape == (2, 3, 32, 32)
    encoded = {**prepared, **pack_images([to_png(image) for image in prepared["pixels"]])}
    del encoded["pixels"]
    assert torch.equal(task.batch(encoded, np.arange(2), noise(0, 2))["images"], batch["images"])
    loss, _ = task.loss(model, batch, 0, noise(0, 2))
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.slow
def test_two_workers_have_the_gradient_of_one(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The mean over workers, as data-parallel training takes it, is the gradient of the whole batch on one."""
    weight, inputs = torch.randn(4, 3), torch.randn(6, 2, 4)
    gradient = worker_gradient(weight, inputs)
    path = tmp_path_factory.mktemp("workers")
    run_workers(run_worker, (free_port(), weight, inputs, str(path)))
    halves = [np.load(path / f"{rank}.npy") for rank in range(2)]
    assert np.allclose(np.mean(halves, axis=0), gradient.numpy(), atol=1e-5)


def worker_gradient(weight: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
    """Of the contrastive loss of inputs [B, 2, 4], both sides projected by one ``weight`` [4, 3]."""
    weight = weight.clone().requires_grad_()
    images, text = (all_gather_features(F.normalize(side @ weight, dim=1)) for side in inputs.unbind(1))
    contrastive_loss(5.0 * images @ text.T).backward()
    assert weight.grad is not None
    return weight.grad


def run_worker(rank: int, port: int, weight: torch.Tensor, inputs: torch.Tensor, path: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    np.save(f"{path}/{rank}.npy", worker_gradient(weight, inputs[rank * 3 : rank * 3 + 3]).numpy())
    dist.destroy_process_group()
