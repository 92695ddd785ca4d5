"""Any body at all is parsed or a known error, and is never quoted. FIVREC_FUZZ=1000000 tries more of them."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.connect.echo import KeyWatch, holds_key
from reconciler.connect.responses import STATUSES, databases_from_body, plans_from_body, status_from_body
from reconciler.connect.wholeness import part_fault
from reconciler.model.errors import ConnectError
from reconciler.model.secret import Secret

KEY = Secret("k-canary-7f3a9")
INPUTS = max(int(os.environ.get("FIVREC_FUZZ", "0")) // 20, 500)  # test_sealed_fuzz tries more, and faster

words = st.one_of(st.text(max_size=20), st.sampled_from([*STATUSES, "paid", "overdue", "me", KEY.reveal()]))
values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), words),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(words, inner, max_size=3)),
    max_leaves=8,
)
statuses = st.fixed_dictionaries(
    {},
    optional={
        "instanceId": st.one_of(st.just("me"), values),
        "status": st.one_of(words, values),
        "billingStatus": st.one_of(words, values),
        "enabledFeatures": st.one_of(st.dictionaries(words, st.booleans(), max_size=3), values),
        "more": values,
    },
)
plans = st.lists(
    st.fixed_dictionaries(
        {"id": words, "name": words, "price": st.one_of(st.integers(), values)},
        optional={"billingInterval": words, "features": st.one_of(st.lists(words, max_size=2), values)},
    ),
    max_size=3,
)


def as_body(value: Any) -> bytes:
    return json.dumps(value).encode()


def found_or_fault(read: Callable[[bytes], tuple[Any, ...]], body: bytes) -> tuple[Any, ...] | ConnectError:
    try:
        return read(body)
    except ConnectError as error:
        return error


@settings(max_examples=INPUTS, deadline=None)
@given(st.one_of(st.binary(max_size=200), statuses.map(as_body), values.map(as_body)))
def test_any_status_body_is_judged(body: bytes) -> None:
    found = status_from_body(body, instance="me", key=KEY)
    assert (found.status is None) == (found.problem is not None)
    assert "canary" not in repr((found.problem, found.received))
    if found.status is not None:
        assert (found.status.instance_id, found.received) == ("me", found.status.status)
        assert found.status.status in STATUSES


@settings(max_examples=INPUTS, deadline=None)
@given(st.one_of(st.binary(max_size=200), plans.map(as_body), values.map(as_body)))
def test_any_plans_body_gives_plans_or_a_foreseen_fault(body: bytes) -> None:
    found = found_or_fault(plans_from_body, body)
    if isinstance(found, ConnectError):
        assert found.code == "connect_invalid_answer"
        assert "canary" not in repr((found.message, found.hint, found.__cause__))
    else:
        assert [plan.id for plan in found] == sorted({plan.id for plan in found})


@settings(max_examples=INPUTS, deadline=None)
@given(st.one_of(st.binary(max_size=200), values.map(as_body)))
def test_any_databases_body_gives_databases_or_a_foreseen_fault(body: bytes) -> None:
    found = found_or_fault(databases_from_body, body)
    assert not isinstance(found, ConnectError) or found.code == "connect_invalid_answer"


@pytest.mark.parametrize(
    ("feature", "shown"),
    [
        ("ai_agent", "ai_agent"),
        (KEY.reveal(), "*"),
        ("canary", "*"),
        ("CANARY", "*"),
        ("a b", "*"),
        ("x" * 41, "*"),
        ("a\0", "*"),
    ],
)
def test_a_feature_that_is_no_boolean_is_named_if_a_plain_word(feature: str, shown: str) -> None:
    answer = {"instanceId": "me", "status": "active", "billingStatus": "paid", "enabledFeatures": {feature: "yes"}}
    problem = status_from_body(as_body(answer), instance="me", key=KEY).problem
    assert problem is not None
    said = "does not fit the schema" if shown == "*" else "must be true or false, not text"
    why = "it holds the instance key" if feature == KEY.reveal() else f"enabledFeatures/{shown}: {said}"
    why = "enabledFeatures: holds a key that the schema does not allow" if "\0" in feature else why
    assert problem.message == f"Fi.V Connect's answer can't be used: {why}"


@pytest.mark.parametrize(
    ("key", "text", "found"),
    [
        ("k-canary-7f3a9", "before k-canary-7f3a9 after", True),
        ("k-canary-7f3a9", "K-CANARY-7F3A9", True),
        ("short", "short", True),
        ("short", "a short story", False),
        ("paid", "paid", False),
        ("12345", 12345, True),
    ],
)
@pytest.mark.parametrize("place", ["a value", "a key", "an inner value"])
def test_the_key_is_found_wherever_it_stands(key: str, text: Any, found: bool, place: str) -> None:
    more = {"a value": {"x": text}, "a key": {str(text): 1}, "an inner value": {"x": [{"y": [text]}]}}[place]
    answer = {"instanceId": "me", "status": "active", "billingStatus": "paid", "enabledFeatures": {}, **more}
    problem = status_from_body(as_body(answer), instance="me", key=Secret(key)).problem
    assert (problem.message if problem else None) == (
        "Fi.V Connect's answer can't be used: it holds the instance key" if found else None
    )


LONG = Secret("Zx9kQy-1234567890/+abcd==")


@pytest.mark.parametrize(
    "text",
    [
        base64.b64encode(LONG.reveal().encode()).decode(),
        base64.b64encode(b"Bearer " + LONG.reveal().encode()).decode(),
        base64.urlsafe_b64encode(b"xy" + LONG.reveal().encode()).decode(),
        quote(LONG.reveal(), safe=""),
        quote(LONG.reveal()),
        LONG.reveal().encode().hex().upper(),
        LONG.reveal().upper(),
        " ".join(LONG.reveal()),
        "\u200b".join(LONG.reveal()),
        LONG.reveal().replace("/", "\\/"),
        "".join(f"%{ord(letter):02x}" for letter in LONG.reveal()),
        LONG.reveal().replace("-", "%2D"),
        "".join(f"&#{ord(letter)};" for letter in LONG.reveal()),
        LONG.reveal().replace("-", "&#x2d;"),
    ],
)
def test_a_key_that_a_program_packed_is_found(text: str) -> None:
    assert holds_key([{"id": "p", "description": text}], LONG)


def test_a_key_in_two_texts_side_by_side_is_found() -> None:
    assert holds_key(["Zx9kQy-12345", "67890/+abcd=="], LONG)
    assert not holds_key(["Zx9kQy-12345", "6789/+abcd=="], LONG)
    assert not holds_key({"status": "active", "billingStatus": "paid"}, Secret("active-paid"))


def test_an_empty_key_is_in_no_answer() -> None:
    """Of an instance whose name contains its key, none is looked for."""
    assert not holds_key({"description": "", "features": [""]}, Secret(""))
    watch = KeyWatch(Secret(""))
    watch.feed(b"HTTP/1.1 200")
    assert not watch.seen


def test_a_key_is_seen_in_bytes_that_come_piece_by_piece() -> None:
    watch = KeyWatch(LONG)
    for byte in b"HTTP/1.1 200 zX9KQY-1234567890/+abcd=":
        watch.feed(bytes([byte]))
    assert not watch.seen
    watch.feed(b"=\r\n")
    assert watch.seen


def test_a_key_written_with_escapes_is_found() -> None:
    body = b'[{"id": "\\u006b-canary-7f3a9", "name": "x", "price": 1, "billingInterval": "monthly", "features": []}]'
    found = found_or_fault(lambda body: plans_from_body(body, key=KEY), body)
    assert isinstance(found, ConnectError)
    assert found.message == "Fi.V Connect's answer can't be used: it holds the instance key"


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"content-range": "items 0-1/3"}, "it is a part of one (Content-Range)"),
        ({"link": '</p?page=2>; rel="next"'}, "there is a next page"),
        ({"link": "</p?page=2>; rel=next"}, "there is a next page"),
        ({"link": '</p>; rel="prev", </q>; title="x"; REL="last NEXT"'}, "there is a next page"),
        ({"link": '<https://h/?a;rel=next>; rel="prev"'}, None),
        ({"link": '</p>; rel="nextdoor"'}, None),
        ({"x-next-page": "2"}, "there is a next page (x-next-page)"),
        ({"x-next-page": ""}, None),
        ({"x-total-count": "3"}, "it says that there are 3 (x-total-count), and holds 2"),
        ({"x-total": "900"}, "it says that there are 900 (x-total), and holds 2"),
        ({"x-total-count": "2", "x-total-pages": "1"}, None),
        ({"x-total-pages": "2"}, "it says that there are 2 (x-total-pages), and holds 1"),
        ({"x-total-count": "many"}, None),
        ({"link": "<q>; rel='next'"}, "there is a next page"),
        ({"link": "<q>; rel*=UTF-8''next"}, "there is a next page"),
        ({"link": '<q>; rel="https://api.example/rels/next"'}, "there is a next page"),
        ({"link": '<q>; rel="self"; title="rel=next"'}, None),
        ({"x-total-count": '"3"'}, "it says that there are 3 (x-total-count), and holds 2"),
        ({"x-total-count": "2, 3"}, "it says that there are 3 (x-total-count), and holds 2"),
        ({"x-total-count": "+3.0"}, "it says that there are 3 (x-total-count), and holds 2"),
        ({"x-total-count": "2.0"}, None),
        ({"x-wp-total": "3"}, "it says that there are 3 (x-wp-total), and holds 2"),
        ({"x-wp-totalpages": "2"}, "it says that there are 2 (x-wp-totalpages), and holds 1"),
        ({"x-total-items": "3"}, "it says that there are 3 (x-total-items), and holds 2"),
        ({"x-has-more": "true"}, "there is a next page (x-has-more)"),
        ({"x-has-more": "false", "x-next": "null"}, None),
        ({"next-range": "id 3..; max=3"}, "there is a next page (next-range)"),
        ({"x-pagination": '{"TotalCount":3,"PageSize":2}'}, "it says that there are 3 (totalcount), and holds 2"),
        ({"x-pagination": '{"TotalCount":2,"TotalPages":1,"HasNext":false}'}, None),
        ({"pagination": "total=9; page=1"}, "it says that there are 9 (total), and holds 2"),
        ({"x-ratelimit-total": "900", "x-page": "4", "x-request-count": "55", "age": "7"}, None),
    ],
)
def test_a_part_of_an_answer_is_seen_by_its_headers(headers: dict[str, str], said: str | None) -> None:
    fault = part_fault(headers, listed=2)
    assert (fault.message if fault else None) == (said and f"Fi.V Connect's answer can't be used: {said}")


@pytest.mark.parametrize(
    "features",
    ['["a\\u0000"]', '[{"a\\u0000": 1}]', "[1e999]", '["\\ud800"]', "[" * 150 + "]" * 150, "[" + "9" * 5000 + "]"],
)
def test_what_no_column_could_hold_is_no_answer(features: str) -> None:
    body = f'[{{"id": "p", "name": "P", "price": 1, "billingInterval": "month", "features": {features}}}]'
    with pytest.raises(ConnectError) as raised:
        plans_from_body(body.encode(), key=KEY)
    assert raised.value.code == "connect_invalid_answer"


@pytest.mark.parametrize(("length", "known"), [(500, True), (501, False)])
def test_an_id_that_no_index_could_hold_is_no_answer(length: int, known: bool) -> None:
    """A page of an index takes 2,704 bytes: otherwise the whole instance would fail, not only Connect's part of it."""
    plan = {"id": "\N{GRINNING FACE}" * length, "name": "P", "price": 1, "billingInterval": "month", "features": []}
    found = found_or_fault(plans_from_body, as_body([plan]))
    assert (len(found) if not isinstance(found, ConnectError) else found.message) == (
        1 if known else "Fi.V Connect's answer can't be used: 0/id: must not be longer than 500 characters"
    )


@pytest.mark.parametrize("word", ["canary", "CANARY", "Canary"])
def test_a_status_word_that_is_a_piece_of_the_key_is_not_shown(word: str) -> None:
    answer = {"instanceId": "me", "status": word, "billingStatus": "paid", "enabledFeatures": {}}
    found = status_from_body(as_body(answer), instance="me", key=KEY)
    assert (found.received, found.problem and found.problem.message) == (
        None,
        "Fi.V Connect sent a status that fivrec does not know",
    )


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("ME", "Connect's id differs in capitals alone: set `instance` to exactly what the panel has"),
        (" me", "Connect's id has white space around it, which no `instance` can have: have it taken out at the panel"),
        (
            "you",
            "the key belongs to another instance: set what config.instance_key refers to (usually FIV_APP_API_KEY)",
        ),
    ],
)
def test_another_spelling_of_the_id_is_named_as_another_instance(said: str, hint: str) -> None:
    answer = {"instanceId": said, "status": "suspended", "billingStatus": "paid", "enabledFeatures": {}}
    found = status_from_body(as_body(answer), instance="me", key=KEY)
    assert (found.status, found.received, found.problem and (found.problem.code, found.problem.hint)) == (
        None,
        None,
        ("connect_wrong_instance", hint),
    )


LONG_HEADERS = {
    "a word of a link": {"link": "a" * 60_000},
    "links that never end": {"link": "<" * 60_000},
    "a word of a pair": {"x-pagination": "=" + "a" * 60_000},
}


@pytest.mark.parametrize("headers", LONG_HEADERS.values(), ids=LONG_HEADERS)
def test_a_long_header_is_read_at_once(headers: dict[str, str]) -> None:
    """Tried from each letter, it kept a whole watch busy for minutes, past every deadline."""
    assert part_fault(headers, listed=1) is None
    (name,) = headers
    assert part_fault({name: f'{headers[name]}, <https://c/?page=2>; rel="next", "next_page": 2'}) is not None


@pytest.mark.parametrize(
    "body", [b"[" * 900 + b"]" * 900, b'{"instanceId": "a", "x": ' + b"[" * 600 + b"]" * 600 + b"}"]
)
def test_an_answer_that_nests_deep_is_invalid(body: bytes) -> None:
    """It was an internal error: the check was not recorded, and the manifest's part not applied."""
    found = status_from_body(body, instance="a", key=Secret("k" * 20))
    assert found.problem is not None
    assert found.problem.code == "connect_invalid_answer"


PLANS = b'[{"id": "basic", "name": "key-of-client-b", "price": 10, "billingInterval": "monthly", "features": []}]'


def test_plans_that_were_judged_before_are_searched_for_each_client_s_key() -> None:
    for _ in range(2):
        assert [plan.name for plan in plans_from_body(PLANS, key=Secret("key-of-client-a"))] == ["key-of-client-b"]
        with pytest.raises(ConnectError, match="key"):
            plans_from_body(PLANS, key=Secret("key-of-client-b"))


@pytest.mark.parametrize("body", [b'[{"id": "basic"}]', b"[", b'["\\u0000"]'], ids=["schema", "json", "nul"])
def test_a_wrong_list_is_refused_each_time(body: bytes) -> None:
    for _ in range(2):
        with pytest.raises(ConnectError):
            plans_from_body(body)
