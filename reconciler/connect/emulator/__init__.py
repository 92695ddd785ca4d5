"""Fi.V Connect's documented API in memory, for the quick start, drills and tests.

Not here: fivrec's own client. The emulator knows only the documentation. Start with `responses`, which answers a
request purely; `app` puts it behind a port.
"""
