"""A host that runs pipelines: what GitHub Actions and GitLab CI have in common. Jobs run in a company's clone."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal

import yaml

from tests.support import hosted_programs
from tests.support.company import Company
from tests.support.harness import ROOT

Event = Literal["pull", "queue", "merge", "night", "hand"]
SECRETS = hosted_programs.SECRETS


@dataclass(slots=True)
class Step:
    """One shell run: its name, exit code and output, and the secrets given to it."""

    name: str
    code: int
    output: str
    secrets: tuple[str, ...]
    script: str


@dataclass(slots=True)
class Ran:
    """The jobs of a pipeline that ran, in order."""

    jobs: dict[str, list[Step]] = field(default_factory=dict)

    @property
    def ends(self) -> dict[str, int]:
        """Each job's exit code: that of its first failed step, or 0."""
        return {name: next((step.code for step in steps if step.code), 0) for name, steps in self.jobs.items()}

    @property
    def output(self) -> str:
        return "".join(step.output for steps in self.jobs.values() for step in steps)


class Host(ABC):
    """Pull requests of a company, and the pipeline described by its recipe.

    `variables` are what a company sets in its copy of the recipe, `secrets` what it keeps at the host; `extra` is
    specific to the tests' runners, such as the CA of their Connect.
    """

    recipe: Path
    programs: tuple[str, ...]

    def __init__(self, company: Company, folder: Path) -> None:
        self.company = company
        self.folder = folder
        self.clone = company.pipeline.clone
        self.document: dict[str, Any] = yaml.safe_load(self.recipe.read_text(encoding="utf-8"))
        env = company.pipeline.fivrec.env
        key = "key-of-the-whole-company"
        self.secrets = {
            "DATABASE_URL": company.database_url().replace("{{ instance }}", "unused"),
            "FIV_APP_API_KEY": key,
            "FIV_ADMIN_PASSWORD": env["FIV_ADMIN_PASSWORD"],
            "FIVREC_ENCRYPTION_KEY": env["FIVREC_ENCRYPTION_KEY"],
        }
        self.accept = ""  # the input of a run started by hand
        self.variables = {
            "FIV_APP_API_URL": env["FIV_APP_API_URL"],
            "FIVREC_ALLOW_CONNECT": "127.0.0.1,localhost",
            "FIVREC_ALLOW_DATABASE": "127.0.0.1,localhost",
        }
        kept = ("PGPASSWORD", "SSL_CERT_FILE", "FIVREC_APPLY_SECRETS_DIR", "FIVREC_DIFF_SECRETS_DIR")
        self.extra = {name: env[name] for name in kept}
        for command in ("DRIFT", "PULL", "VALIDATE"):
            self.extra[f"FIVREC_{command}_SECRETS_DIR"] = env["FIVREC_DIFF_SECRETS_DIR"]
        self._make_programs()
        self._write({"calls": [], "comments": [], "artifacts": [], "pulls": [], "proposed": []})

    def _make_programs(self) -> None:
        (self.folder / "bin").mkdir(parents=True)
        fake = f"{shlex.quote(sys.executable)} {shlex.quote(hosted_programs.__file__)}"
        self._program("fivrec", f'exec {shlex.quote(sys.executable)} -m reconciler "$@"')
        self._program("pip", 'echo "pip $*"')
        self._program("apk", 'echo "apk $*"')
        for name in self.programs:
            self._program(name, f'exec {fake} {name} "$@"')

    def _program(self, name: str, line: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(f"#!/bin/sh\n{line}\n")
        path.chmod(0o755)

    def break_install(self, *, broken: bool) -> None:
        self._program("pip", 'echo "no such release" >&2; exit 1' if broken else 'echo "pip $*"')

    @property
    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "hosted.json").read_text())
        return found

    def _write(self, state: dict[str, Any]) -> None:
        (self.folder / "hosted.json").write_text(json.dumps(state))

    def change(self, **added: Any) -> None:
        """Append one entry to each list named."""
        state = self.state
        for name, item in added.items():
            state[name].append(item)
        self._write(state)

    def pull(self, branch: str, *, number: int, fork: bool = False) -> Ran:
        """Run the pipeline of a pull request that was opened or has a new head."""
        commit = self.clone_at(branch)
        state = self.state
        state["pulls"] = [item for item in state["pulls"] if item["number"] != number]
        state["pulls"].append({"number": number, "sha": commit, "merged": ""})
        self._write(state)
        return self.run("pull", commit, number, fork=fork)

    def merge(self, branch: str) -> Ran:
        """Merge the branch, and run main's pipeline."""
        head = self.clone_at(branch)
        commit = self.company.desk.merge(branch)
        state = {**self.state, "main": commit}
        for item in state["pulls"]:
            if item["sha"] == head:
                item["merged"] = commit
        self._write(state)
        self.clone_at("main")
        return self.run("merge", commit, 0)

    def on_main(self, event: Event) -> Ran:
        commit = self.clone_at("main")
        self._write({**self.state, "main": commit})
        return self.run(event, commit, 0)

    def touches(self, patterns: list[str], event: Event, commit: str) -> bool:
        """Whether a pull request or a merge changes one of these files; always True for nightly and manual runs."""
        if event in ("night", "hand"):
            return True
        span = f"origin/main...{commit}" if event == "pull" else f"{commit}^1..{commit}"
        names = self.clone.git("diff", "--name-only", span).splitlines()
        return any(fnmatch(name, pattern.replace("**/*", "**")) for pattern in patterns for name in names)

    def clone_at(self, branch: str) -> str:
        self.clone.git("reset", "-q", "--hard")
        self.clone.git("clean", "-fdxq")
        return self.company.pipeline.checkout(branch)

    @abstractmethod
    def run(self, event: Event, commit: str, number: int, *, fork: bool = False) -> Ran: ...

    def shell(self, name: str, words: list[str], script: str, env: Mapping[str, str], folder: Path) -> Step:
        base = {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "PYTHONPATH": str(ROOT),
            "LANG": "C.UTF-8",
            "HOSTED": str(self.folder),
            "GIT_CONFIG_NOSYSTEM": "1",
        }
        done = subprocess.run(
            [*words, script],
            cwd=folder,
            env={**base, **self.extra, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        given = tuple(secret for secret in SECRETS if env.get(secret))
        return Step(name, done.returncode, done.stdout, given, script)


def evaluate(expression: str, values: Mapping[str, Any], names: str) -> Any:
    """Evaluate an expression of the host. `names` is the pattern of its variables, all of which must be in `values`."""
    text = re.sub(names, lambda found: repr(values[found[1] if found.re.groups else found[0]]), expression)
    text = re.sub(r"!(?!=)", " not ", text.replace("&&", " and ").replace("||", " or "))
    return eval(text, {"__builtins__": {}}, dict(values))
