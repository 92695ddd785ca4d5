"""What limits an apply: a saved plan, accepted digests, how many instances may change."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from reconciler.cli.options import Settings
from reconciler.engine.guards import find_undeclared, saved_instances, saved_plan
from reconciler.support.log import counted

if TYPE_CHECKING:
    from reconciler.cli.runtime import RunSetup
    from reconciler.planning.saved_plan import SavedInstance


def save_plan(
    path: str, ready: RunSetup, saved: tuple[SavedInstance, ...], stopped: int, paths: tuple[str, ...]
) -> None:
    """--out: save the plan, if every instance could be compared."""
    from reconciler.engine.saved_plan_file import write_plan
    from reconciler.manifest.actor import find_commit

    incomplete = sum(item.outcome == "failed" for item in ready.others)
    count = len(ready.desired) - len(saved) + incomplete
    if stopped or count:
        ready.run.log.error("diff", f"❌ no plan was saved: {counted(count, 'instance')} could not be compared")
        return
    actor = replace(ready.run.actor, git_commit=find_commit(paths))
    write_plan(path, saved_plan(replace(ready.run, actor=actor), saved))
    ready.run.log.info("diff", f"📝 the plan is in {path}")


def limit_rollout(ready: RunSetup, settings: Settings, options: dict[str, Any]) -> RunSetup:
    """The run, limited to what --plan, --accept and --max-changed name; instances of the plan that no manifest declares
    are among its `others`."""
    if options["plan"] is not None:
        from reconciler.engine.saved_plan_file import read_plan

        saved = {item.instance: item for item in read_plan(options["plan"]).instances}
        chosen = settings.limit or settings.changed_since is not None or settings.retry is not None
        undeclared = () if chosen else find_undeclared(saved, ready.order)
        ready = replace(ready, run=replace(ready.run, saved=saved), others=(*ready.others, *undeclared))
    if options["max_changed"] is not None or ready.run.accept:
        ready = _planned(ready, settings, options["max_changed"])
    return ready


def _planned(ready: RunSetup, settings: Settings, limit: str | None) -> RunSetup:
    """Plan every instance before the first is written: accepted digests must match, and changes are counted."""
    from reconciler.cli.runtime import run_async
    from reconciler.engine.batch import Stop, run_many
    from reconciler.engine.reconcile import preview
    from reconciler.engine.rollout import accepted_digests, refuse_too_many

    run = ready.run
    previews = run_async(run, run_many(ready.desired, run, preview, forks=settings.forks, stop=Stop()))
    planned = saved_instances(ready.desired, previews)
    if limit is not None:
        refuse_too_many(planned, ready.desired, limit, run.accept)
    if run.accept:
        reviewed = tuple((run.saved or {}).values())
        run = replace(run, accept=accepted_digests(planned, ready.desired, run.accept, reviewed))
    if limit is not None and run.saved is None:
        run = replace(run, saved={item.instance: item for item in planned})
    return replace(ready, run=run)
