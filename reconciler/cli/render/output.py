"""A report in the form that --output names, on stdout."""

from __future__ import annotations

import json

import click

from reconciler.core.report import Report, as_json


def write_report(report: Report, output: str, *, fields: bool) -> None:
    """text, json or markdown. `fields` shows fields in text; the other forms always have them."""
    match output:
        case "json":
            click.echo(json.dumps(as_json(report), ensure_ascii=False, indent=2))
        case "markdown":
            from reconciler.cli.render.markdown import render as render_markdown

            click.echo(render_markdown(report))
        case _:
            from reconciler.cli.render.text import render as render_text

            click.echo(render_text(report, fields=fields))
