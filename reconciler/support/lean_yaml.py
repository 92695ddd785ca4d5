"""Imports PyYAML faster, with its patterns compiled when they are first used: libyaml's parser uses none of them."""

from __future__ import annotations

import re
import sys

from reconciler.model.patterns import late

if "yaml" not in sys.modules:
    compile_at_once, re.compile = re.compile, late  # type: ignore[assignment]  # overloaded there
    try:
        import yaml  # noqa: F401
    finally:
        re.compile = compile_at_once
