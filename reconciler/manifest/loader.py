"""Load manifests: from paths to checked, rendered, normalised documents, with all problems of all files together.

Offline: no secret is resolved and no connection made; references.py resolves secrets.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from reconciler.manifest.checks import (
    Declared,
    check_defaults,
    check_schema,
    check_twice,
    declared_by,
    without_findings,
)
from reconciler.manifest.defaults import normalise
from reconciler.manifest.files import ManifestFile, read_manifest_files
from reconciler.manifest.fleet_document import Entry, expand_fleet, is_fleet
from reconciler.manifest.origins import InstanceOrigins
from reconciler.manifest.positions import (
    FilePlaces,
    Finding,
    InstancePlaces,
    Source,
    instance_of,
    place_findings,
    show_value,
    value_at,
)
from reconciler.manifest.rendering import MAX_FINDINGS, Rendering, render_entry
from reconciler.manifest.reuse import WHOLE, Reuse, is_timeless
from reconciler.manifest.rules import check_rules
from reconciler.manifest.secrets.plugins import normalise_plugins
from reconciler.manifest.templates import Renderer
from reconciler.manifest.variables import parse_extra_vars
from reconciler.manifest.yaml.parser import YamlDocument
from reconciler.model.errors import ManifestError, ManifestProblem, MissingSetting
from reconciler.model.records import dataclass
from reconciler.model.types import Origin, canonical
from reconciler.support.postgres_url import one_environment


@dataclass(frozen=True, slots=True)
class Manifest:
    """One instance's manifest. `document` has the schema's keys in their long forms with all defaults; references
    stand in it as mappings, but environment.name is resolved: from `environment_variable`, if that is a reference;
    `unset` is the variable that it lacks for that. Its key `environment_unsaid` is the one whose default counts; with
    `environment_from`, any other reference, the name is its default, or no more than a guess, until `in_environment`
    makes the manifest of the right one; with `environment_read` templates were rendered by that guess.
    `folder` is what file references start from. `variables` says of each variable that the manifest declares whether
    a template reads it."""

    instance: str
    labels: Mapping[str, str]
    document: Mapping[str, Any]
    origin: Origin
    folder: Path
    variables: Mapping[str, bool] = field(default_factory=dict)
    unset: str | None = None
    environment_variable: str | None = None
    in_environment: Callable[[str, str], Manifest] | None = field(default=None, compare=False, repr=False)


class Made(NamedTuple):
    """The manifests of some text, and the values in them that no two instances may share."""

    manifests: tuple[Manifest, ...]
    declared: tuple[Declared, ...]


def problem_at(manifest: Manifest, path: str, message: str, hint: str) -> ManifestProblem:
    """The position of a path; for an omitted default, that of its section or of the document."""
    origin = manifest.origin
    part = path.partition("/")[0]
    line, column = origin.places.get(path) or origin.places.get(part) or (origin.line, 1)
    return ManifestProblem(origin.path, line, column, message, hint, manifest.instance, origin.row)


def load_manifests(
    paths: Sequence[str],
    *,
    variables: Sequence[str] = (),
    environ: Mapping[str, str],
    stdin: BinaryIO | None = None,
    resolved_later: bool = False,
    reuse: Reuse[Made] | None = None,
) -> tuple[Manifest, ...]:
    """Returns every instance that the paths declare, in order. Raises ManifestError with all problems of all files;
    MissingSetting naming all unset variables that an environment's name comes from, unless a later resolution names
    everything that is missing. With `reuse`, text that was loaded before is not processed again."""
    files, problems = read_manifest_files(paths, stdin)
    loading = _Loading(parse_extra_vars(variables), environ, list(problems), resolved_later, reuse)
    return loading.load(files)


def load_sound(
    paths: Sequence[str],
    *,
    variables: Sequence[str] = (),
    environ: Mapping[str, str],
    stdin: BinaryIO | None = None,
    reuse: Reuse[Made] | None = None,
) -> tuple[tuple[Manifest, ...], ManifestError | None]:
    """Returns the manifests without problems, and the problems of the others: a broken row excludes only that row, a
    broken file only that file. A manifest that lacks its environment's variable has it in `unset`. Raises ManifestError
    if none is left."""
    files, problems = read_manifest_files(paths, stdin)
    loading = _Loading(parse_extra_vars(variables), environ, list(problems), resolved_later=True, reuse=reuse)
    try:
        return loading.load(files), None
    except ManifestError as exc:
        sound = loading.sound()
        if not sound:
            raise
        return sound, exc


def load_files(
    files: Sequence[ManifestFile], *, variables: Sequence[str] = (), environ: Mapping[str, str]
) -> tuple[Manifest, ...]:
    """The same for text that was read or generated before; a manifest that lacks its environment's variable has it in
    `unset`."""
    return _Loading(parse_extra_vars(variables), environ, [], resolved_later=True).load(files)


@dataclass(slots=True)
class _Loading:
    extra: Mapping[str, Any]
    environ: Mapping[str, str]
    problems: list[ManifestProblem]
    resolved_later: bool = False
    reuse: Reuse[Made] | None = None
    findings: list[Finding] = field(default_factory=list)
    loaded: list[Manifest] = field(default_factory=list)
    declared: list[Declared] = field(default_factory=list)
    renderer: Renderer = field(default_factory=Renderer)

    def load(self, files: Iterable[ManifestFile]) -> tuple[Manifest, ...]:
        if self.reuse is not None:
            self.reuse.begin(self.extra, self.environ)
        with one_environment():
            for file in files:
                whole = self._known(file, WHOLE)
                if whole is not None:
                    self._take(whole)
                else:
                    self._add_whole(file)
        return self.finish()

    def _known(self, file: ManifestFile, key: Hashable) -> Made | None:
        return None if self.reuse is None else self.reuse.find(file.yaml, key)

    def _take(self, made: Made) -> None:
        self.loaded.extend(made.manifests)
        self.declared.extend(made.declared)

    def _add_whole(self, file: ManifestFile) -> None:
        """Load what a file declares. Kept for later loadings if it is valid and depends on no other file."""
        before = len(self.loaded), len(self.declared), len(self.findings) + len(self.problems)
        self.add(file)
        made = Made(tuple(self.loaded[before[0] :]), tuple(self.declared[before[1] :]))
        in_rows = any(one.source.row is not None for one in made.declared)
        if len(self.findings) + len(self.problems) == before[2] and not in_rows:
            self._keep(file, WHOLE, made)

    def _keep(self, file: ManifestFile, key: Hashable, made: Made) -> None:
        if self.reuse is not None and all(is_timeless(manifest.document) for manifest in made.manifests):
            variables = (manifest.environment_variable for manifest in made.manifests)
            self.reuse.keep(file.yaml, key, made, tuple(name for name in variables if name is not None))

    def add(self, file: ManifestFile) -> None:
        documents, problems = file.yaml.read()
        self.problems.extend(_named(problem, documents) for problem in problems)
        shared = FilePlaces(file.yaml, len(documents))
        for document in documents:
            for entry in self._entries(file, document):
                self._add_entry(entry, file, shared)
                if len(self.findings) >= MAX_FINDINGS:
                    return

    def _entries(self, file: ManifestFile, document: YamlDocument) -> Iterator[Entry]:
        whole = Source(file.yaml, document, document.line, instance=instance_of(document.data))
        if not isinstance(document.data, dict):
            empty, hint = "the document is empty", 'take its "---" out, or write a manifest there, see fivrec init'
            if document.data is not None:
                empty, hint = "a manifest is a mapping", "it begins with version: 1, see fivrec init"
            self.findings.append(Finding(whole, "", empty, hint))
        elif not is_fleet(document.data):
            yield Entry(document.data, whole)
        else:
            for found in expand_fleet(file, document, partial(self._known, file)):
                match found:
                    case Entry():
                        yield found
                    case Made():
                        self._take(found)
                    case Finding():
                        self.findings.append(found)
                    case ManifestProblem():
                        self.problems.append(found)

    def _add_entry(self, entry: Entry, file: ManifestFile, shared: FilePlaces) -> None:
        if entry.defaults_alone:
            self.findings.extend(islice(check_defaults(entry), MAX_FINDINGS))
            return
        rendering = render_entry(entry, self.extra, self.environ, self.renderer)
        document, filled, findings = _check(rendering)
        self.declared.append(declared_by(document, entry.source))
        if findings:
            self.findings.extend(findings)
            return
        origin = _origin(rendering, document, filled, shared)
        used, unset, variable = _variables(rendering), rendering.missing, rendering.variable
        name, labels = document["instance"], document["labels"]
        manifest = Manifest(name, labels, document, origin, file.folder, used, unset, variable)
        if rendering.reference is not None:
            again = partial(_in_environment, manifest, rendering, shared, extra=self.extra, environ=self.environ)
            manifest = replace(manifest, in_environment=again)
        self.loaded.append(manifest)
        if entry.row_key is not None:
            self._keep(file, entry.row_key, Made((self.loaded[-1],), (self.declared[-1],)))

    def sound(self) -> tuple[Manifest, ...]:
        """The manifests without problems. A problem of a whole document counts for all of its file; if two instances
        conflict, both are left out."""
        whole = {problem.path for problem in self.problems if not (problem.row or problem.instance)}
        whole |= {found.source.file.path for found in self.findings if _is_of_all(found)}
        named = {found.source.instance for found in self.findings} | {problem.instance for problem in self.problems}
        names = Counter(one.instance for one in self.declared)
        databases = Counter(one.database for one in self.declared)
        twice = {one.instance for one in self.declared if one.database is not None and databases[one.database] > 1}
        clashing = twice | {name for name, count in names.items() if count > 1}
        spoilt = named | clashing
        return tuple(one for one in self.loaded if one.instance not in spoilt and one.origin.path not in whole)

    def finish(self) -> tuple[Manifest, ...]:
        self.findings.extend(check_twice(self.declared))
        found = {*self.problems, *place_findings(self.findings)}
        if found:
            more = "there may be more problems; these were the first" if len(self.findings) >= MAX_FINDINGS else ""
            raise ManifestError(tuple(found), hint=more)
        unset = [manifest for manifest in self.loaded if manifest.unset is not None]
        if unset and not self.resolved_later:
            words = "; ".join(f"{manifest.instance}: environment: {manifest.unset}" for manifest in unset)
            raise MissingSetting(
                f"environment variables are not set: {words}", hint="set them, or give the reference a default"
            )
        return tuple(self.loaded)


def _check(rendering: Rendering) -> tuple[dict[str, Any], tuple[str, ...], list[Finding]]:
    """The document, the paths of what was filled in, and what is wrong; the document lacks that."""
    rendering.raw = normalise_plugins(rendering.raw)
    findings = [*rendering.findings, *islice(check_schema(rendering), MAX_FINDINGS)]
    raw = without_findings(rendering.raw, findings) if findings else rendering.raw
    document, filled = normalise(raw, rendering.environment)
    if rendering.unsaid is not None:
        document["environment_unsaid"] = rendering.unsaid
    if rendering.reference is not None:
        document["environment_from"] = rendering.reference
        if "environment" in rendering.used:
            document["environment_read"] = True
    for breach in check_rules(document):
        value = show_value(breach.path, value_at(document, breach.path))
        findings.append(Finding(rendering.entry.source, *breach, value=value))
    return document, filled, findings


def _in_environment(
    manifest: Manifest,
    rendering: Rendering,
    shared: FilePlaces,
    name: str,
    said: str,
    *,
    extra: Mapping[str, Any],
    environ: Mapping[str, str],
) -> Manifest:
    """The manifest once it is known that its environment is `name`, by `said`: its templates and rules see that. Its
    digest stays that of its words. ManifestError if it does not fit."""
    entry = rendering.entry
    raw = {**entry.raw, "environment": {**rendering.raw["environment"], "name": name}}
    again = render_entry(replace(entry, raw=raw), extra, environ, Renderer())
    again.entry, again.origins["environment/name"] = entry, said
    document, filled, findings = _check(again)
    if findings:
        raise ManifestError(tuple(place_findings(findings)))
    origin = replace(_origin(again, document, filled, shared), digest=manifest.origin.digest)
    return replace(manifest, document=document, labels=document["labels"], origin=origin)


def _named(problem: ManifestProblem, documents: Sequence[YamlDocument]) -> ManifestProblem:
    """A YAML problem, with the instance whose document it is in if that is a single instance's."""
    above = [document.data for document in documents if document.line <= problem.line]
    if not above or not isinstance(above[-1], dict) or is_fleet(above[-1]):
        return problem
    return replace(problem, instance=instance_of(above[-1]))


def _is_of_all(found: Finding) -> bool:
    """Whether it is about a document as a whole. A fleet's entry without a proper name, and an override for an unknown
    name, say nothing about the other entries."""
    source = found.source
    return source.prefixes == ("",) and not (source.instance or found.path.startswith("overrides/"))


def _origin(rendering: Rendering, document: Mapping[str, Any], filled: Iterable[str], shared: FilePlaces) -> Origin:
    source = rendering.entry.source
    origins = InstanceOrigins(rendering.entry, tuple(filled), rendering.origins)
    if source.row is not None:
        rendering.origins["instance"] = str(source.row)
    digest = hashlib.sha256(canonical(document).encode()).hexdigest()
    row = str(source.row or "")
    return Origin(source.file.path, source.line, digest, InstancePlaces(shared, source), origins, row)


def _variables(rendering: Rendering) -> dict[str, bool]:
    """A template that reads `vars` itself may read any of them. CSV columns don't belong to the manifest."""
    declared = rendering.entry.raw.get("vars", {})
    if not isinstance(declared, dict):
        return {}
    return {name: name in rendering.used or "vars" in rendering.used for name in declared}
