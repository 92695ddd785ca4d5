"""Parse bodies of Fi.V Connect's answers into the model's types: JSON Schema first, then the rules that a schema can't
express.

The answers are the seed's ("Endpoints da API Fi.V Connect"). Nothing of a body is quoted except a plain status word.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, TypeAlias

from reconciler.connect.echo import holds_key
from reconciler.connect.errors import echoed_key, invalid_answer
from reconciler.connect.wholeness import part_fault
from reconciler.model.errors import ConnectError
from reconciler.model.patterns import late
from reconciler.model.records import dataclass
from reconciler.model.secret import Secret
from reconciler.model.types import ConnectPlan, ErrorInfo, InstanceStatus, is_plain
from reconciler.support.json_schema.validate import first_problem, is_valid
from reconciler.support.strict_json import RepeatedKeyError, refuse_constant, with_unique_keys

STATUSES = ("active", "suspended", "pending_payment")
BILLING_STATUSES = ("paid", "overdue")
_KEPT_BYTES = 64 * 1024
_NO_HEADERS: Mapping[str, str] = {}
_PLAIN_WORD = late(r"[A-Za-z0-9_-]{1,40}")
_PLAIN_KEY = late(r"[A-Za-z0-9_]{1,40}")
_Verdict: TypeAlias = tuple[Any, bool, bool]


@dataclass(frozen=True, slots=True)
class ConnectDatabase:
    """One database of GET /api/v1/instances/:instanceId/databases. Times as Connect writes them."""

    id: str
    name: str
    type: str
    host: str
    port: int
    database: str
    status: str
    created_at: str | None = None
    size_mb: float | None = None
    connection_limit: int | None = None
    backup_enabled: bool | None = None
    last_backup: str | None = None


@dataclass(frozen=True, slots=True)
class StatusAnswer:
    """A status, or why there is none; `received` is the status word if it may be shown."""

    status: InstanceStatus | None
    problem: ErrorInfo | None = None
    received: str | None = None


def status_from_body(body: bytes, *, instance: str, key: Secret) -> StatusAnswer:
    """The seed's "Status da Instância"; a word that the seed does not name is a failed check."""
    try:
        answer = _checked("connect/status", body, key, lambda name: _may_be_shown(name, key, _PLAIN_KEY))
    except ConnectError as error:
        return StatusAnswer(None, ErrorInfo.of(error))
    if answer["instanceId"] != instance:
        return StatusAnswer(None, _wrong_instance(instance, answer["instanceId"]))
    word, billing = answer["status"], answer["billingStatus"]
    received = word if word in STATUSES or _may_be_shown(word, key) else None
    if word not in STATUSES:
        return StatusAnswer(None, _unknown("status", received), received)
    if billing not in BILLING_STATUSES:
        shown = billing if _may_be_shown(billing, key) else None
        return StatusAnswer(None, _unknown("billing status", shown), received)
    status = InstanceStatus(instance, word, billing, dict(sorted(answer["enabledFeatures"].items())))
    return StatusAnswer(status, None, received)


def names_instance(body: bytes, instance: str) -> bool:
    """Whether an answer is about this instance, even if it is otherwise invalid."""
    return _holds(body, {"instanceId": instance})


def is_all_well(body: bytes) -> bool:
    """Whether a status locks nothing and triggers no notice."""
    return _holds(body, {"status": "active", "billingStatus": "paid"})


def _holds(body: bytes, values: Mapping[str, str]) -> bool:
    try:
        answer = _json(body)
    except ConnectError:
        return False
    return isinstance(answer, dict) and all(answer.get(name) == value for name, value in values.items())


def plans_from_body(
    body: bytes, *, key: Secret | None = None, headers: Mapping[str, str] = _NO_HEADERS
) -> tuple[ConnectPlan, ...]:
    """The seed's "Planos Disponíveis", sorted by id. An empty list is valid; two plans with one id are not."""
    plans = sorted((_plan(item) for item in _listed("connect/plans", body, key, headers)), key=lambda plan: plan.id)
    if len({plan.id for plan in plans}) < len(plans):
        raise invalid_answer("two plans have one id")
    return tuple(plans)


def databases_from_body(
    body: bytes, *, key: Secret | None = None, headers: Mapping[str, str] = _NO_HEADERS
) -> tuple[ConnectDatabase, ...]:
    """The seed's "Bancos de Dados da Instância", sorted by id."""
    names = ConnectDatabase.__slots__
    found = (
        ConnectDatabase(**{name: item[name] for name in names if name in item})
        for item in _listed("connect/databases", body, key, headers)
    )
    return tuple(sorted(found, key=lambda database: database.id))


def check_usage(payload: Mapping[str, Any]) -> None:
    """Raises ConnectError if a usage report does not match the seed: the report is ours, so it is never sent like
    that."""
    if not is_valid("connect/usage", payload):
        raise ConnectError(
            f"the usage report is not as documented: {first_problem('connect/usage', payload)}",
            code="connect_invalid_report",
            hint="this is a fault in fivrec; nothing was sent",
        )


def _plan(item: Mapping[str, Any]) -> ConnectPlan:
    return ConnectPlan(
        id=item["id"],
        name=item["name"],
        price=int(item["price"]),
        billing_interval=item["billingInterval"],
        features=tuple(item["features"]),
        description=item.get("description"),
        currency=item.get("currency", "BRL"),
        max_users=_limit(item.get("maxUsers", 1)),
        max_conversations=_limit(item.get("maxConversations", 100)),
        storage_limit=_limit(item.get("storageLimit", 1000)),
        is_active=item.get("isActive", True),
        stripe_product_id=item.get("stripeProductId"),
        stripe_price_id=item.get("stripePriceId"),
    )


def _limit(value: float | None) -> int | None:
    """JSON Schema counts 2.0 as an integer; a column of type integer does not."""
    return None if value is None else int(value)


def _listed(schema: str, body: bytes, key: Secret | None, headers: Mapping[str, str]) -> list[Any]:
    items: list[Any] = _checked(schema, body, key, judge=_judged_before if len(body) <= _KEPT_BYTES else _judge)
    if fault := part_fault(headers, listed=len(items)):
        raise fault
    return items


def _checked(
    schema: str,
    body: bytes,
    key: Secret | None,
    may_be_shown: Callable[[str], bool] = lambda _: False,
    judge: Callable[[str, bytes], _Verdict] | None = None,
) -> Any:
    answer, valid, plain = (judge or _judge)(schema, body)
    if key is not None and holds_key(answer, key):
        raise echoed_key()
    if not valid:
        raise invalid_answer(first_problem(schema, answer, may_be_shown))
    if not plain:
        raise invalid_answer("it holds NUL, or nests too deep to be stored")
    return answer


def _judge(schema: str, body: bytes) -> _Verdict:
    """Returns the decoded body, whether it fits the schema, and whether a row can hold it. Raises ConnectError if it is
    not JSON."""
    answer = _json(body)
    return answer, is_valid(schema, answer), is_plain(answer)


_judged_before = lru_cache(maxsize=16)(_judge)
"""For lists: a panel's plans are the same for all its instances and at nearly every check. Nobody changes the value."""


def _json(body: bytes) -> Any:
    try:
        text = body.decode("utf-8-sig")
        answer = json.loads(text, parse_constant=refuse_constant, object_pairs_hook=with_unique_keys)
        json.dumps(answer, ensure_ascii=False, allow_nan=False).encode()  # fails on 1e999, and on half a surrogate pair
    except RepeatedKeyError:
        raise invalid_answer("a key is repeated in it") from None
    except (ValueError, RecursionError):
        # Without `from`: the cause would carry the body.
        raise invalid_answer("it is not JSON in UTF-8") from None
    return answer


def _may_be_shown(word: str, key: Secret, plain: re.Pattern[str] = _PLAIN_WORD) -> bool:
    secret, folded = key.reveal().casefold(), word.casefold()
    return bool(plain.fullmatch(word)) and folded not in secret and secret not in folded


def _unknown(what: str, word: str | None) -> ErrorInfo:
    known = BILLING_STATUSES if what.startswith("billing") else STATUSES
    named = f" {word}" if word else ""
    return ErrorInfo(
        "connect_unknown_status",
        f"Fi.V Connect sent a {what}{named} that fivrec does not know",
        f"known are {', '.join(known)}; nothing was locked or unlocked",
    )


def _wrong_instance(instance: str, said: str) -> ErrorInfo:
    if said.casefold() == instance.casefold():
        hint = "Connect's id differs in capitals alone: set `instance` to exactly what the panel has"
    elif said.strip().casefold() == instance.casefold():
        hint = "Connect's id has white space around it, which no `instance` can have: have it taken out at the panel"
    else:
        hint = "the key belongs to another instance: set what config.instance_key refers to (usually FIV_APP_API_KEY)"
    return ErrorInfo("connect_wrong_instance", f"Fi.V Connect answered for another instance than {instance}", hint)
