"""`fivrec render`: the manifests as they would be applied."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.options import OFFLINE, manifest_options, settings_from
from reconciler.cli.streams import json_text

if TYPE_CHECKING:
    from reconciler.manifest.loader import Manifest


@click.command("render", short_help="Print the manifests as they would be applied.")
@manifest_options("yaml", "json", unused=OFFLINE)
def command(**options: Any) -> None:
    """Print each instance's manifest with defaults, CSV rows, overrides and templates filled in. Offline.

    References stay in place of secrets: none is resolved, no connection is made. The output is itself a manifest.

    Example: fivrec render manifests/fleet.yaml --limit client-a
    """
    from reconciler.cli.runtime import bounds_of, load
    from reconciler.manifest.bounds import check_bounds
    from reconciler.model.errors import ManifestError

    settings = settings_from(options)
    manifests = load(settings)
    if problems := tuple(check_bounds(manifests, bounds_of(settings))):
        raise ManifestError(problems)
    if settings.output == "json":
        _write_json(manifests)
    else:
        _write_yaml(manifests)


def _write_yaml(manifests: tuple[Manifest, ...]) -> None:
    from reconciler.manifest.yaml_writer import as_yaml
    from reconciler.model.names import printable

    for index, manifest in enumerate(manifests):
        origin = manifest.origin
        source = " ".join(filter(None, (f"{origin.path}:{origin.line}", origin.row)))
        click.echo(("---\n" if index else "") + f"# {printable(source)}\n" + as_yaml(rendered(manifest)), nl=False)


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


def rendered(manifest: Manifest) -> dict[str, Any]:
    """The document as a manifest: an environment whose variable is not set stays a reference to it."""
    from reconciler.model.kinds.base import literal

    document = {key: value for key, value in manifest.document.items() if key != "environment_unsaid"}
    environment = dict(document["environment"])
    default = {"default": environment["name"]} if "environment_unsaid" in manifest.document else {}
    if default or manifest.unset is not None:
        environment["name"] = {"env": manifest.environment_variable, **default}
    result: dict[str, Any] = literal({**document, "environment": environment})
    return result
