"""Imports httpx without its command line (click, rich, pygments), which takes 40 ms where those are installed.

httpx foresees that this import fails, and goes on without it. Whatever in fivrec needs httpx imports it from here.
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
