"""Passwords: bcrypt as the app stores it."""

from __future__ import annotations

import pytest

from reconciler.model.errors import MissingSetting
from reconciler.model.passwords import unusable
from reconciler.model.secret import Secret, cost_of
from reconciler.support.crypto.passwords import check_password, hash_password, verify


def test_a_hash_is_of_its_password_only() -> None:
    hashed = hash_password(Secret("senha_segura_123"), 4)
    assert hashed.startswith("$2b$04$")
    assert verify(Secret("senha_segura_123"), hashed)
    assert not verify(Secret("senha_segura_124"), hashed)
    assert cost_of(hashed) == 4


@pytest.mark.parametrize("version", ["2a", "2b", "2y"])
def test_hashes_of_other_libraries_are_verified(version: str) -> None:
    hashed = hash_password(Secret("x"), 4).replace("$2b$", f"${version}$")
    assert verify(Secret("x"), hashed)


@pytest.mark.parametrize(
    "hashed", ["", "x", "$2b$", "$2b$99$" + "a" * 53, "$2b$04$short", "$2b$04$" + "é" * 53, "\0", "$2b$xx$" + "a" * 53]
)
def test_a_malformed_hash_is_nobodys(hashed: str) -> None:
    assert not verify(Secret("x"), hashed)
    assert cost_of("$2b$xx$y") is None


def test_a_hash_of_a_higher_cost_than_allowed_is_not_tried() -> None:
    """A row of the app could keep a core busy for days."""
    hashed = hash_password(Secret("x"), 5)
    assert [verify(Secret("x"), hashed, most) for most in (4, 5, 6)] == [False, True, True]


@pytest.mark.parametrize("password", ["", "a\0b", "é" * 37, "a" * 73, "\udc80"])
def test_what_bcrypt_cannot_hold_is_refused_and_never_quoted(password: str) -> None:
    assert unusable(Secret(password)) is not None
    assert not verify(Secret(password), hash_password(Secret("x"), 4))
    with pytest.raises(ValueError, match="password"):
        hash_password(Secret(password), 4)
    with pytest.raises(MissingSetting, match="FIV_ADMIN_PASSWORD"):
        check_password(Secret(password), "FIV_ADMIN_PASSWORD")


def test_72_bytes_are_held() -> None:
    hashed = hash_password(Secret("é" * 36), 4)
    assert verify(Secret("é" * 36), hashed)
    assert not verify(Secret("é" * 35 + "e"), hashed)
