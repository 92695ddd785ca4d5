"""What a release contains besides the code: fivrec.txt is complete and has hashes; the version is in one place only."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

from reconciler import __version__
from tests.support.harness import ROOT

EXTRAS = ("api", "fleet", "notify", "oidc", "vault")
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")


def wheel(folder: Path) -> Path:
    """Returns a wheel with the metadata of this checkout, and nothing else."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needs = [f"Requires-Dist: {item}" for item in project["dependencies"]]
    for extra in (*EXTRAS, "lint"):
        needs += [f'Requires-Dist: {item}; extra == "{extra}"' for item in project["optional-dependencies"][extra]]
    path = folder / f"fivrec-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"fivrec-{__version__}.dist-info/METADATA", "\n".join(["Name: fivrec", *needs, ""]))
    return path


def blocks(text: str) -> dict[str, str]:
    """Returns each package's lines: the pin and its hashes."""
    found = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
    return {re.split(r"==|\[", block)[0]: block for block in found}


def test_a_release_pins_what_runs_by_the_hashes_of_the_lock(tmp_path: Path) -> None:
    words = [sys.executable, str(ROOT / ".ci/release-requirements"), str(wheel(tmp_path))]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    first, *rest = blocks(said).items()
    assert first[1].startswith(
        f"fivrec[{','.join(EXTRAS)}] @ ${{FIVREC_RELEASE}}/fivrec-{__version__}-py3-none-any.whl \\\n    --hash=sha256:"
    )
    locked = blocks(LOCK)
    assert dict(rest) == {name: locked[name] for name, _ in rest}
    names = {name for name, _ in rest}
    direct = {"click", "pyyaml", "jinja2", "psycopg-binary", "starlette", "procrastinate", "hvac", "apprise", "authlib"}
    assert direct | {"httpcore", "markupsafe", "requests", "cffi"} <= names
    assert names.isdisjoint({"pytest", "ruff", "mypy", "playwright", "mkdocs"})


def test_a_release_installs_without_a_network_as_the_page_says(tmp_path: Path) -> None:
    release, name = tmp_path / "release", f"fivrec-{__version__}"
    release.mkdir()
    path = release / f"{name}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: fivrec\nVersion: {__version__}\n")
        archive.writestr(f"{name}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{name}.dist-info/RECORD", "")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    wanted = f"fivrec @ ${{FIVREC_RELEASE}}/{path.name} --hash=sha256:{digest}\n"
    (tmp_path / "fivrec.txt").write_text(wanted, encoding="utf-8")
    page = (ROOT / "docs/recipes/README.md").read_text(encoding="utf-8")
    (block,) = (text for text in re.findall(r"```text\n(.*?)```", page, re.DOTALL) if "pip download" in text)
    download, *rest = block.splitlines()
    script = "\n".join(["set -e", download, "rm -r release", *rest])
    script = script.replace("pip install", f"{sys.executable} -m pip install --target there")
    script = script.replace("pip download", f"{sys.executable} -m pip download")
    env = {**os.environ, "FIVREC_RELEASE": release.as_uri(), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    subprocess.run(["bash", "-c", script], cwd=tmp_path, env=env, capture_output=True, check=True)
    assert (tmp_path / f"there/{name}.dist-info").is_dir()


def test_nothing_installs_a_bare_name_from_an_index() -> None:
    """Anybody may own `fivrec` there: docs, pipelines and hints install a release's file, or a checkout."""
    paths = [ROOT / "README.md", ROOT / "Containerfile"]
    for folder, kinds in (("docs", ("*.md", "*.yml")), ("reconciler", ("*.py",)), (".github", ("*.yml",))):
        paths += [path for kind in kinds for path in (ROOT / folder).rglob(kind)]
    bare = re.compile(r"""pip3? (?:install|download)(?: -\S+)* ["']?fivrec(?!\.txt)""")
    named = [path for path in paths if bare.search(path.read_text(encoding="utf-8"))]
    assert {path.parent.name for path in named} == {"decisions"}  # which explain why not


def test_the_container_has_the_extras_of_a_release() -> None:
    assert f"'fivrec[{','.join(EXTRAS)}]'" in (ROOT / "Containerfile").read_text(encoding="utf-8")


def test_the_container_installs_nothing_without_a_hash() -> None:
    steps = re.findall(r"pip (?:install|wheel|download) [^\\\n]+", (ROOT / "Containerfile").read_text(encoding="utf-8"))
    assert [("--require-hashes" in step or "--no-index" in step) for step in steps] == [True] * 4


def test_the_containers_check_is_for_what_listens_there(tmp_path: Path) -> None:
    """A container that runs another command than a watch, or whose watch ended, is not unhealthy for that."""
    (words,) = re.findall(r"^HEALTHCHECK .*\\\n +(\[.+\])$", (ROOT / "Containerfile").read_text(), re.MULTILINE)
    assert words in (ROOT / "docs/watch.md").read_text(encoding="utf-8")
    python, *script = json.loads(words)
    assert python == "python"

    def check(port: int, seconds: int = 4) -> int:
        own = [word.replace("9464", str(port)).replace("), 4)", f"), {seconds})") for word in script]
        return subprocess.run([sys.executable, *own], capture_output=True, check=False, timeout=60).returncode

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert check(port, 1) == 1  # accepts, but never responds

        def answer(head: bytes) -> int:
            def serve() -> None:
                connection, _ = server.accept()
                with connection:
                    connection.recv(999)
                    connection.sendall(head + b"\r\n\r\n")

            thread = threading.Thread(target=serve)
            thread.start()
            code = check(port)
            thread.join()
            return code

        server.accept()[0].close()  # the one that got no response
        assert [answer(b"HTTP/1.1 200 OK"), answer(b"HTTP/1.1 503 Service Unavailable")] == [0, 1]
    assert check(port) == 0


def test_the_lock_names_no_index_and_has_a_hash_for_each_package() -> None:
    assert re.findall(r"https?://\S+|--(?:extra-)?index-url", LOCK) == []
    assert [name for name, block in blocks(LOCK).items() if "--hash=sha256:" not in block] == []


def test_the_changelog_begins_with_this_version() -> None:
    titles = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert titles[:2] == ["Unreleased", __version__]


def test_actions_are_pinned_by_commits() -> None:
    paths = [*(ROOT / ".github/workflows").glob("*.yml"), ROOT / "docs/recipes/github/fivrec.yml"]
    used = {line.split("uses: ")[1] for path in paths for line in path.read_text().splitlines() if "uses: " in line}
    assert [text for text in used if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", text)] == []


def test_a_release_has_the_urls_of_its_repository(tmp_path: Path) -> None:
    """Runs the line of release.yml on the current pyproject.toml."""
    workflow = (ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8")
    (line,) = re.findall(r"^ *(sed -i .* pyproject\.toml)$", workflow, re.MULTILINE)
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    there = {"GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "acme/fivrec", "PATH": os.defpath}
    subprocess.run(["bash", "-euc", line], cwd=tmp_path, env=there, check=True)
    urls = tomllib.loads((tmp_path / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
    assert urls == {
        "Homepage": "https://github.com/acme/fivrec",
        "Documentation": "https://github.com/acme/fivrec/blob/main/docs/index.md",
        "Changelog": "https://github.com/acme/fivrec/blob/main/CHANGELOG.md",
        "Issues": "https://github.com/acme/fivrec/issues",
    }


def test_what_may_publish_a_release_runs_no_code_of_others() -> None:
    """Otherwise a dependency of tests or builds could sign anything, and put it into the release."""
    workflow = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    jobs = workflow["jobs"]
    may_write = {
        name: sorted(r for r, level in job.get("permissions", {}).items() if level == "write")
        for name, job in jobs.items()
    }
    assert {name: rights for name, rights in may_write.items() if rights} == {
        "publish": ["attestations", "contents", "id-token"],
        "image": ["packages"],
    }
    runs = [step["run"].split()[0] for name in ("publish", "image") for step in jobs[name]["steps"] if "run" in step]
    assert runs == ["gh", "echo"]
    assert jobs["publish"]["needs"] == ["test", "build"]


@pytest.mark.parametrize(("tag", "code"), [(f"v{__version__}", 0), ("v9.9.9", 1)])
def test_a_release_needs_notes_in_the_changelog(tmp_path: Path, tag: str, code: int) -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8"))
    (step,) = [step for step in workflow["jobs"]["build"]["steps"] if step.get("name") == "Notes from the changelog"]
    (tmp_path / "CHANGELOG.md").write_bytes((ROOT / "CHANGELOG.md").read_bytes())
    words = ["bash", "-euc", step["run"]]
    done = subprocess.run(words, cwd=tmp_path, env={"TAG": tag, "PATH": os.defpath}, check=False)
    notes = (tmp_path / "notes.md").read_text(encoding="utf-8")
    assert (done.returncode, "### Upgrading from 0.1" in notes, "## [" in notes) == (code, code == 0, False)
