"""Secret: its value stays inside, whether printed, copied or serialised."""

from __future__ import annotations

import copy
import io
import json
import logging
import pickle
import traceback
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from reconciler.model.secret import MASK, Secret

VALUE = "hunter2-the-secret"


@dataclass(frozen=True)
class Holder:
    password: Secret


PRINTED: dict[str, Callable[[Secret], str]] = {
    "repr": repr,
    "str": str,
    "f-string": lambda secret: f"{secret}",
    "f-string with !r": lambda secret: f"{secret!r}",
    "f-string with a width": lambda secret: f"{secret:>40}",
    "format": lambda secret: format(secret, ""),
    "str.format": "{}".format,
    "percent": lambda secret: "%s %r" % (secret, secret),  # noqa: UP031
    "in a list": lambda secret: str([secret]),
    "in a dict": lambda secret: repr({"password": secret}),
    "in a dataclass": lambda secret: repr(Holder(secret)),
    "as an exception": lambda secret: str(ValueError(secret)),
    "json with default=str": lambda secret: json.dumps({"password": secret}, default=str),
}


@pytest.mark.parametrize("way", PRINTED)
def test_no_way_of_printing_shows_it(way: str) -> None:
    printed = PRINTED[way](Secret(VALUE))
    assert VALUE not in printed
    assert MASK in printed


def test_a_log_line_shows_the_mask() -> None:
    stream = io.StringIO()
    logger = logging.getLogger("test_secret")
    logger.addHandler(logging.StreamHandler(stream))
    logger.warning("password %s, %r", Secret(VALUE), Secret(VALUE))
    assert stream.getvalue() == f"password {MASK}, {MASK}\n"


def test_a_traceback_with_locals_shows_the_mask() -> None:
    def fail(password: Secret) -> None:
        raise ValueError("no")

    try:
        fail(Secret(VALUE))
    except ValueError as exc:
        lines = "".join(traceback.TracebackException.from_exception(exc, capture_locals=True).format())
    assert MASK in lines
    assert VALUE not in lines.replace(f"VALUE = '{VALUE}'", "")


@pytest.mark.parametrize(
    "serialise",
    [json.dumps, pickle.dumps, copy.copy, copy.deepcopy, lambda secret: copy.deepcopy({"a": [secret]})],
    ids=["json", "pickle", "copy", "deepcopy", "deepcopy in a dict"],
)
def test_it_is_never_serialised(serialise: Callable[[Secret], object]) -> None:
    with pytest.raises(TypeError) as caught:
        serialise(Secret(VALUE))
    assert VALUE not in str(caught.value)


def test_it_has_no_dict_to_look_into() -> None:
    with pytest.raises(TypeError):
        vars(Secret(VALUE))


def test_reveal_gives_it() -> None:
    assert Secret(VALUE).reveal() == VALUE


def test_equal_values_are_equal_secrets() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2


def test_a_secret_is_not_its_text() -> None:
    assert Secret("a") != "a"


def test_an_empty_secret_is_false() -> None:
    assert not Secret("")
    assert Secret("0")


def test_bytes_that_are_not_text_can_be_compared() -> None:
    assert Secret("caf\udce9") == Secret("caf\udce9")
    assert Secret("caf\udce9") != Secret("café")
