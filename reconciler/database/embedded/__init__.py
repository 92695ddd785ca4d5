"""The PostgreSQL server of `embedded:`: found, made, started on need, stopped afterwards.

Not here: anything that the operator's own databases need too.
Start with `server`.
"""
