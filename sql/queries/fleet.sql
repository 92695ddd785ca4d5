-- The fleet's queue: fivrec's tables beside Procrastinate's, which do the queueing. Every statement is a transaction of
-- its own. Jobs are made by INSERT if one may be waiting already (Procrastinate's function would refuse).

-- Record the declared instances. With `take` these manifests count from now on, and those that differ are due at once;
-- without it existing instances stay as they are: another scheduler may have newer manifests. `keep_view`: existing
-- instances stay with the scheduler that may forget them. `keep_interval`: and unless they differ, with its interval.
-- name: declare
INSERT INTO fivrec_fleet.instances AS i (instance, digest, stored, interval_s, view)
SELECT instance, digest, %(stored)s, interval_s, %(view)s
FROM unnest(%(instances)s::text[], %(digests)s::text[], %(intervals)s::double precision[])
  AS declared (instance, digest, interval_s)
ORDER BY instance
ON CONFLICT (instance) DO UPDATE
SET (digest, stored, interval_s, view, failures, fights, place, due_at) = (
      SELECT CASE WHEN take THEN EXCLUDED.digest ELSE i.digest END,
             CASE WHEN take THEN EXCLUDED.stored ELSE i.stored END,
             CASE WHEN take THEN every_s ELSE i.interval_s END,
             CASE WHEN %(take)s AND NOT %(keep_view)s THEN EXCLUDED.view ELSE i.view END,
             CASE WHEN take THEN 0 ELSE i.failures END,
             CASE WHEN take THEN NULL ELSE i.fights END,
             CASE WHEN take AND i.interval_s <> every_s THEN NULL ELSE i.place END,
             CASE WHEN take THEN now() WHEN i.due_at = 'infinity' THEN i.slot_at ELSE i.due_at END
      FROM (SELECT CASE WHEN %(keep_interval)s AND i.digest = EXCLUDED.digest
                        THEN i.interval_s ELSE EXCLUDED.interval_s END AS every_s) AS e
      CROSS JOIN LATERAL (SELECT %(take)s AND (i.digest, i.stored, i.interval_s)
                          IS DISTINCT FROM (EXCLUDED.digest, EXCLUDED.stored, every_s) AS take) AS t),
    declared_at = now();

-- name: attend
WITH before AS (
  SELECT at FROM fivrec_fleet.schedulers WHERE id = %(id)s
), after AS (
  INSERT INTO fivrec_fleet.schedulers AS s (id, at) VALUES (%(id)s, clock_timestamp())
  ON CONFLICT (id) DO UPDATE SET at = EXCLUDED.at RETURNING at
)
SELECT before.at::text AS before, after.at::text AS after FROM after LEFT JOIN before ON true;

-- An instance that no scheduler declares gets no turn. If a scheduler declares it again, it comes back as it was.
-- `dropped`: instances that this scheduler once declared, whose view may belong to a scheduler that is gone. They are
-- kept for a lease from then on: after a restore their own scheduler may not have declared them yet.
-- name: withdraw
UPDATE fivrec_fleet.instances SET due_at = 'infinity', declared_at = now()
WHERE due_at < 'infinity' AND NOT instance = ANY(%(declared)s::text[])
  AND ((view = %(view)s AND instance = ANY(%(gone)s::text[]))
       OR ((view = %(view)s OR instance = ANY(%(dropped)s::text[]))
           AND declared_at < now() - make_interval(secs => %(lease_s)s)))
RETURNING instance;

-- name: forget
DELETE FROM fivrec_fleet.instances
WHERE view = %(view)s AND due_at = 'infinity' AND declared_at < now() - make_interval(secs => %(lease_s)s);

-- The places of each interval are 0 to n-1: new instances, and those with a place beyond, take free ones. Instances
-- that get no turn take no place. The next slot stays, if the interval allows it; later slots follow from the place.
-- name: respread
WITH counted AS (
  SELECT instance, interval_s, place, count(*) OVER (PARTITION BY interval_s) AS n,
         row_number() OVER (PARTITION BY interval_s, place ORDER BY instance) AS turn
  FROM fivrec_fleet.instances WHERE due_at < 'infinity'
), settled AS (
  SELECT interval_s, place FROM counted WHERE place < n AND turn = 1
), movers AS (
  SELECT instance, interval_s, row_number() OVER (PARTITION BY interval_s ORDER BY instance) AS k
  FROM counted WHERE place IS NULL OR place >= n OR turn > 1
), free AS (
  SELECT interval_s, place, row_number() OVER (PARTITION BY interval_s ORDER BY place) AS k
  FROM (SELECT DISTINCT interval_s, generate_series(0, n - 1) AS place FROM counted) AS every
  WHERE NOT EXISTS (SELECT FROM settled s WHERE s.interval_s = every.interval_s AND s.place = every.place)
)
UPDATE fivrec_fleet.instances AS i
SET place = free.place,
    slot_at = CASE WHEN i.slot_at > now() + make_interval(secs => i.interval_s)
                   THEN fivrec_fleet.next_slot(free.place, i.interval_s, now()) ELSE i.slot_at END
FROM movers JOIN free USING (interval_s, k) WHERE i.instance = movers.instance;

-- Times later than any that a turn sets come from a clock that was wrong.
-- name: pull_in
UPDATE fivrec_fleet.instances
SET due_at = LEAST(due_at, fivrec_fleet.next_slot(COALESCE(place, position), interval_s, now())),
    slot_at = LEAST(slot_at, fivrec_fleet.next_slot(COALESCE(place, position), interval_s, now()))
WHERE due_at < 'infinity'
  AND GREATEST(due_at, slot_at) > now() + make_interval(secs => 5 + GREATEST(1.1 * interval_s, %(longest_retry_s)s));

-- name: version
SELECT max(version) AS version FROM fivrec_fleet.versions;

-- name: store
INSERT INTO fivrec_fleet.manifests (digest, instance, document, path, line, signature)
SELECT * FROM unnest(%(digests)s::text[], %(instances)s::text[], %(documents)s::text[], %(paths)s::text[],
                     %(lines)s::integer[], %(signatures)s::text[])
ORDER BY 1
ON CONFLICT (digest) DO UPDATE SET signature = EXCLUDED.signature, stored_at = now();

-- name: tidy
WITH old_manifests AS (
  DELETE FROM fivrec_fleet.manifests m
  WHERE stored_at < now() - interval '1 day'
    AND NOT EXISTS (SELECT FROM fivrec_fleet.instances i WHERE i.digest = m.digest)
), old_schedulers AS (
  DELETE FROM fivrec_fleet.schedulers WHERE at < now() - interval '1 day'
)
DELETE FROM fivrec_fleet.results WHERE at < now() - interval '1 day';

-- A queued instance is due again after an interval, in case its job gets lost; the end of its turn sets the real time.
-- One statement: either a turn is taken and its job exists, or neither. Of several schedulers one takes it. A job that
-- is still waiting gets the new digest, so that a slow fleet never has more than one job per instance waiting. No more
-- than `most` jobs wait at all: Procrastinate needs longer to find the next of many than an index here does.
-- name: enqueue_due
WITH due AS (
  SELECT instance FROM fivrec_fleet.instances WHERE due_at <= now()
  ORDER BY due_at LIMIT GREATEST(0, %(most)s - (SELECT count(*) FROM procrastinate_jobs WHERE status = 'todo'))
  FOR UPDATE SKIP LOCKED
), taken AS (
  UPDATE fivrec_fleet.instances AS i SET due_at = now() + make_interval(secs => i.interval_s)
  FROM due WHERE i.instance = due.instance
  RETURNING i.instance, i.digest, i.stored
)
INSERT INTO procrastinate_jobs (queue_name, task_name, lock, queueing_lock, args)
SELECT %(queue)s, %(task)s, instance, instance, jsonb_build_object(
  'instance', instance, 'digest', digest, 'stored', stored, 'at', extract(epoch FROM now()))
FROM taken
ON CONFLICT (queueing_lock) WHERE status = 'todo'
DO UPDATE SET args = EXCLUDED.args || jsonb_build_object('at', procrastinate_jobs.args -> 'at')
RETURNING id;

-- name: enqueue_run
INSERT INTO procrastinate_jobs (queue_name, task_name, lock, queueing_lock, priority, args)
SELECT %(queue)s, %(task)s, %(instance)s, 'run ' || %(run)s || ' ' || %(instance)s, 10,
       %(args)s::jsonb || jsonb_build_object('at', extract(epoch FROM now()))
ON CONFLICT (queueing_lock) WHERE status = 'todo' DO NOTHING;

-- name: cancel_run
DELETE FROM procrastinate_jobs WHERE task_name = %(task)s AND status = 'todo' AND args ->> 'run' = %(run)s
RETURNING args ->> 'instance' AS instance;

-- A job gets a new id: a worker that was frozen with the old one can't end a job that is another worker's by now.
-- name: recover
WITH lost AS (
  DELETE FROM procrastinate_jobs AS j
  WHERE j.task_name = %(task)s AND j.status = 'doing' AND (
    j.worker_id IS NULL OR EXISTS (
      SELECT FROM procrastinate_workers w
      WHERE w.id = j.worker_id AND abs(extract(epoch FROM now() - w.last_heartbeat)) > %(stale_s)s))
  RETURNING j.*
)
INSERT INTO procrastinate_jobs (queue_name, task_name, lock, queueing_lock, priority, args, attempts)
SELECT queue_name, task_name, lock, queueing_lock, priority, args, attempts + 1 FROM lost
WHERE attempts < %(most)s
ON CONFLICT (queueing_lock) WHERE status = 'todo' DO NOTHING
RETURNING args ->> 'instance' AS instance;

-- For a worker that stops before its job is done: queue the same job again for the next worker.
-- name: give_back
INSERT INTO procrastinate_jobs (queue_name, task_name, lock, queueing_lock, priority, args, attempts)
SELECT queue_name, task_name, lock, queueing_lock, priority, args, attempts FROM procrastinate_jobs
WHERE id = %(job)s AND status = 'doing'
ON CONFLICT (queueing_lock) WHERE status = 'todo' DO NOTHING;

-- Deletes nothing if the job was given to another worker meanwhile, as that one has another id.
-- name: finish
DELETE FROM procrastinate_jobs WHERE id = %(job)s;

-- A turn uses the manifest that counts now, a rollout the one that its job names. A job is not `mine` if it was given
-- to another worker, because this one was frozen before it began.
-- name: begin_turn
SELECT extract(epoch FROM now())::double precision AS now,
       EXISTS (SELECT FROM procrastinate_jobs WHERE id = %(job)s AND status = 'doing') AS mine,
       (i.due_at < 'infinity') IS TRUE AS scheduled, i.interval_s, i.place, named.digest,
       extract(epoch FROM i.slot_at)::double precision AS slot,
       i.heard, i.failures, i.trouble, i.own_check, i.usage_due, i.fights, i.standing, i.drift,
       m.instance AS stored_instance, m.document, m.path, m.line, m.signature
FROM (SELECT 1) AS one
LEFT JOIN fivrec_fleet.instances i ON i.instance = %(instance)s
CROSS JOIN LATERAL (
  SELECT CASE WHEN %(rollout)s OR i.digest IS NULL THEN %(digest)s ELSE i.digest END AS digest,
         CASE WHEN %(rollout)s OR i.digest IS NULL THEN %(stored)s ELSE i.stored END AS stored) AS named
LEFT JOIN fivrec_fleet.manifests m ON m.digest = named.digest AND named.stored;

-- name: is_mine
SELECT id FROM procrastinate_jobs WHERE id = %(job)s AND status = 'doing';

-- Only if the job is still this worker's. A manifest that is new by now keeps its own due time.
-- name: end_turn
WITH mine AS (
  SELECT id FROM procrastinate_jobs WHERE id = %(job)s AND status = 'doing' FOR UPDATE
)
UPDATE fivrec_fleet.instances
SET heard = %(heard)s, failures = CASE WHEN digest = %(digest)s THEN %(failures)s ELSE failures END,
    trouble = %(trouble)s, own_check = %(own_check)s,
    usage_due = %(usage_due)s, fights = CASE WHEN digest = %(digest)s THEN %(fights)s ELSE fights END,
    standing = %(standing)s, drift = %(drift)s, outcome = %(outcome)s, error = %(error)s, message = %(message)s,
    ended_at = now(), last_success = CASE WHEN %(well)s THEN now() ELSE last_success END,
    slot_at = to_timestamp(%(slot)s),
    due_at = CASE WHEN digest <> %(digest)s OR due_at = 'infinity' THEN due_at ELSE to_timestamp(%(due)s) END
WHERE instance = %(instance)s AND EXISTS (SELECT FROM mine);

-- name: end_run
INSERT INTO fivrec_fleet.results (run_id, instance, report)
SELECT %(run)s, %(instance)s, %(report)s FROM procrastinate_jobs WHERE id = %(job)s AND status = 'doing'
ON CONFLICT DO NOTHING;

-- name: take_results
DELETE FROM fivrec_fleet.results WHERE run_id = %(run)s RETURNING instance, report;

-- name: depth
SELECT jobs.waiting + due.waiting AS waiting, jobs.running,
       GREATEST(jobs.oldest_s, due.oldest_s, 0)::double precision AS oldest_s
FROM (
  SELECT count(*) FILTER (WHERE status = 'todo')::int AS waiting, count(*) FILTER (WHERE status = 'doing')::int AS running,
         extract(epoch FROM now()) - min((args ->> 'at')::double precision) FILTER (WHERE status = 'todo') AS oldest_s
  FROM procrastinate_jobs WHERE task_name = %(task)s
) AS jobs, (
  SELECT count(*)::int AS waiting, extract(epoch FROM now() - min(due_at)) AS oldest_s
  FROM fivrec_fleet.instances WHERE due_at <= now()
) AS due;

-- name: workers
SELECT count(*) FILTER (WHERE last_heartbeat >= now() - make_interval(secs => %(stale_s)s))::int AS alive,
       count(*) FILTER (WHERE last_heartbeat < now() - make_interval(secs => %(stale_s)s))::int AS lost
FROM procrastinate_workers;

-- name: totals
SELECT count(*)::int AS instances, count(*) FILTER (WHERE failures > 0)::int AS failing,
       count(*) FILTER (WHERE ended_at IS NULL)::int AS never,
       count(*) FILTER (WHERE COALESCE(last_success, LEAST(due_at, waiting.since))
                              < now() - make_interval(secs => 2 * interval_s))::int AS overdue
FROM fivrec_fleet.instances
LEFT JOIN (
  SELECT args ->> 'instance' AS instance, to_timestamp(min((args ->> 'at')::double precision)) AS since
  FROM procrastinate_jobs WHERE task_name = %(task)s AND status IN ('todo', 'doing') GROUP BY 1
) AS waiting USING (instance)
WHERE due_at < 'infinity';

-- name: gauges
SELECT instance, failures, fights, standing, drift,
       extract(epoch FROM now() - ended_at)::double precision AS last_run_age_s,
       extract(epoch FROM now() - last_success)::double precision AS last_success_age_s
FROM fivrec_fleet.instances WHERE due_at < 'infinity' ORDER BY instance;

-- name: failing
SELECT instance, outcome, error, message, failures, ended_at, last_success
FROM fivrec_fleet.instances WHERE failures > 0 AND due_at < 'infinity' ORDER BY failures DESC, instance LIMIT %(most)s;
