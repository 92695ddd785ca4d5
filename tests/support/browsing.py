"""A real Chromium for tests of the page: visits, axe-core, screenshots.

FIVREC_SCREENSHOTS=1 renews docs/screenshots.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

CHROMIUM = os.environ.get("FIVREC_CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
SHOTS = Path(__file__).parents[2] / "docs" / "screenshots"
RULES = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}}


async def visit(browser: Any, scheme: str, locale: str, **more: Any) -> Any:
    context = await browser.new_context(
        color_scheme=scheme, locale=locale, viewport={"width": 1280, "height": 860}, **more
    )
    page = await context.new_page()
    page.faults = []
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.on("console", lambda said: said.type == "error" and page.faults.append(f"{said.text} {said.location['url']}"))
    return page


async def findings(page: Any) -> list[str]:
    """Returns what axe-core finds against WCAG 2.2 AA."""
    from axe_playwright_python.async_playwright import Axe

    results = await Axe().run(page, options=RULES)
    return [
        f"{found['id']}: {node['html'][:160]} {node.get('failureSummary', '')}"
        for found in results.response["violations"]
        for node in found["nodes"]
    ]


async def shot(page: Any, name: str, *, full: bool = False) -> None:
    if os.environ.get("FIVREC_SCREENSHOTS"):
        SHOTS.mkdir(parents=True, exist_ok=True)
        await page.screenshot(path=SHOTS / f"{name}.png", full_page=full)
