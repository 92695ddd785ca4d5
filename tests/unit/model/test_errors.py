"""What the message of an unexpected error says."""

from __future__ import annotations

import errno

import pytest

from reconciler.model.errors import as_error


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EMFILE, "too many files are open"),
        (errno.ENFILE, "too many files are open"),
        (errno.ENOSPC, "no space is left on the disk"),
        (errno.ENOMEM, "no memory is left"),
    ],
)
def test_exhausted_system_resources_are_named(number: int, words: str) -> None:
    found = as_error(OSError(number, "secret", "/secret"))
    assert (found.code, found.message) == ("internal", f"{words} (OSError)")


@pytest.mark.parametrize(
    ("raised", "words"),
    [
        (MemoryError("secret"), "no memory is left"),
        (ImportError("x.so: failed to map segment from shared object"), "no memory is left"),
        (ImportError("x.so: cannot open shared object file: Too many open files"), "too many files are open"),
        (EOFError("marshal data too short"), "a compiled file of Python is cut off"),
    ],
)
def test_so_is_what_python_says_in_its_own_way(raised: Exception, words: str) -> None:
    found = as_error(raised)
    assert (found.code, found.message) == ("internal", f"{words} ({type(raised).__name__})")


@pytest.mark.parametrize(
    "raised",
    [
        EOFError("secret"),
        ImportError("secret"),
        OSError("secret"),
        OSError(errno.EBADF, "secret"),
        ValueError("secret"),
    ],
)
def test_anything_else_shows_its_type_and_no_text(raised: Exception) -> None:
    found = as_error(raised)
    assert (found.code, found.message) == ("internal", f"fivrec failed unexpectedly: {type(raised).__name__}")
