"""The limit for `fivrec serve`: a bare Starlette application that reads the same row, on kept connections.

python api.py PORT   (DATABASE_URL in the environment)
"""

import asyncio
import os
import sys
from contextlib import asynccontextmanager

import psycopg
import uvicorn
from psycopg.rows import dict_row
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

ROW = """
SELECT l.id, l.created_at::text, l.check_type, l.success, l.status_received, l.error_message, l.response_time
FROM status_check_logs l JOIN instance_config c ON c.id = l.instance_config_id
WHERE c.instance_id = %s ORDER BY l.created_at DESC, l.id DESC LIMIT 1
"""
AT_ONCE = 8
pool: asyncio.Queue[psycopg.AsyncConnection] = asyncio.Queue()


@asynccontextmanager
async def lifespan(_):
    for _number in range(AT_ONCE):
        pool.put_nowait(await psycopg.AsyncConnection.connect(os.environ["DATABASE_URL"], autocommit=True))
    yield
    while not pool.empty():
        await pool.get_nowait().close()


async def health(_):
    return JSONResponse({"status": "ok"})


async def logs(_):
    conn = await pool.get()
    try:
        async with conn.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(ROW, ["client-abc-123"])
            return JSONResponse(await cursor.fetchall())
    finally:
        pool.put_nowait(conn)


app = Starlette(routes=[Route("/healthz", health), Route("/api/instance/status-logs", logs)], lifespan=lifespan)

if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), http="h11", loop="asyncio", log_level="critical", access_log=False)
