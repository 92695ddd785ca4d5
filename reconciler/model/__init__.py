"""The terms that every other package shares: values and kinds of resources. Pure.

Here: what is desired and observed (`types`), what changes (`changes`), secrets, errors, one file per kind in `kinds/`.
Not here: anything that reads, writes, looks at the clock, or decides.
Start with `types`, then `kinds/base`.
"""
