"""The PostgreSQL server of `embedded:`: found, made, started on need, stopped afterwards.

Not here: anything that a database of the operator's own goes through.
Start with `server`.
"""
