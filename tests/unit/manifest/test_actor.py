"""Who runs fivrec, as the audit log names them."""

from __future__ import annotations

import pytest

from reconciler.manifest.actor import find_actor


@pytest.mark.parametrize(
    ("given", "environ", "name"),
    [
        ("Zé", {"GITHUB_ACTOR": "octo"}, "Zé"),
        (None, {"GITHUB_ACTOR": "", "GITLAB_USER_LOGIN": "ana"}, "ana"),
        (None, {"GITHUB_ACTOR": "octo"}, "octo"),
        ("Z\udce9", {}, r"Z\udce9"),
        (None, {"BUILD_REQUESTEDFOR": "Z\udce9"}, r"Z\udce9"),
    ],
)
def test_the_actor_is_named_in_text_that_can_be_stored(given: str | None, environ: dict[str, str], name: str) -> None:
    assert find_actor(given, ("-",), environ).name == name
