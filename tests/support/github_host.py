"""GitHub Actions, as far as the recipe uses it: conditions, secrets at the steps that name them, artifacts."""

from __future__ import annotations

import re
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

from tests.support.harness import ROOT
from tests.support.pipeline_host import Event, Host, Ran, Step, evaluate

NAMES = r"(?<!')\b(?:github|secrets|needs|steps|runner|inputs)\.[\w.]+"
EVENTS: dict[Event, str] = {
    "pull": "pull_request",
    "queue": "merge_group",
    "merge": "push",
    "night": "schedule",
    "hand": "workflow_dispatch",
}


class GitHub(Host):
    recipe = ROOT / "docs/recipes/github/fivrec.yml"
    programs = ("gh",)

    def run(self, event: Event, commit: str, number: int, *, fork: bool = False, attempt: int = 1) -> Ran:
        ran = Ran()
        filters = (
            (self.document[True][EVENTS[event]] or {}) if event in ("pull", "merge") else {}
        )  # YAML reads the key `on` as true
        if "paths" in filters and not self.touches(filters["paths"], event, commit):
            return ran
        self.runs = getattr(self, "runs", 0) + 1
        values: dict[str, Any] = defaultdict(str) | {
            "github.event_name": EVENTS[event],
            "github.run_attempt": attempt,
            "github.ref": f"refs/pull/{number}/merge" if event == "pull" else "refs/heads/main",
            "github.sha": commit,
            "github.repository": "empresa/clients",
            "github.token": "the-jobs-token",
            "github.event.pull_request.number": "" if event == "queue" else number,
            "github.event.pull_request.head.sha": commit,
            "github.event.pull_request.head.repo.full_name": "stranger/clients" if fork else "empresa/clients",
        }
        values["inputs.accept"] = self.accept if event == "hand" else ""
        values |= {f"secrets.{name}": "" if fork else text for name, text in self.secrets.items()}
        for name, job in self.document["jobs"].items():
            if self._wanted(job, values, ran):
                ran.jobs[name] = self._run_job(job, dict(values), ran)
        return ran

    def _wanted(self, job: dict[str, Any], values: dict[str, Any], ran: Ran) -> bool:
        if "needs" in job:
            ended = ran.ends.get(job["needs"])
            values[f"needs.{job['needs']}.result"] = "skipped" if ended is None else "failure" if ended else "success"
        return bool(self._condition(job["if"], values, failed=False))

    def _condition(self, text: str, values: dict[str, Any], *, failed: bool) -> Any:
        expression = re.sub(r"^\$\{\{(.*)\}\}$", r"\1", text.strip())
        functions = {"cancelled": lambda: False, "failure": lambda: failed, "success": lambda: not failed, "true": True}
        whole = evaluate(expression, defaultdict(str, {**values, **functions}), NAMES)
        return whole and (not failed or "cancelled()" in text or "failure()" in text)

    def _filled(self, text: object, values: dict[str, Any]) -> str:
        return re.sub(r"\$\{\{ (.*?) \}\}", lambda found: str(evaluate(found[1], values, NAMES)), str(text))

    def _run_job(self, job: dict[str, Any], values: dict[str, Any], ran: Ran) -> list[Step]:
        temp = self.folder / "runner-temp"
        shutil.rmtree(temp, ignore_errors=True)
        temp.mkdir()
        values |= defaultdict(
            str, {"runner.temp": str(temp), "steps.look.outputs.pulled": "", "secrets.FIVREC_PR_TOKEN": ""}
        )
        done: list[Step] = []
        for step in job["steps"]:
            failed = any(item.code for item in done)
            if not self._condition(step.get("if", "true"), values, failed=failed):
                continue
            if "run" in step:
                done.append(self._run_step(job, step, values, temp))
            elif step["uses"].startswith("actions/upload-artifact@"):
                done.append(self._upload(step["with"], values))
        return done

    def _run_step(self, job: dict[str, Any], step: dict[str, Any], values: dict[str, Any], temp: Path) -> Step:
        texts = {**self.document["env"], **self.variables, **job.get("env", {}), **step.get("env", {})}
        env = {name: self._filled(text, values) for name, text in texts.items()}
        files = {name: temp / name.lower() for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
        for path in files.values():
            path.write_text("")
        env |= {"RUNNER_TEMP": str(temp), "GITHUB_ACTIONS": "true", **{name: str(path) for name, path in files.items()}}
        ended = self.shell(step["name"], ["bash", "-e", "-c"], step["run"], env, self.clone.folder)
        for line in files["GITHUB_OUTPUT"].read_text().splitlines():
            name, _, text = line.partition("=")
            values[f"steps.{step['id']}.outputs.{name}"] = text
        return ended

    def _upload(self, words: dict[str, Any], values: dict[str, Any]) -> Step:
        name, path = self._filled(words["name"], values), Path(self._filled(words["path"], values))
        if not path.exists():
            return Step("upload", 1, f"no file {path}", (), "")
        folder = self.folder / f"artifact-{self.runs}"
        folder.mkdir()
        shutil.copy(path, folder)
        self.change(artifacts={"name": name, "run": self.runs, "folder": str(folder)})
        return Step("upload", 0, "", (), "")
