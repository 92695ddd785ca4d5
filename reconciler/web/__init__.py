"""The HTTP interface: the app's integration API and the status page of `fivrec serve` and `fivrec report`.

Here: routes, tokens, sessions, the page. Each call becomes a run of the engine. Not here: any SQL or rule of its own.
Start with `app`; `calls` takes one API call from request to response.
"""
