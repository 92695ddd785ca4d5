"""An alert: a transition that somebody must know of, in words and as the document that is stored and posted. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from reconciler.model.records import dataclass
from reconciler.model.types import Value, rfc3339
from reconciler.planning.status_check import AlertName


@dataclass(frozen=True, slots=True)
class Alert:
    """`fields` are error, received, response_time_ms, run_id, commit, and `was`: the trouble that is over.

    `stored`: it is in the instance's database, and is sent until every receiver has it.
    """

    id: str
    name: AlertName
    instance: str
    level: str
    message: str
    at: datetime
    fields: Mapping[str, Value]
    stored: bool = False

    def payload(self) -> dict[str, Value]:
        return {
            "alert": self.name,
            "instance": self.instance,
            "level": self.level,
            "message": self.message,
            "timestamp": rfc3339(self.at, "milliseconds"),
            **{name: value for name, value in self.fields.items() if value is not None},
        }
