"""`fivrec docs`: the pages that hints and errors name, as they came with this version. No network is needed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click

from reconciler.model.errors import UsageError


@click.command("docs")
@click.argument("page", metavar="[PAGE|PAGE#SECTION|CODE]", required=False)
def command(page: str | None) -> None:
    """Print a page of the docs that came with this version, PAGE#SECTION as hints and errors name it, or what a
    CODE of an error means; without any, the names of the pages, and where the others are.

    \b
    Example:
      fivrec docs database_missing
      fivrec docs keys#if-a-key-is-lost
    """
    pages = _pages()
    if page is None:
        click.echo("\n".join((*pages, *filter(None, (_address(),)))))
        return
    name, _, anchor = page.partition("#")
    name = name.removeprefix("docs/").removesuffix(".md")
    if name not in pages and not anchor:
        name, anchor = "errors", name
    text = pages[name].read_text(encoding="utf-8") if name in pages else ""
    found = "\n".join(_section(text.splitlines(), anchor)) if anchor else text.rstrip("\n")
    if not found:
        raise UsageError(
            f'there is no page, section or error code "{page[:60]}" here', hint="fivrec docs has the pages"
        )
    click.echo(found)


def _pages() -> dict[str, Path]:
    """Names as they are typed, and where the pages stand: those of operating, not those in Portuguese."""
    from reconciler.support.package_files import resource_path

    root = resource_path("docs")
    found = (path for path in root.rglob("*.md") if not path.name.endswith(".pt-BR.md"))
    return dict(sorted((str(path.relative_to(root).with_suffix("").as_posix()), path) for path in found))


def _section(lines: list[str], anchor: str) -> Iterator[str]:
    """The row of a table with that anchor, a cell a line; or a heading and what is below it."""
    level, fenced = 0, False
    head: list[str] = []
    for line in lines:
        fenced ^= line.lstrip().startswith("```")
        heading = None if fenced else re.match("(#+) +(.*)", line)
        if heading and level and len(heading[1]) <= level:
            return
        if heading and not level and anchor == re.sub(r"[^\w\- ]", "", heading[2].lower()).replace(" ", "-"):
            level = len(heading[1])
        if level:
            yield line
        cells = re.split(r" *(?<!\\)\| *", re.sub("<a id=.*?></a>", "", line.strip("| ")))
        if f'<a id="{anchor}"></a>' in line:
            yield from map(": ".join, zip(head, cells, strict=False))
            return
        head = (head or cells) if line.startswith("|") else []


def _address() -> str | None:
    """Where all of the docs are, as the installed package says."""
    from importlib.metadata import PackageNotFoundError, metadata

    try:
        urls = metadata("fivrec").get_all("Project-URL") or ()
    except PackageNotFoundError:
        return None
    return next((url.partition(", ")[2] for url in urls if url.startswith("Documentation, ")), None)
