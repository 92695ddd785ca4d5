"""Write a report to stdout in the format of --output; and to the pipeline that runs fivrec."""

from __future__ import annotations

import os

import click

from reconciler.cli.streams import json_text
from reconciler.model.types import encodable
from reconciler.planning.report import Report, as_json

MACHINE_FORMATS = frozenset({"json", "markdown", "codequality", "junit"})
"""Formats that include errors of the run; text leaves them to stderr."""


def write_report(report: Report, output: str, *, fields: bool) -> None:
    """`output` as for --output, or `explained` for the text of --explain. `fields` shows fields in text; the other
    formats always do."""
    match output:
        case "json":
            click.echo(encodable(json_text(as_json(report))))
        case "markdown":
            from reconciler.cli.render.markdown import render as render_markdown

            click.echo(render_markdown(report))
        case "codequality":
            from reconciler.cli.render.codequality import render as render_codequality

            click.echo(render_codequality(report))
        case "junit":
            from reconciler.cli.render.junit import render as render_junit

            click.echo(render_junit(report))
        case "explained":
            from reconciler.cli.render.explained import render as render_explained

            click.echo(render_explained(report))
        case _:
            from reconciler.cli.render.text import render as render_text

            click.echo(render_text(report, fields=fields))
    publish(report)


def publish(report: Report) -> None:
    """Report to the pipeline too, if it is one of GitHub's."""
    if os.environ.get("GITHUB_ACTIONS") == "true":
        from reconciler.cli.render.github import publish as publish_at_github

        publish_at_github(report, os.environ)
