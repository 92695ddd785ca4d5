"""`dataclass` as the standard library has it, made in two thirds of the time for frozen ones.

Python compiles five methods for each frozen dataclass. A no-op apply defines a hundred of them, a fifth of its CPU
time (docs/benchmarks.md). Here equality, hash and repr are shared functions over the same fields; what else a
dataclass is, the standard library makes. Type checkers see its own decorator.
"""

from __future__ import annotations

import dataclasses
from operator import attrgetter
from typing import TYPE_CHECKING, Any

__all__ = ["dataclass"]

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(cls: type | None = None, /, **options: bool) -> Any:
        """As `dataclasses.dataclass`: the same options, fields, equality, hash and repr."""
        if cls is None:
            return lambda made: dataclass(made, **options)
        ours = options in ({"frozen": True, "slots": True}, {"frozen": True})
        if not ours or not {"__eq__", "__hash__", "__repr__"}.isdisjoint(cls.__dict__):
            return dataclasses.dataclass(**options)(cls)
        cls.__doc__ = cls.__doc__ or cls.__name__  # without one the library asks `inspect` for a signature
        made = dataclasses.dataclass(**options, repr=False, eq=False)(cls)
        fields = dataclasses.fields(made)
        made.__eq__ = _equality(_values([one.name for one in fields if one.compare]))
        hashed = [one.name for one in fields if (one.compare if one.hash is None else one.hash)]
        made.__hash__ = _hash(_values(hashed))
        made.__repr__ = _repr([one.name for one in fields if one.repr])
        return made


def _values(names: list[str]) -> Any:
    """A function that gives these fields of an instance, to be compared or hashed as one."""
    return attrgetter(*names) if names else lambda _: ()


def _equality(values: Any) -> Any:
    def __eq__(self: object, other: object) -> Any:  # noqa: N807 (what a traceback shows)
        return values(self) == values(other) if other.__class__ is self.__class__ else NotImplemented

    return __eq__


def _hash(values: Any) -> Any:
    def __hash__(self: object) -> int:  # noqa: N807
        return hash(values(self))

    return __hash__


def _repr(names: list[str]) -> Any:
    def __repr__(self: object) -> str:  # noqa: N807
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{type(self).__qualname__}({shown})"

    return __repr__
