"""--log-format json: each instance that did not end well is one event, never two."""

from __future__ import annotations

import json

from tests.support.harness import INSTANCE, Ended, Fivrec, manifest

NOWHERE = "https://127.0.0.1:1"


def failures(ended: Ended) -> list[tuple[str, str | None, str]]:
    events = [json.loads(line) for line in ended.stderr.splitlines()]
    return [(event["operation"], event.get("instance"), event["error"]) for event in events if event["error"]]


def test_a_failed_instance_is_one_event_of_the_log(fivrec: Fivrec) -> None:
    log = ("--log-format", "json")
    assert failures(fivrec.apply(*log)) == []
    degraded = fivrec.apply(*log, FIV_APP_API_URL=NOWHERE)
    assert (degraded.code, failures(degraded)) == (5, [("status_check", INSTANCE, "connect_unreachable")])
    compared = fivrec.diff(*log, FIV_APP_API_URL=NOWHERE)
    assert failures(compared) == [("diff", INSTANCE, "connect_unreachable")]
    fivrec.write(manifest(instance="another"))
    refused = fivrec.apply(*log, FIV_APP_API_URL=NOWHERE)
    assert (refused.code, failures(refused)) == (3, [("apply", "another", "wrong_instance")])


def test_a_setup_that_failed_is_one_event(bare: Fivrec) -> None:
    url = "postgresql://u:hunter2@127.0.0.1:1/d"
    words = ("--admin-email", "a@b.test", "--company-name", "C", "--admin-password-env", "PW", "--log-format", "json")
    ended = bare.run("setup", "--database-url", "env:URL", "--instance", "one", *words, URL=url, PW="senha-segura")
    assert (ended.code, failures(ended)) == (1, [("setup", "one", "database_unreachable")])
    assert "hunter2" not in ended.stdout + ended.stderr
