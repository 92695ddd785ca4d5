"""Imports httpx without its command line (click, rich, pygments), which takes 40 ms if those are installed.

httpx expects that this import may fail, and goes on without it. All of fivrec imports httpx from here.
"""

from __future__ import annotations

import sys

_CLI = "httpx._main"
_absent = _CLI not in sys.modules
if _absent:
    sys.modules[_CLI] = None  # type: ignore[assignment]  # the documented way to make an import fail
try:
    import httpx
finally:
    if _absent:
        del sys.modules[_CLI]

__all__ = ["httpx"]
