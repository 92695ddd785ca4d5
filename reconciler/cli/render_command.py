"""`fivrec render`: the manifests as they would be applied."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.options import OFFLINE, manifest_options, settings_from
from reconciler.cli.streams import json_text
from reconciler.model.errors import ManifestError, MissingSetting

if TYPE_CHECKING:
    from reconciler.manifest.loader import Manifest

MOST_NAMED = 3


@click.command("render")
@manifest_options("yaml", "json", unused=OFFLINE)
def command(**options: Any) -> None:
    """Print each instance's manifest with defaults, CSV rows, overrides and templates filled in. Offline.

    References stay in place of secrets: none is resolved, no connection is made. The output is itself a manifest: the
    paths of {file: …} references are relative to the working directory; those of plug-ins' references stay as they are.

    Example: fivrec render manifests/fleet.yaml --limit client-a
    """
    from reconciler.cli.runtime import bounds_of, load, open_log
    from reconciler.manifest.bounds import check_bounds
    from reconciler.model.names import first_of

    settings = settings_from(options)
    manifests = load(settings)
    if problems := tuple(check_bounds(manifests, bounds_of(settings))):
        raise ManifestError(problems)
    if guessed := [one.instance for one in manifests if "environment_read" in one.document]:
        raise MissingSetting(
            f"{first_of(guessed, MOST_NAMED)}: templates read the environment, which a run asks for: render is offline",
            hint="name the environment by {env: …}, which render reads",
        )
    if settings.output == "json":
        _write_json(manifests)
    else:
        away = _write_yaml(manifests)
        if away:
            names = first_of(away, MOST_NAMED)
            words = (
                f"⚠️ {names}: files of {{file: …}} are not below this folder: apply the output in the manifest's folder"
            )
            open_log(settings).warning("render", words)


def _write_yaml(manifests: tuple[Manifest, ...]) -> list[str]:
    """Returns the instances whose files can't be named relative to the working directory."""
    from reconciler.manifest.yaml_writer import as_yaml
    from reconciler.model.names import printable

    away: list[str] = []
    for index, manifest in enumerate(manifests):
        here = _from_here(manifest.folder)
        if here is None and _name_files(whole := rendered(manifest), "x") != whole:
            away.append(manifest.instance)
        origin = manifest.origin
        source = " ".join(filter(None, (f"{origin.path}:{origin.line}", origin.row)))
        text = as_yaml(rendered(manifest, here))
        click.echo(("---\n" if index else "") + f"# {printable(source)}\n" + text, nl=False)
    return away


def _from_here(folder: Path) -> str | None:
    """A manifest's folder relative to the working directory; None if it is not below it."""
    found = os.path.relpath(os.path.realpath(folder))
    return None if found.split("/")[0] == ".." else found


def _name_files(value: Any, folder: str, path: str = "") -> Any:
    """The document with the path of each referenced file prefixed by `folder`."""
    from reconciler.manifest.fleet_document import REFERENCE_PATHS
    from reconciler.model.json_pointer import escape

    if not isinstance(value, Mapping):
        return value
    if isinstance(file := value.get("file"), str) and REFERENCE_PATHS.fullmatch(path):
        return {**value, "file": str(PurePath(folder, file))}
    if path.startswith("config/settings/") and len(value) > 1:
        return value  # not a secret, but a value that looks like one
    return {key: _name_files(item, folder, f"{path}/{escape(key)}".lstrip("/")) for key, item in value.items()}


def _write_json(manifests: tuple[Manifest, ...]) -> None:
    from reconciler.model.types import encodable

    instances = [
        {
            "instance": manifest.instance,
            "path": manifest.origin.path,
            "line": manifest.origin.line,
            "row": manifest.origin.row,
            "manifest": rendered(manifest),
        }
        for manifest in manifests
    ]
    document = {"version": 1, "command": "render", "instances": instances}
    click.echo(encodable(json_text(document)))


def rendered(manifest: Manifest, folder: str | None = None) -> dict[str, Any]:
    """The document as a manifest: an environment whose variable is not set, or whose name comes from another source,
    stays a reference. With a folder, its files are named relative to that."""
    from reconciler.model.kinds.base import literal

    own = ("environment_unsaid", "environment_from", "environment_read")
    document = {key: value for key, value in manifest.document.items() if key not in own}
    environment = dict(document["environment"])
    default = {"default": environment["name"]} if "environment_unsaid" in manifest.document else {}
    if "environment_from" in manifest.document:
        environment["name"] = manifest.document["environment_from"]
    elif default or manifest.unset is not None:
        environment["name"] = {"env": manifest.environment_variable, **default}
    document = {**document, "environment": environment}
    result: dict[str, Any] = literal(document if folder in (None, ".") else _name_files(document, folder))
    return result
