"""Alert rules, dashboards and secrets are those of the files that hold them, and all YAML is tidy."""

from __future__ import annotations

import base64
import shutil
import subprocess
from pathlib import Path

import pytest
import trustme
import yaml
from yamllint import linter
from yamllint.config import YamlLintConfig

from t2i.serve.access.keys import read_keys
from tests.deploy.manifests import KUSTOMIZE, ROOT, documents_of, of_kind, overlay
from tests.deploy.rules_of_pods import SECRETS

MONITORING = ROOT / "deploy" / "monitoring"
YAML = sorted((ROOT / "deploy").rglob("*.yaml"))
STYLE = YamlLintConfig((ROOT / "deploy" / ".yamllint.yaml").read_text())


def test_the_operators_alert_rules_are_those_of_the_file() -> None:
    (rule,) = of_kind(overlay("gpu"), "PrometheusRule")
    rules = yaml.safe_load((MONITORING / "alerts.yaml").read_text())
    assert rule["spec"] == rules, "run: make deploy/monitoring/prometheus-rule.yaml"


@pytest.mark.parametrize("name", ["gpu", "spot"])
def test_dashboards_are_those_of_the_files(name: str) -> None:
    (dashboards,) = [each for each in of_kind(overlay(name), "ConfigMap") if "serving.json" in each["data"]]
    assert dashboards["data"] == {file.name: file.read_text() for file in (MONITORING / "grafana").glob("*.json")}
    assert dashboards["metadata"]["labels"]["grafana_dashboard"] == "1"


def test_secrets_are_made_of_the_examples_and_a_certificate(tmp_path: Path) -> None:
    folder = shutil.copytree(KUSTOMIZE / "secrets", tmp_path / "secrets")
    for example in folder.glob("*.example"):
        example.rename(example.with_suffix(""))
    certificate = trustme.CA().issue_cert("images.example.com")
    certificate.private_key_pem.write_to_path(folder / "tls.key")
    certificate.cert_chain_pems[0].write_to_path(folder / "tls.crt")
    secrets = {each["metadata"]["name"]: each for each in documents_of(folder)}
    assert secrets.keys() == SECRETS
    assert secrets["t2i-s3"]["data"].keys() == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    assert secrets["t2i-tls"]["type"] == "kubernetes.io/tls"
    (tmp_path / "keys.yaml").write_bytes(base64.b64decode(secrets["t2i-keys"]["data"]["keys.yaml"]))
    assert read_keys(str(tmp_path / "keys.yaml")) == []


@pytest.mark.parametrize("file", ["s3.env", "keys.yaml", "tls.crt", "tls.key"])
def test_git_ignores_the_secrets(file: str) -> None:
    subprocess.run(["git", "check-ignore", "--quiet", KUSTOMIZE / "secrets" / file], cwd=ROOT, check=True)


@pytest.mark.parametrize("file", YAML, ids=lambda file: str(file.relative_to(ROOT / "deploy")))
def test_yaml_is_tidy_and_says_what_it_is(file: Path) -> None:
    text = file.read_text()
    assert text.startswith("# ")
    assert [str(problem) for problem in linter.run(text, STYLE)] == []
