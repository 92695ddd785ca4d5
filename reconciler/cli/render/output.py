"""Write a report to stdout in the format of --output; and to the pipeline that runs fivrec."""

from __future__ import annotations

import os
from importlib import import_module

import click

from reconciler.cli.streams import json_text
from reconciler.model.types import encodable
from reconciler.planning.report import Report, as_json

MACHINE_FORMATS = frozenset({"json", "markdown", "codequality", "junit"})
"""Formats that include errors of the run; text leaves them to stderr."""


def write_report(report: Report, output: str, *, fields: bool) -> None:
    """`output` as for --output, or `explained` for the text of --explain; all but json are modules of this package.
    `fields` shows fields in text; the other formats always do."""
    match output:
        case "json":
            shown = encodable(json_text(as_json(report)))
        case "text":
            from reconciler.cli.render.text import render

            shown = render(report, fields=fields)
        case _:
            shown = import_module(f"reconciler.cli.render.{output}").render(report)
    click.echo(shown)
    publish(report)


def publish(report: Report) -> None:
    """Report to the pipeline too, if it is one of GitHub's."""
    if os.environ.get("GITHUB_ACTIONS") == "true":
        from reconciler.cli.render.github import publish as publish_at_github

        publish_at_github(report, os.environ)
