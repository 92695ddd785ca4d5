"""What newer versions of Python refuse is found on the oldest too."""

from __future__ import annotations

import ast
from pathlib import Path

import reconciler
from reconciler.model.types import SURROGATES

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def test_no_docstring_holds_half_a_surrogate_pair() -> None:
    """Python 3.13 encodes docstrings when it compiles them, and refuses the whole module."""
    sources = sorted(Path(reconciler.__path__[0]).rglob("*.py"))
    nodes = [(path, node) for path in sources for node in ast.walk(ast.parse(path.read_bytes()))]
    found = [
        (path.name, node.body[0].lineno)
        for path, node in nodes
        if isinstance(node, DOCUMENTED) and SURROGATES.search(ast.get_docstring(node, clean=False) or "")
    ]
    assert (len(sources) > 300, found) == (True, [])
