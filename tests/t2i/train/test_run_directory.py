from __future__ import annotations

import pytest

from t2i.train.run_directory import RunChanged, RunDirectory

CONFIG = {"kind": "T", "task": {"lr": 0.1, "model": {"width": 8}}, "train": {"steps": 10, "seed": 0}, "inputs": {}}


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    return RunDirectory(str(tmp_path / "run"))


def begin(run: RunDirectory, tmp_path) -> None:
    run.claim(CONFIG)
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "weights").write_text("w")
    run.put_checkpoint(tmp_path / "checkpoint", "step_0000001", keep=2)


def changed(**part) -> dict:
    return {key: value | part.get(key, {}) if isinstance(value, dict) else value for key, value in CONFIG.items()}


def test_a_changed_field_is_refused_by_name(run, tmp_path):
    begin(run, tmp_path)
    with pytest.raises(RunChanged, match=r"task\.model\.width \(8 -> 16\).*name another run directory\.$"):
        run.claim(changed(task={"model": {"width": 16}}))
    with pytest.raises(RunChanged, match=r"inputs\.dvae \(None -> abc\)"):
        run.claim(changed(inputs={"dvae": "abc"}))


def test_a_run_may_grow_longer(run, tmp_path):
    begin(run, tmp_path)
    run.claim(changed(train={"steps": 20}))
    with pytest.raises(RunChanged, match="seed"):
        run.claim(changed(train={"steps": 20, "seed": 1}))


def test_a_run_with_nothing_in_it_may_be_configured_anew(run):
    run.claim(CONFIG)
    run.claim(changed(train={"seed": 1}))


def test_a_run_is_finished_when_model_and_metrics_stand(run, tmp_path):
    run.finish({"step": 10})
    assert run.finished(10) is None
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "manifest.json").write_text("{}")
    run.put(tmp_path / "model", "model")
    assert run.finished(10) == {"step": 10}
    assert run.finished(11) is None


def test_pruning_spares_the_checkpoint_just_written_beside_a_later_broken_one(run, tmp_path):
    directory = tmp_path / "checkpoint"
    directory.mkdir()
    (directory / "weights").write_text("w")
    for name in ("step_0000009", "step_0000001", "step_0000002"):
        run.put_checkpoint(directory, name, keep=1)
    kept = sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir())
    assert kept == ["step_0000002", "step_0000009"]
