"""Whether an answer of Fi.V Connect says in its head that it is only a part of the whole. Pure.

Every API names it differently, so names are recognised by their words: X-Total-Count, X-WP-TotalPages, X-Has-More.
Unknown names say nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from reconciler.connect.errors import ConnectFault, partial_answer
from reconciler.model.patterns import late

_OF_A_LIST = late(
    "(?:[-_.]|x|wp|totals?|counts?|items?|records?|results?|elements?|entries|pages?|pagination|paging|next|has|more|"
    "cursor|link|url|range|of|number)+"
)
# A word is tried once, as a whole: a long one, tried from each of its letters, would take minutes.
_PAIR = late(r"""(?<![A-Za-z_-])([A-Za-z_-]++)["']?\s*+[:=]\s*+["']?([^"',;{}\s]+)""")
_PARAMETER = late(r"""(?<![\w*!-])([\w*!-]++)\s*+=\s*+("(?:[^"\\]|\\.)*"|[^\s;,]+)""")
_ADDRESS = late("<[^<>]*>")
_NUMBER = late("[0-9]+")
_NOTHING = frozenset({"", "null", "none", "false", "no", "0", "[]", "{}"})


def part_fault(headers: Mapping[str, str], *, listed: int | None = None) -> ConnectFault | None:
    """Returns the fault if an answer says that it is only a part of the whole. `listed`: how many items it contains, if
    it is a list."""
    if "content-range" in headers:
        return partial_answer("it is a part of one (Content-Range)")
    if _has_next(headers.get("link", "")):
        return partial_answer("there is a next page")
    for name, value in _statements(headers):
        if "next" in name or "more" in name:
            if value.strip(" \"'").lower() not in _NOTHING:
                return partial_answer(f"there is a next page ({name})")
        elif listed is not None and (fault := _more_than(listed, name, value)):
            return fault
    return None


def _more_than(listed: int, name: str, value: str) -> ConnectFault | None:
    """Whether `value` is this number, however it is written: "9", +9, 9.0, 3 of 9."""
    if not re.search("total|count|pages", name):
        return None
    stated = max((int(digits[:18]) for digits in _NUMBER.findall(value)), default=0)
    here = 1 if "page" in name else listed
    return partial_answer(f"it says that there are {stated} ({name}), and holds {here}") if stated > here else None


def _statements(headers: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """What headers say about a list: X-Total-Count: 9, or X-Pagination: {"totalCount": 9}. Names in lower case."""
    for name, value in headers.items():
        whole = name.lower()
        if whole == "link" or not _OF_A_LIST.fullmatch(whole):
            continue
        pairs = _PAIR.findall(value) if re.search("[{;=]", value) else []
        known = [(inner.lower(), said) for inner, said in pairs if _OF_A_LIST.fullmatch(inner.lower())]
        yield from known or [(whole, value)]


def _has_next(link: str) -> bool:
    """Whether a Link header (RFC 8288) has the relation `next`: quoted or not, alone or among others, as an address."""
    parameters = _PARAMETER.findall(_ADDRESS.sub("", link))
    relations = " ".join(value for name, value in parameters if name.lower().rstrip("*") == "rel")
    return "next" in re.split(r"""[\s"'/#]+""", relations.lower())
