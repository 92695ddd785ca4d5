"""The least that a worker on Procrastinate can do: sleep. Arguments: the queue's URL, concurrency."""

import asyncio
import sys

import procrastinate

app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=sys.argv[1], min_size=1, max_size=4))


@app.task(name="bare.sleep", queue="bare")
async def pause(seconds: float) -> None:
    await asyncio.sleep(seconds)


async def main() -> None:
    async with app.open_async():
        await app.run_worker_async(
            queues=["bare"], concurrency=int(sys.argv[2]), delete_jobs="always", fetch_job_polling_interval=1.0
        )


asyncio.run(main())
