"""Recording stand-ins for `gh` and `glab`; scripts of these names in PATH run `python hosted_programs.py gh …`.

hosted.json in the folder named by HOSTED is what the host knows: pull requests, comments, stored artifacts. Each call
is recorded there, with the names of the secrets that its process could read.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

SECRETS = ("DATABASE_URL", "FIV_APP_API_KEY", "FIV_ADMIN_PASSWORD", "FIVREC_ENCRYPTION_KEY")
OPTIONS = (
    *("--jq", "--method", "-F", "--field", "--repo", "--name", "--dir", "--head", "--base", "--state", "--json"),
    *("--title", "--body", "--source-branch", "--target-branch", "--description", "--output"),
)
BOT = "github-actions[bot]"


def main(program: str, words: list[str]) -> int:
    store = Path(os.environ["HOSTED"]) / "hosted.json"
    state = json.loads(store.read_text())
    options, rest = parse(words)
    state["calls"].append({"words": [program, *words], "secrets": [name for name in SECRETS if os.environ.get(name)]})
    try:
        answer = (github if program == "gh" else gitlab)(state, rest, options)
    except LookupError as exc:
        sys.stderr.write(f"{program}: {exc} (HTTP 404)\n")
        return 1
    finally:
        store.write_text(json.dumps(state))
    if answer is not None and "--silent" not in rest:
        sys.stdout.write(filtered(answer, options.get("--jq")))
    return 0


def parse(words: list[str]) -> tuple[dict[str, str], list[str]]:
    options, rest, left = {}, [], iter(words)
    for word in left:
        if word in OPTIONS:
            options[word] = next(left)
        else:
            rest.append(word)
    return options, rest


def filtered(answer: Any, query: str | None) -> str:
    if query is None:
        return json.dumps(answer)
    words = ["jq", "-r", query]
    return subprocess.run(words, input=json.dumps(answer), capture_output=True, text=True, check=True).stdout


def body(options: dict[str, str]) -> str:
    name, _, path = (options.get("-F") or options["--field"]).partition("=@")
    assert name == "body"
    return Path(path).read_text(encoding="utf-8")


def github(state: dict[str, Any], words: list[str], options: dict[str, str]) -> Any:
    match words:
        case ["auth", "setup-git"]:
            return None
        case ["pr", "list"]:
            return [{"number": item["number"]} for item in state["proposed"] if item["head"] == options["--head"]]
        case ["pr", "create"]:
            state["proposed"].append(
                {"number": len(state["proposed"]) + 1, "head": options["--head"], "base": options["--base"]}
            )
            return None
        case ["run", "download", run]:
            (found,) = [
                item for item in state["artifacts"] if str(item["run"]) == run and item["name"] == options["--name"]
            ]
            shutil.copytree(found["folder"], options["--dir"], dirs_exist_ok=True)
            return None
        case ["api", *_, path] if not path.startswith("-"):
            return github_api(state, path, options)
        case ["api", path, "--silent"]:
            return github_api(state, path, options)
    raise LookupError(words)


def github_api(state: dict[str, Any], path: str, options: dict[str, str]) -> Any:
    match path.removeprefix("repos/empresa/clients/").split("/"):
        case ["issues", number, "comments"]:
            return comments(state, int(number), options, {"user": {"login": BOT}})
        case ["issues", "comments", number] if options["--method"] == "PATCH":
            return replaced(state, int(number), options)
        case ["commits", "main"]:
            return {"sha": state["main"]}
        case ["commits", commit, "pulls"]:
            return [
                {"merged_at": "2026-11-26T12:00:00Z", "merge_commit_sha": item["merged"], "head": {"sha": item["sha"]}}
                for item in state["pulls"]
                if item["merged"] == commit
            ]
        case ["actions", listed]:
            name = listed.removeprefix("artifacts?name=")
            return {"artifacts": [github_artifact(item) for item in state["artifacts"] if item["name"] == name]}
    raise LookupError(path)


def github_artifact(item: dict[str, Any]) -> dict[str, Any]:
    run = {"id": item["run"], "repository_id": 1, "head_repository_id": 2 if item.get("fork") else 1}
    return {"expired": False, "created_at": f"2026-11-26T12:{item['run']:02}:00Z", "workflow_run": run}


def comments(state: dict[str, Any], number: int, options: dict[str, str], author: dict[str, Any]) -> Any:
    if options.get("--method") != "POST":
        return [item for item in state["comments"] if item["number"] == number]
    made = {"id": len(state["comments"]) + 1, "number": number, "body": body(options), **author}
    state["comments"].append(made)
    return made


def replaced(state: dict[str, Any], number: int, options: dict[str, str]) -> Any:
    (found,) = [item for item in state["comments"] if item["id"] == number]
    found["body"] = body(options)
    return found


def gitlab(state: dict[str, Any], words: list[str], options: dict[str, str]) -> Any:
    match words:
        case ["api", "user"]:
            return {"id": 7}
        case ["api", *_, path]:
            return gitlab_api(state, path.partition("?")[0].removeprefix("projects/1/").split("/"), options)
        case ["job", "artifact", ref, job]:
            pulls = {f"refs/merge-requests/{item['number']}/head": item["sha"] for item in state["pulls"]}
            found = [item for item in state["artifacts"] if (item["name"], item["sha"]) == (job, pulls[ref])]
            if not found:
                raise LookupError(ref)
            shutil.copytree(found[-1]["folder"], ".", dirs_exist_ok=True)
            return None
        case ["mr", "list"]:
            return [item for item in state["proposed"] if item["head"] == options["--source-branch"]]
        case ["mr", "create", *_]:
            state["proposed"].append(
                {
                    "number": len(state["proposed"]) + 1,
                    "head": options["--source-branch"],
                    "base": options["--target-branch"],
                }
            )
            return None
    raise LookupError(words)


def gitlab_api(state: dict[str, Any], path: list[str], options: dict[str, str]) -> Any:
    match path:
        case ["merge_requests", number, "notes"]:
            return comments(state, int(number), options, {"author": {"id": 7}})
        case ["merge_requests", _, "notes", number] if options["--method"] == "PUT":
            return replaced(state, int(number), options)
        case ["repository", "commits", commit, "merge_requests"]:
            return [
                {
                    "iid": item["number"],
                    "state": "merged",
                    "merge_commit_sha": item["merged"],
                    "squash_commit_sha": None,
                    "sha": item["sha"],
                }
                for item in state["pulls"]
                if item["merged"] == commit
            ]
    raise LookupError(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
