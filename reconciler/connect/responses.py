"""Bodies of Fi.V Connect's answers -> core types. JSON Schema first, then the rules that a schema can't say.

The answers are the seed's ("Endpoints da API Fi.V Connect"). Nothing of a body is quoted but a plain status word.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn

from reconciler.connect.errors import ConnectFault, echoed_key, invalid_answer, partial_answer
from reconciler.model.errors import ConnectError
from reconciler.model.records import dataclass
from reconciler.model.secret import Secret
from reconciler.model.types import ConnectPlan, ErrorInfo, InstanceStatus, is_plain
from reconciler.support.json_schema.validate import first_problem, is_valid

STATUSES = ("active", "suspended", "pending_payment")
BILLING_STATUSES = ("paid", "overdue")
_DOCUMENTED = frozenset({*STATUSES, *BILLING_STATUSES, "instanceId", "chat", "chatbot", "id", "name", "price"})
_LONG_ENOUGH = 8
_TOTALS = ("x-total-count", "x-total", "total-count", "x-pagination-total-count")
_NO_HEADERS: Mapping[str, str] = {}
_PLAIN_WORD = re.compile(r"[A-Za-z0-9_-]{1,40}")
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_]{1,40}")


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
    """A status, or why there is none; `received` is the status word where it may be shown."""

    status: InstanceStatus | None
    problem: ErrorInfo | None = None
    received: str | None = None


def part_fault(headers: Mapping[str, str], *, listed: int | None = None) -> ConnectFault | None:
    """The fault of an answer that says it is only a part of the whole. `listed`: how many items it holds, if a list."""
    if "content-range" in headers:
        return partial_answer("it is a part of one (Content-Range)")
    if _has_next(headers.get("link", "")) or headers.get("x-next-page", "").strip() not in ("", "null"):
        return partial_answer("there is a next page")
    if listed is None:
        return None
    for name, here in (*((name, listed) for name in _TOTALS), ("x-total-pages", 1)):
        stated = headers.get(name, "").strip()
        if stated.isascii() and stated.isdigit() and int(stated[:18]) > here:
            return partial_answer(f"it says that there are {stated[:18]} ({name}), and holds {here}")
    return None


def _has_next(link: str) -> bool:
    """Whether a Link header (RFC 8288) has the relation `next`, quoted or not, alone or among others."""
    link = re.sub("<[^>]*>", "", link)
    found = re.finditer(r""";\s*rel\s*=\s*(?:"([^"]*)"|([^\s;,"]+))""", link, re.IGNORECASE)
    return any("next" in (match[1] or match[2] or "").lower().split() for match in found)


def status_from_body(body: bytes, *, instance: str, key: Secret) -> StatusAnswer:
    """The seed's "Status da Instância"; a word that the seed does not name is a failed check."""
    try:
        answer = _checked("connect/status", body, key, lambda name: _may_be_shown(name, key, _PLAIN_KEY))
    except ConnectError as error:
        return StatusAnswer(None, ErrorInfo.of(error))
    if answer["instanceId"] != instance:
        return StatusAnswer(None, _wrong_instance(instance))
    word, billing = answer["status"], answer["billingStatus"]
    received = word if word in STATUSES or _may_be_shown(word, key) else None
    if word not in STATUSES:
        return StatusAnswer(None, _unknown("status", received), received)
    if billing not in BILLING_STATUSES:
        shown = billing if _may_be_shown(billing, key) else None
        return StatusAnswer(None, _unknown("billing status", shown), received)
    status = InstanceStatus(instance, word, billing, dict(sorted(answer["enabledFeatures"].items())))
    return StatusAnswer(status, None, received)


def plans_from_body(
    body: bytes, *, key: Secret | None = None, headers: Mapping[str, str] = _NO_HEADERS
) -> tuple[ConnectPlan, ...]:
    """The seed's "Planos Disponíveis", sorted by id. An empty list is an answer; two plans of one id are not."""
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
    """ConnectError if a usage report is not the seed's; it is ours, so it is never sent like that."""
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
    items: list[Any] = _checked(schema, body, key)
    if fault := part_fault(headers, listed=len(items)):
        raise fault
    return items


def _checked(
    schema: str, body: bytes, key: Secret | None, may_be_shown: Callable[[str], bool] = lambda _: False
) -> Any:
    answer = _json(body)
    if key is not None and _holds(answer, key.reveal()):
        raise echoed_key()
    if not is_valid(schema, answer):
        raise invalid_answer(first_problem(schema, answer, may_be_shown))
    if not is_plain(answer):
        raise invalid_answer("it holds NUL, or nests too deep to be stored")
    return answer


def _json(body: bytes) -> Any:
    try:
        text = body.decode("utf-8-sig")
        answer = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_object)
        json.dumps(answer, ensure_ascii=False, allow_nan=False).encode()  # fails on 1e999, and half a surrogate pair
    except _RepeatedKeyError:
        raise invalid_answer("a key is repeated in it") from None
    except (ValueError, RecursionError):
        # Without `from`: the cause would carry the body.
        raise invalid_answer("it is not JSON in UTF-8") from None
    return answer


class _RepeatedKeyError(ValueError):
    """Readers of JSON differ on which of the two counts."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _RepeatedKeyError
    return found


def echo_fault(headers: Iterable[tuple[bytes, bytes]], key: Secret) -> ConnectFault | None:
    """The fault of an answer whose head gives the key back. Bodies are looked through when they are read."""
    secret = key.reveal().encode()
    found = len(secret) >= _LONG_ENOUGH and any(secret in name or secret in value for name, value in headers)
    return echoed_key() if found else None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _holds(answer: object, secret: str) -> bool:
    """Whether a text of the answer, a key included, holds the secret. One shorter than 8 characters is found only as
    a whole text that is no word of the documented answer: "paid" or "k" would be found everywhere."""
    if not secret:
        return False
    brief = len(secret) < _LONG_ENOUGH
    todo = [answer]
    while todo:
        match todo.pop():
            case str() as text:
                if text == secret and text not in _DOCUMENTED if brief else secret in text:
                    return True
            case dict() as found:
                todo += found
                todo += found.values()
            case list() as items:
                todo += items
            case int() | float() as number if not isinstance(number, bool):
                if str(number) == secret:
                    return True
    return False


def _may_be_shown(word: str, key: Secret, plain: re.Pattern[str] = _PLAIN_WORD) -> bool:
    secret = key.reveal()
    return bool(plain.fullmatch(word)) and word not in secret and secret not in word


def _unknown(what: str, word: str | None) -> ErrorInfo:
    known = BILLING_STATUSES if what.startswith("billing") else STATUSES
    named = f" {word}" if word else ""
    return ErrorInfo(
        "connect_unknown_status",
        f"Fi.V Connect sent a {what}{named} that fivrec does not know",
        f"known are {', '.join(known)}; nothing was locked or unlocked",
    )


def _wrong_instance(instance: str) -> ErrorInfo:
    return ErrorInfo(
        "connect_wrong_instance",
        f"Fi.V Connect answered for another instance than {instance}",
        "the key belongs to another instance: set what config.instance_key refers to (usually FIV_APP_API_KEY)",
    )
