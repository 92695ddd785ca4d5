"""The limit for a first apply: schema, rows and bcrypt 12 on fresh databases, K at once."""

import argparse
import asyncio
import json
import time
from pathlib import Path

import bcrypt
import httpx
import psycopg
from work import CATALOGUE, LOG, SEEN, STATUS, headers

ADMIN = (
    "INSERT INTO users (name, email, password, role, environment)"
    " VALUES ('Administrador', 'admin@empresa.com', %s, 'admin', 'development')"
)
QUEUE = "INSERT INTO queues (name, description, environment) VALUES (%s, %s, 'development')"
SETTING = "INSERT INTO settings (key, value) VALUES (%s, %s)"
CONFIG = (
    "INSERT INTO instance_config (instance_id, instance_key, connect_api_url, check_interval_minutes, status,"
    " billing_status, enabled_features) VALUES (%s, %s, %s, 60, %s, %s, %s) RETURNING id"
)
PLAN = (
    "INSERT INTO plans (id, name, description, price, currency, billing_interval, features, max_users,"
    " max_conversations, storage_limit, is_active, stripe_product_id, stripe_price_id)"
    " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
)
COLUMNS = (
    "id", "name", "description", "price", "currency", "billingInterval", "features", "maxUsers",
    "maxConversations", "storageLimit", "isActive", "stripeProductId", "stripePriceId",
)  # fmt: skip


def plan_row(plan):
    return [json.dumps(plan[column]) if column == "features" else plan[column] for column in COLUMNS]


async def provision(client, one, given, schema):
    begun = time.monotonic()
    asked = headers(one["key"])
    hashing = asyncio.create_task(asyncio.to_thread(bcrypt.hashpw, given.password.encode(), bcrypt.gensalt(12)))
    status, plans = await asyncio.gather(client.get(STATUS, headers=asked), client.get(CATALOGUE, headers=asked))
    took = int((time.monotonic() - begun) * 1000)
    status, plans = status.raise_for_status().json(), plans.raise_for_status().json()
    async with await psycopg.AsyncConnection.connect(one["url"]) as conn:
        await conn.execute(schema)
        async with conn.pipeline():
            await conn.execute(ADMIN, ((await hashing).decode(),))
            await conn.execute(QUEUE, ("Technical Support", "Suporte técnico"))
            await conn.execute(QUEUE, ("Sales", None))
            await conn.execute(SETTING, ("company_name", json.dumps("Nome da Empresa")))
            features = json.dumps(status["enabledFeatures"])
            found = await conn.execute(
                CONFIG,
                (one["instance"], one["key"], given.connect_url, status["status"], status["billingStatus"], features),
            )
            for plan in plans:
                await conn.execute(PLAN, plan_row(plan))
            config = (await found.fetchone())[0]
            await conn.execute(LOG, (config, status["status"], took))
            await conn.execute(SEEN, (config,))


async def main(given):
    waiting = iter(json.loads(Path(given.list).read_text()))
    schema = Path(given.schema).read_text()

    async def work(client):
        for one in waiting:
            await provision(client, one, given, schema)

    async with httpx.AsyncClient(base_url=given.connect_url, timeout=30) as client:
        await asyncio.gather(*(work(client) for _ in range(given.at_once)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("list")
    parser.add_argument("--connect-url", required=True)
    parser.add_argument("--schema", required=True)
    parser.add_argument("--password", required=True)
    parser.add_argument("--at-once", type=int, default=4)
    asyncio.run(main(parser.parse_args()))
