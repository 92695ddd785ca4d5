"""One instance, then many: observe, plan, apply, verify. Transactions begin and end here.

Not here: SQL, HTTP and YAML (below), loops and doors (above), words for people (`cli`).
Start with `reconcile`; `batch` runs many at once, `run` is what they share.
"""
