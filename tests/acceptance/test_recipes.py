"""The recipes: each file fits its format, and names commands that exist. test_pipelines.py runs the pipelines."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.harness import Fivrec

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "docs" / "recipes"
GITHUB = RECIPES / "github" / "fivrec.yml"
GITLAB = RECIPES / "gitlab" / ".gitlab-ci.yml"
OVERLAYS = sorted((RECIPES / "kubernetes" / "overlays").iterdir())
KUSTOMIZATIONS = sorted((RECIPES / "kubernetes").rglob("kustomization.yaml"))
KUBERNETES = sorted(set((RECIPES / "kubernetes").rglob("*.yaml")) - set(KUSTOMIZATIONS))
PROMETHEUS = RECIPES / "prometheus"
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
UNIT = RECIPES / "systemd" / "fivrec-watch.service"


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ("vendor.github-workflows", GITHUB),
        ("vendor.gitlab-ci", GITLAB),
        ("vendor.github-workflows", ROOT / ".github/workflows/ci.yml"),
        ("vendor.github-workflows", ROOT / ".github/workflows/release.yml"),
        ("vendor.dependabot", ROOT / ".github/dependabot.yml"),
        ("vendor.github-issue-config", ROOT / ".github/ISSUE_TEMPLATE/config.yml"),
        ("vendor.github-issue-forms", ROOT / ".github/ISSUE_TEMPLATE/bug.yml"),
        ("vendor.github-issue-forms", ROOT / ".github/ISSUE_TEMPLATE/idea.yml"),
    ],
    ids=lambda value: value.name if isinstance(value, Path) else "",
)
def test_a_pipeline_fits_the_schema_of_its_format(schema: str, path: Path) -> None:
    words = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="SKIPPED: no shellcheck on this machine")
@pytest.mark.parametrize("path", [GITHUB, GITLAB, *WORKFLOWS], ids=lambda path: path.name)
def test_shellcheck_finds_nothing_in_a_step(path: Path) -> None:
    scripts = list(steps(yaml.safe_load(path.read_text())))
    assert scripts
    for script in scripts:
        # SC2016: jq's $name and markdown's ` are in single quotes on purpose.
        words = ["shellcheck", f"--shell={'sh' if path == GITLAB else 'bash'}", "--exclude=SC2016", "-"]
        done = subprocess.run(words, input=script, capture_output=True, text=True, check=False)
        assert done.stdout == ""


def steps(document: dict[str, Any]) -> Iterator[str]:
    """Yields a pipeline's shell scripts step by step, with a word in place of GitHub's expressions."""
    for job in (document.get("jobs") or document).values():
        if not isinstance(job, dict):
            continue
        for step in job.get("steps", []):
            if "run" in step:
                yield re.sub(r"\$\{\{.*?\}\}", "value", step["run"])
        for key in ("before_script", "script"):
            if key in job:
                yield "\n".join(job[key])


@pytest.mark.parametrize("path", KUBERNETES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_kubernetes_object_is_valid_and_strictly_confined(path: Path) -> None:
    check_objects(path.read_text())


def check_objects(text: str) -> None:
    import kubernetes_validate

    for document in yaml.safe_load_all(text):
        kubernetes_validate.validate(document, "1.31", strict=True)
        spec = pod_spec(document)
        if spec is None:
            continue
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert (spec["serviceAccountName"], spec["automountServiceAccountToken"]) == ("fivrec", False)
        for container in spec["containers"]:
            assert container["env"] == [{"name": "NODE_ENV", "value": "production"}]
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert parses(["fivrec", *container["args"]]), container["args"]


@pytest.mark.parametrize("path", KUSTOMIZATIONS, ids=lambda path: path.parent.name)
def test_a_kustomization_lists_what_stands_beside_it(path: Path) -> None:
    document = yaml.safe_load(path.read_text())
    beside = {item.name for item in path.parent.glob("*.yaml")} - {path.name}
    base = [] if path.parent.name == "base" else ["../../base"]
    assert sorted(document["resources"]) == sorted([*base, *beside])


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="SKIPPED: no kubectl on this machine")
@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_an_overlay_renders_to_valid_objects(overlay: Path) -> None:
    words = ["kubectl", "kustomize", str(overlay)]
    rendered = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    check_objects(rendered)
    images = [line.split()[-1] for line in rendered.splitlines() if line.strip(" -").startswith("image:")]
    assert set(images) == {"registry.example.com/fivrec:0.2.0"}


def pod_spec(document: dict[str, Any]) -> dict[str, Any] | None:
    spec = document.get("spec", {})
    if "jobTemplate" in spec:
        spec = spec["jobTemplate"]["spec"]
    found: dict[str, Any] | None = spec.get("template", {}).get("spec")
    return found


def parses(words: list[str]) -> bool:
    """Whether click accepts the command line; nothing is run."""
    import click

    from reconciler.cli.main import cli

    command: click.Command = cli
    arguments = words[1:]
    context = click.Context(cli, info_name="fivrec")
    while isinstance(command, click.Group):
        found = command.get_command(context, arguments[0])
        assert found is not None, words
        command, arguments = found, arguments[1:]
        context = click.Context(command, info_name=command.name, parent=context)
    command.make_context(command.name, list(arguments), parent=context)
    return True


def test_the_systemd_unit_runs_a_command_that_there_is() -> None:
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(UNIT.read_text())
    assert parses(["fivrec", *shlex.split(unit["Service"]["ExecStart"])[1:]])
    assert unit["Service"]["Type"] == "notify"
    assert UNIT.read_text() in (ROOT / "docs" / "watch.md").read_text()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="SKIPPED: no systemd-analyze on this machine")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    text = UNIT.read_text().replace("/opt/fivrec/bin/fivrec", sys.executable)
    unit = tmp_path / "fivrec-watch.service"
    unit.write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    complaints = [line for line in done.stderr.splitlines() if "fivrec-watch.service" in line and "User" not in line]
    assert complaints == []


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="SKIPPED: no systemd-analyze on this machine")
def test_the_units_exposure_is_at_most_two(tmp_path: Path) -> None:
    unit = tmp_path / "fivrec-watch.service"
    unit.write_text(UNIT.read_text())
    words = ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", str(unit)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert "Overall exposure level" in done.stdout, done.stderr
    assert done.returncode == 0, done.stdout.splitlines()[-1]


def test_the_containerfile_is_pinned_and_not_root() -> None:
    lines = [line for line in (ROOT / "Containerfile").read_text().splitlines() if line and not line.startswith("#")]
    images = [line.split()[1] for line in lines if line.startswith("FROM")]
    assert all(image.rpartition(":")[2][0].isdigit() for image in images)
    copied = [line.split()[1] for line in lines if line.startswith("COPY") and "--from" not in line]
    assert all((ROOT / name).exists() for name in copied if name != "pyproject.toml")
    assert lines.index("USER 10001:10001") < next(i for i, line in enumerate(lines) if line.startswith("ENTRYPOINT"))
    assert parses(["fivrec", *json.loads(lines[-1].removeprefix("CMD "))])


def test_the_hooks_run_what_there_is(bare: Fivrec) -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert [hook["id"] for hook in hooks] == ["fivrec-validate", "fivrec-fmt"]
    bare.write("version: 1\ninstance: a\n", "manifests/a.yaml")
    for hook in hooks:
        ended = bare.run(*shlex.split(hook["entry"])[1:], "manifests/a.yaml")
        assert ended.code == 0, ended.stderr


@pytest.mark.parametrize("words", [("check", "config", "prometheus.yml"), ("test", "rules", "rules_test.yml")])
def test_prometheus_accepts_the_rules_and_they_fire(words: tuple[str, ...]) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("NOT TESTED: promtool is not here (Debian: apt install prometheus)")
    done = subprocess.run(["promtool", *words], cwd=PROMETHEUS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_metric_of_the_rules_and_the_dashboard_exists() -> None:
    from reconciler.watch.metrics import LOOP_GAUGES, InstanceFacts, Metrics
    from reconciler.workers.metrics import GAUGES

    facts = InstanceFacts("a", False, 1.0, 0, 0, "active", "paid", {"queue": 1}, 1.0, frozenset({"backup"}))
    page = Metrics(lambda: dict.fromkeys(LOOP_GAUGES, 0.0), lambda: [facts]).page().decode()
    known = set(re.findall(r"^# TYPE (\w+)", page, re.MULTILINE))
    known |= {f"{name}_bucket" for name in known} | {name for name, _ in GAUGES.values()}
    rules = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"][0]["rules"]
    panels = json.loads((PROMETHEUS / "dashboard.json").read_text())["panels"]
    named = [rule["expr"] for rule in rules] + [one["expr"] for panel in panels for one in panel["targets"]]
    used = set(re.findall(r"fivrec_\w+", " ".join(named)))
    assert len(used) > 15
    assert used - known == set()
