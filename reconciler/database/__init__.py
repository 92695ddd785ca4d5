"""What exists: an instance's PostgreSQL database, read and written.

Here: connections, transactions, statements, migrations, the embedded server.
Not here: what should change (`planning`), and when a transaction begins and ends (`engine`).
Start with `store`; `connection` opens connections, `errors` translates PostgreSQL's errors.
"""

import reconciler.support.lean_psycopg  # noqa: F401 (psycopg is imported after it)
