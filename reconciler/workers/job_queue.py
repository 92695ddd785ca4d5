"""The fleet's queue: Procrastinate, in fivrec's terms. Its tables and fivrec's are together in one database.

Knows no manifest and no instance's database. Procrastinate queues, locks, fetches and finishes jobs, and keeps its
workers' heartbeats; which instance is due, which jobs are recovered and what a turn resulted in are statements of
sql/queries/fleet.sql.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import psycopg

from reconciler.database.connection import connect, create_database, use_iso_dates
from reconciler.database.errors import translated
from reconciler.database.statements import query
from reconciler.model.errors import DatabaseError, FivrecError, MissingSetting, extra_hint
from reconciler.model.patterns import late
from reconciler.model.records import dataclass
from reconciler.model.secret import Secret
from reconciler.support.cancellation import is_being_stopped
from reconciler.support.conninfo import database_name, parameters, server_shown
from reconciler.support.package_files import read_text

if TYPE_CHECKING:
    from psycopg_pool import AsyncConnectionPool

QUEUE: Final = "fivrec"
TASK: Final = "fivrec.turn"
HEARTBEAT_S: Final = 5.0
STALE_S: Final = 30.0
"""Seconds without a heartbeat after which a worker counts as dead or frozen: its jobs go to others."""
POLL_S: Final = 1.0
FINISH_S: Final = 5.0
LIVES: Final = 5
"""A job whose worker died so many times is not retried before its next slot: it may be what kills them."""
IDLE_MS: Final = 10_000
CONNECTIONS: Final = 4
RECONNECT_S: Final = 15.0
"""Seconds. The pool doubles its wait after each failed attempt, and starts again with short waits after this time.
Without that, it would take minutes to notice a queue that comes back after a long outage."""
TABLES: Final = 3
"""The version of our tables (sql/fleet/schema.sql) that this fivrec uses."""
FORGOTTEN: Final = "it has forgotten this worker, which was frozen or cut off, or the server's clock jumped"
_EXCEPTION: Final = late(r":? *\w*(?:Exception|Error)\(.*")
"""The repr of an exception, which may quote a row."""
INIT_FIRST: Final = 'run "fivrec fleet init" first'


@dataclass(frozen=True, slots=True)
class Job:
    """One turn of one instance. `run` is set in a rollout: its id; `wish` is then what was asked of it."""

    id: int
    instance: str
    digest: str
    stored: bool
    run: str | None = None
    wish: Mapping[str, Any] | None = None


class Queue:
    """Opened by `open_queue`."""

    def __init__(self, url: Secret) -> None:
        from procrastinate import App, PsycopgConnector

        self._url = url
        self.where = f"queue {database_name(url)} on {server_shown(url)}"
        chosen = parameters(url, connect_s=5, application_name="fivrec fleet")
        # A worker that freezes within a transaction must not keep a job from the others.
        chosen["options"] = f"{chosen.get('options', '')} -c idle_in_transaction_session_timeout={IDLE_MS}".strip()
        self._connector = PsycopgConnector(
            conninfo="",
            kwargs=chosen,
            configure=_each_statement_alone,
            pool_factory=_pool,
            min_size=1,
            max_size=CONNECTIONS,
        )
        self._app = App(connector=self._connector)
        self._app.job_manager.finish_job = self._finish  # type: ignore[method-assign, assignment]
        self._asking = asyncio.Lock()
        self._answer: tuple[float, DatabaseError | None] = 0.0, None

    @property
    def pool(self) -> AsyncConnectionPool[Any]:
        return self._connector.pool

    async def open(self) -> None:
        await self._app.open_async()

    async def close(self) -> None:
        await self._app.close_async()

    async def rows(self, name: str, **values: Any) -> list[dict[str, Any]]:
        """Run a statement of sql/queries/fleet.sql that returns rows. All of them may be repeated."""
        with self._said():
            found: list[dict[str, Any]] = await self._ask(self._connector.execute_query_all_async, name, values)
            return found

    async def run(self, name: str, **values: Any) -> None:
        with self._said():
            await self._ask(self._connector.execute_query_async, name, values)

    async def _ask(
        self, execute: Callable[..., Awaitable[Any]], name: str, values: Mapping[str, Any], *, again: bool = True
    ) -> Any:
        """Try once more if a kept connection turns out to be closed. If none is available, let the error say why: the
        pool keeps trying, and keeps the errors to itself."""
        from procrastinate.exceptions import ConnectorException
        from psycopg_pool import PoolTimeout

        try:
            return await execute(query("fleet", name), **values)
        except ConnectorException as exc:
            if is_being_stopped():
                raise
            if isinstance(exc.__cause__, PoolTimeout):
                await self._refuse_unreachable()
                raise
            if not again or not isinstance(exc.__cause__, psycopg.OperationalError):
                raise
        return await self._ask(execute, name, values, again=False)

    async def _refuse_unreachable(self) -> None:
        """Raises DatabaseError with the reason. One connection asks for all that wait: turns run out of time together,
        and too many connections may be the problem."""
        asked_at = monotonic()
        async with self._asking:
            if self._answer[0] < asked_at:
                try:
                    await _probe(self._url, create=False)
                except DatabaseError as exc:
                    self._answer = monotonic(), exc
                else:
                    self._answer = monotonic(), None
        _, why = self._answer
        if is_being_stopped():
            raise asyncio.CancelledError
        if why is not None:
            raise DatabaseError(why.message, code=why.code, hint=why.hint)

    async def make_schema(self) -> bool:
        """Create Procrastinate's tables, if they are missing, and ours. Returns whether Procrastinate's were
        created."""
        with self._said():
            made = not await self._app.check_connection_async()
            if made:
                await self._app.schema_manager.apply_schema_async()
            async with self.pool.connection() as conn:
                await conn.execute(read_text("sql/fleet/schema.sql").encode())
        return made

    async def version(self) -> int:
        """The version of our tables, as `fivrec fleet init` recorded it."""
        (row,) = await self.rows("version")
        return int(row["version"] or 0)

    async def work(self, turn: Callable[[Job], Awaitable[None]], forks: int) -> None:
        """Pass jobs to `turn` until this is cancelled; running jobs then have FINISH_S to end, and are given back
        otherwise."""

        async def take(context: Any, /, **args: Any) -> None:
            job = Job(
                context.job.id, args["instance"], args["digest"], args["stored"], args.get("run"), args.get("wish")
            )
            try:
                await turn(job)
            except asyncio.CancelledError:
                await asyncio.shield(self.run("give_back", job=job.id))
                raise

        self._app.tasks.pop(TASK, None)
        self._app.task(name=TASK, queue=QUEUE, pass_context=True)(take)
        with self._said():
            await self._app.run_worker_async(
                queues=[QUEUE],
                concurrency=forks,
                fetch_job_polling_interval=POLL_S,
                shutdown_graceful_timeout=FINISH_S,
                delete_jobs="always",
                install_signal_handlers=False,
                update_heartbeat_interval=HEARTBEAT_S,
                stalled_worker_timeout=STALE_S,
            )

    async def _finish(self, job: Any, **_: Any) -> None:
        """Mark a job as done. Procrastinate tries once: if the connection is lost just then, the job stays with a live
        worker, and its instance, which the job locks, gets no further turn."""
        until = monotonic() + STALE_S
        while True:
            try:
                return await self.run("finish", job=job.id)
            except FivrecError:
                if monotonic() > until:  # its heartbeats failed too: the worker starts over, and the job is found
                    raise
            await asyncio.sleep(POLL_S)

    async def standing(self) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """Returns how many jobs wait and for how long, the workers, the instances."""
        (depth,) = await self.rows("depth", task=TASK)
        (workers,) = await self.rows("workers", stale_s=STALE_S)
        (totals,) = await self.rows("totals", task=TASK)
        return depth, workers, totals

    async def recover(self) -> list[str]:
        """Put jobs of dead and frozen workers back into the queue. Returns their instances."""
        found = await self.rows("recover", task=TASK, stale_s=STALE_S, most=LIVES)
        return [row["instance"] for row in found]

    async def enqueue_run(self, run: str, instance: str, digest: str, *, stored: bool, wish: Mapping[str, Any]) -> None:
        args = {"instance": instance, "digest": digest, "stored": stored, "run": run, "wish": dict(wish)}
        await self.run("enqueue_run", queue=QUEUE, task=TASK, instance=instance, run=run, args=json.dumps(args))

    @contextmanager
    def _said(self) -> Iterator[None]:
        """Translate Procrastinate's errors; their cause keeps no text, which may quote rows. A task that is being
        cancelled ends here, whatever the result was: Python 3.11's `wait_for`, which psycopg uses, loses a cancel that
        arrives together with the result, and a loop that continues would never end."""
        from procrastinate.exceptions import ConnectorException

        try:
            yield
            if is_being_stopped():
                raise asyncio.CancelledError
        except (ConnectorException, psycopg.Error) as exc:
            if is_being_stopped():
                raise asyncio.CancelledError from None
            raise self._translated(exc.__cause__ if isinstance(exc, ConnectorException) else exc) from None

    def _translated(self, cause: BaseException | None) -> FivrecError:
        if isinstance(cause, psycopg.Error) and (cause.diag.source_function or "").endswith("CreationNamespace"):
            said = f"{self.where}: no schema of its login's search_path is there to make tables in"
            return DatabaseError(said, code="schema_missing", hint="CREATE SCHEMA public, then run again")
        if isinstance(cause, psycopg.errors.UndefinedTable | psycopg.errors.InvalidSchemaName):
            return DatabaseError(f"{self.where}: its tables are missing", code="schema_missing", hint=INIT_FIRST)
        if isinstance(cause, psycopg.errors.UndefinedColumn | psycopg.errors.UndefinedFunction):
            said = f"{self.where}: its tables are those of an older fivrec"
            return DatabaseError(said, code="schema_missing", hint='run "fivrec fleet init" of this version')
        if isinstance(cause, psycopg.errors.ForeignKeyViolation):  # the job was taken by a worker whose row is gone
            return DatabaseError(f"{self.where}: {FORGOTTEN}; the worker starts over", code="database_unreachable")
        if isinstance(cause, psycopg.Error):
            return translated(cause, self.where)
        return DatabaseError(f"{self.where}: it could not be asked", code="database_unreachable", hint="try again")


@asynccontextmanager
async def open_queue(url: Secret, *, create: bool = False) -> AsyncIterator[Queue]:
    """Open the queue at this URL. Raises DatabaseError at once if it can't be reached; `create` creates a missing
    database."""
    try:
        import procrastinate as _  # noqa: F401
    except ImportError as exc:
        message = "fivrec fleet needs Procrastinate, which is not installed"
        raise MissingSetting(message, hint=extra_hint("fleet")) from exc
    await _probe(url, create=create)
    queue = Queue(url)
    await queue.open()
    try:
        yield queue
    finally:
        await queue.close()


async def _probe(url: Secret, *, create: bool) -> None:
    """Create the database if it is missing. A login that may not create one is enough if it exists."""
    try:
        probe = await connect(url, application_name="fivrec fleet")
    except DatabaseError as exc:
        if exc.code != "database_missing":
            raise
        if not create:  # its messages are about an instance's database
            raise DatabaseError(exc.message, code=exc.code, hint=INIT_FIRST) from None
        await create_database(url)
        await _probe(url, create=False)
    else:
        await probe.close()


def _pool(**settings: Any) -> AsyncConnectionPool[Any]:
    """Skip Procrastinate's check before each statement, which doubles the round trips."""
    from psycopg_pool import AsyncConnectionPool

    return AsyncConnectionPool(**{**settings, "check": None, "reconnect_timeout": RECONNECT_S})


async def _each_statement_alone(conn: psycopg.AsyncConnection[Any]) -> None:
    await conn.set_autocommit(True)
    await use_iso_dates(conn)


def forward_logs(say: Callable[[str], None]) -> None:
    """Log the warnings of Procrastinate, its pool and asyncio in one line each, without tracebacks, which may quote
    rows."""

    class Forward(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said = record.getMessage().partition("\n")[0]
            say(_EXCEPTION.sub("", said))

    for name in ("procrastinate", "psycopg.pool", "asyncio"):
        logger = logging.getLogger(name)
        logger.handlers = [Forward(logging.WARNING)]
        logger.propagate = False
