"""The doors for people: one file per command, the options they share, the rendering of results.

Not here: decisions. A command turns options into a run and a report into words and an exit code.
Start with `main`, then `apply`; `runtime` opens a run, `boundary` ends it.
"""
