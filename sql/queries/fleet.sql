-- The fleet's queue: fivrec's tables beside Procrastinate's, which do the queueing. Every statement is a transaction of
-- its own. Jobs are made by INSERT where one that waits already has to be met (Procrastinate's function refuses).

-- name: declare
INSERT INTO fivrec_fleet.instances AS i (instance, digest, stored, interval_s)
SELECT instance, digest, %(stored)s, interval_s
FROM unnest(%(instances)s::text[], %(digests)s::text[], %(intervals)s::double precision[])
  AS declared (instance, digest, interval_s)
ORDER BY instance
ON CONFLICT (instance) DO UPDATE
SET digest = EXCLUDED.digest, stored = EXCLUDED.stored, interval_s = EXCLUDED.interval_s, failures = 0, fights = NULL,
    due_at = now()
WHERE (i.digest, i.stored, i.interval_s) IS DISTINCT FROM (EXCLUDED.digest, EXCLUDED.stored, EXCLUDED.interval_s);

-- name: forget
DELETE FROM fivrec_fleet.instances WHERE NOT instance = ANY(%(instances)s::text[]) RETURNING instance;

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
)
DELETE FROM fivrec_fleet.results WHERE at < now() - interval '1 day';

-- One statement: a slot is taken and its job is there, or neither. Of several schedulers one takes it. A job that still
-- waits takes the new digest, so that a slow fleet never has more than one of an instance waiting. No more than `most`
-- jobs wait at all: to find the next of many costs Procrastinate more than to find it here, by an index.
-- name: enqueue_due
WITH due AS (
  SELECT instance FROM fivrec_fleet.instances WHERE due_at <= now()
  ORDER BY due_at LIMIT GREATEST(0, %(most)s - (SELECT count(*) FROM procrastinate_jobs WHERE status = 'todo'))
  FOR UPDATE SKIP LOCKED
), taken AS (
  UPDATE fivrec_fleet.instances AS i SET due_at = fivrec_fleet.next_slot(i.position, i.interval_s, now())
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

-- A job gets a new id: whoever had the old one, frozen and awake again, can't end what is another's by now.
-- name: recover
WITH lost AS (
  DELETE FROM procrastinate_jobs AS j
  WHERE j.task_name = %(task)s AND j.status = 'doing' AND (
    j.worker_id IS NULL OR EXISTS (
      SELECT FROM procrastinate_workers w
      WHERE w.id = j.worker_id AND w.last_heartbeat < now() - make_interval(secs => %(stale_s)s)))
  RETURNING j.*
)
INSERT INTO procrastinate_jobs (queue_name, task_name, lock, queueing_lock, priority, args, attempts)
SELECT queue_name, task_name, lock, queueing_lock, priority, args, attempts + 1 FROM lost
WHERE attempts < %(most)s
ON CONFLICT (queueing_lock) WHERE status = 'todo' DO NOTHING
RETURNING args ->> 'instance' AS instance;

-- Of a worker that stops before the job is done: the same again, for the next one.
-- name: give_back
INSERT INTO procrastinate_jobs (queue_name, task_name, lock, queueing_lock, priority, args, attempts)
SELECT queue_name, task_name, lock, queueing_lock, priority, args, attempts FROM procrastinate_jobs
WHERE id = %(job)s AND status = 'doing'
ON CONFLICT (queueing_lock) WHERE status = 'todo' DO NOTHING;

-- name: begin_turn
SELECT extract(epoch FROM now())::double precision AS now,
       i.instance IS NOT NULL AS scheduled, i.interval_s, extract(epoch FROM i.due_at)::double precision AS slot,
       i.heard, i.failures, i.trouble, i.own_check, i.usage_due, i.fights,
       m.instance AS stored_instance, m.document, m.path, m.line, m.signature
FROM (SELECT 1) AS one
LEFT JOIN fivrec_fleet.instances i ON i.instance = %(instance)s
LEFT JOIN fivrec_fleet.manifests m ON m.digest = %(digest)s AND %(stored)s;

-- Only of a job that is still this worker's. A slot that has come, or a new manifest, is earlier than any retry.
-- name: end_turn
WITH mine AS (
  SELECT id FROM procrastinate_jobs WHERE id = %(job)s AND status = 'doing' FOR UPDATE
)
UPDATE fivrec_fleet.instances
SET heard = %(heard)s, failures = %(failures)s, trouble = %(trouble)s, own_check = %(own_check)s,
    usage_due = %(usage_due)s, fights = %(fights)s, outcome = %(outcome)s, error = %(error)s, message = %(message)s,
    ended_at = now(), last_success = CASE WHEN %(well)s THEN now() ELSE last_success END,
    due_at = CASE
      WHEN %(retry_at)s::double precision IS NULL OR digest <> %(digest)s THEN due_at
      WHEN %(asked)s THEN GREATEST(due_at, to_timestamp(%(retry_at)s))
      ELSE LEAST(due_at, to_timestamp(%(retry_at)s)) END
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
       count(*) FILTER (WHERE COALESCE(last_success, now() - make_interval(secs => interval_s))
                              < now() - make_interval(secs => 2 * interval_s))::int AS overdue
FROM fivrec_fleet.instances;

-- name: failing
SELECT instance, outcome, error, message, failures, ended_at, last_success
FROM fivrec_fleet.instances WHERE failures > 0 ORDER BY failures DESC, instance LIMIT %(most)s;
