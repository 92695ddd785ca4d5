"""The command line: one file per command, the shared options, the rendering of results.

Not here: decisions. A command turns options into a run, and a report into text and an exit code. Start with `main`,
then `apply`; `runtime` opens a run, `boundary` ends it.
"""
