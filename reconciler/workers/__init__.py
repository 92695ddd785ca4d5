"""The loop of `watch`, spread over many machines by a queue in PostgreSQL.

Here: the job queue (Procrastinate), the scheduler, the workers, `fleet apply`. Not here: what a cycle does (`engine`),
what its end means (`watch`). Start with `scheduler`, then `worker`.
"""
