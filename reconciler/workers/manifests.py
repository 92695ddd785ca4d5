"""Where a fleet's worker gets a job's manifest from: its own checkout, or what `schedule --store` signed.

Either way the rendered manifest must be the one that the job names: a worker with other files does not guess.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any

from reconciler.manifest.loader import Manifest
from reconciler.model.errors import Refused
from reconciler.model.records import dataclass
from reconciler.model.secret import Secret
from reconciler.model.types import Origin, canonical
from reconciler.support.crypto.keyring import KeyRing
from reconciler.watch.manifests import ManifestSource
from reconciler.workers.job_queue import Job

PURPOSE = "fleet manifest"
DIFFERS = "manifest_differs"


@dataclass(slots=True)
class Checkout:
    """The worker's own files, which are read again if a job names a manifest that they do not contain."""

    source: ManifestSource
    _by_name: dict[str, Manifest] = field(default_factory=dict)
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self._take(self.source.held)

    async def find(self, job: Job, _: Mapping[str, Any]) -> Manifest:
        found = self._by_name.get(job.instance)
        if found is None or found.origin.digest != job.digest:
            async with self._reading:
                if await asyncio.to_thread(self.source.changed):
                    self._take(await asyncio.to_thread(self.source.reload))
            found = self._by_name.get(job.instance)
        if found is None:
            raise _differs(job, "this worker's manifests do not declare the instance")
        if found.origin.digest != job.digest:
            raise _differs(job, f"this worker has another manifest ({found.origin.digest[:12]})")
        return found

    def _take(self, manifests: Sequence[Manifest]) -> None:
        self._by_name = {manifest.instance: manifest for manifest in manifests}


@dataclass(frozen=True, slots=True)
class Stored:
    """Manifests in the queue's database. `folder` is the base of their {file: …} references."""

    keys: KeyRing
    folder: Path

    async def find(self, job: Job, row: Mapping[str, Any]) -> Manifest:
        text = row["document"]
        if text is None:
            hint = "give the worker the manifests' PATH, or the scheduler --store"
            raise _differs(job, "it is not stored, and this worker has no manifests of its own", hint)
        digest = hashlib.sha256(text.encode()).hexdigest()
        if digest != job.digest or not self.keys.matches(row["signature"], Secret(text), PURPOSE):
            hint = "give all the same FIVREC_ENCRYPTION_KEY; if they have it, somebody writes to the queue's database"
            raise _differs(job, "the stored one was not signed with a key of this worker", hint)
        document = json.loads(text)
        if document["instance"] != job.instance:
            raise _differs(job, f"the stored one is that of {document['instance']}")
        origin = Origin(row["path"], row["line"], digest)
        return Manifest(job.instance, document["labels"], document, origin, self.folder)


def stored_rows(manifests: Sequence[Manifest], keys: KeyRing) -> dict[str, list[Any]]:
    """Manifests as columns for the statement `store`. They contain references, and never a secret."""
    texts = [canonical(manifest.document) for manifest in manifests]
    return {
        "digests": [manifest.origin.digest for manifest in manifests],
        "instances": [manifest.instance for manifest in manifests],
        "documents": texts,
        "paths": [printable(manifest.origin.path) for manifest in manifests],
        "lines": [manifest.origin.line for manifest in manifests],
        "signatures": [keys.fingerprint(Secret(text), PURPOSE) for text in texts],
    }


def printable(path: str) -> str:
    """A name that is not UTF-8, as text that a database accepts."""
    return os.fsencode(path).decode(errors="backslashreplace")


def absent(job: Job) -> Manifest:
    """Stands in for a manifest that is not available."""
    return Manifest(job.instance, {}, {"environment": {"name": "production"}}, Origin("", 0, job.digest), Path())


def _differs(
    job: Job, why: str, hint: str = "let scheduler and workers have the same commit and the same fivrec"
) -> Refused:
    return Refused(f"the job names manifest {job.digest[:12]}: {why}", hint=hint, code=DIFFERS)
