"""The limit for one instance: click, httpx and psycopg in one script, with a no-op apply's reads and log row."""

import sys
import time

import click
import httpx
import psycopg
from work import CATALOGUE, CONFIG, LOCK, LOG, READS, SEEN, STATUS, differences, headers


@click.command()
@click.option("--instance", required=True)
@click.option("--database-url", envvar="DATABASE_URL", required=True)
@click.option("--connect-url", envvar="FIV_APP_API_URL", required=True)
@click.option("--key", envvar="FIV_APP_API_KEY", required=True)
def main(instance, database_url, connect_url, key):
    with httpx.Client(base_url=connect_url, headers=headers(key), timeout=30) as client:
        begun = time.monotonic()
        status = client.get(STATUS).raise_for_status().json()
        took = int((time.monotonic() - begun) * 1000)
        plans = client.get(CATALOGUE).raise_for_status().json()
    with psycopg.connect(database_url) as conn:
        with conn.pipeline():
            lock = conn.execute(LOCK)
            cursors = [conn.execute(read) for read in READS]
            rows = [cursor.fetchall() for cursor in cursors]
            (locked,) = lock.fetchone()
        if not locked:
            sys.exit("another run holds it")
        changed = differences(rows, status, plans, instance)
        config = rows[CONFIG][0][0]
        with conn.pipeline():
            conn.execute(LOG, (config, status["status"], took))
            conn.execute(SEEN, (config,))
            conn.commit()
    click.echo(f"{instance} : changed={changed} status={status['status']}")
    sys.exit(1 if changed else 0)


main()
