"""GitLab CI, as far as the recipe uses it: rules, variables scoped to environments, artifacts that later jobs take."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from tests.support.company import git
from tests.support.harness import ROOT
from tests.support.pipeline_host import Event, Host, Ran, Step, evaluate

NAMES = r"\$(\w+)"
SOURCES: dict[Event, str] = {"pull": "merge_request_event", "merge": "push", "night": "schedule", "hand": "web"}
NO_JOBS = ("stages", "variables")


class GitLab(Host):
    recipe = ROOT / "docs/recipes/gitlab/.gitlab-ci.yml"
    programs = ("glab",)

    def run(self, event: Event, commit: str, number: int, *, fork: bool = False) -> Ran:
        ran = Ran()
        values = {
            "CI_PIPELINE_SOURCE": SOURCES[event],
            "CI_COMMIT_SHA": commit,
            "CI_COMMIT_BRANCH": "" if event == "pull" else "main",
            "CI_DEFAULT_BRANCH": "main",
            "CI_PROJECT_ID": "1",
            "CI_PROJECT_PATH": "empresa/clients",
            "CI_PROJECT_URL": str(self.company.desk.folder.parent / "origin"),
            "CI_MERGE_REQUEST_IID": str(number),
            "CI_MERGE_REQUEST_SOURCE_PROJECT_PATH": "stranger/clients" if fork else "empresa/clients",
        }
        kept: dict[str, Path] = {}
        jobs = {name: job for name, job in self.document.items() if name not in NO_JOBS and not name.startswith(".")}
        for stage in self.document["stages"]:
            failed = any(ran.ends.values())
            for name, written in jobs.items():
                job = {**self.document[written["extends"]], **written} if "extends" in written else written
                if job["stage"] == stage and self._wanted(job, values, event, failed=failed):
                    ran.jobs[name] = [self._run_job(name, job, values, kept, fork=fork)]
        return ran

    def _wanted(self, job: dict[str, Any], values: dict[str, str], event: Event, *, failed: bool) -> bool:
        for rule in job["rules"]:
            touched = "changes" not in rule or self.touches(rule["changes"], event, values["CI_COMMIT_SHA"])
            if touched and evaluate(rule["if"], values, NAMES):
                return rule.get("when") == "always" or not failed
        return False

    def _run_job(
        self, name: str, job: dict[str, Any], values: dict[str, str], kept: dict[str, Path], *, fork: bool
    ) -> Step:
        own = job.get("variables", {})
        environment = job.get("environment", "")
        scope = environment if isinstance(environment, str) else environment["name"]
        secrets = self.secrets if scope in ("fivrec-review", "production") and not fork else {}
        token = {"GITLAB_TOKEN": "the-projects-token"} if scope == "fivrec-gitlab" else {}
        folder = self.clone.folder
        if own.get("GIT_STRATEGY") == "none":
            folder = self.folder / f"empty-{name}"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        else:
            git(folder, "reset", "-q", "--hard")
            git(folder, "clean", "-fdxq")
        for needed in job.get("needs", kept):
            found = needed if isinstance(needed, str) else needed["job"]
            if found in kept:
                shutil.copytree(kept[found], folder, dirs_exist_ok=True)
        script = "\n".join([*job["before_script"], *job["script"]])
        shell = ["sh", "-e", "-c"] if job["image"].startswith("alpine") else ["bash", "-e", "-o", "pipefail", "-c"]
        texts = self.document["variables"] | {"ACCEPT": self.accept}
        env = {**texts, **self.variables, **values, **own, **secrets, **token}
        ended = self.shell(name, shell, script, env, folder)
        store = self._keep(name, job, values["CI_COMMIT_SHA"], folder, ended)
        if store is not None:
            kept[name] = store
        return ended

    def _keep(self, name: str, job: dict[str, Any], commit: str, folder: Path, ended: Step) -> Path | None:
        artifacts = job.get("artifacts")
        if artifacts is None or (ended.code and artifacts.get("when") != "always"):
            return None
        store = self.folder / f"artifact-{len(list(self.folder.glob('artifact-*')))}"
        store.mkdir()
        for path in artifacts["paths"]:
            if (folder / path).exists():
                shutil.copy(folder / path, store)
        if not ended.code:  # later pipelines can fetch artifacts of successful ones only
            self.change(artifacts={"name": name, "sha": commit, "folder": str(store)})
        return store
