"""Who asks: the clock. The loop of `fivrec watch`.

Here: whose turn it is, what the end of a cycle means for the next, changed manifests, alerts, metrics, health.
Not here: what a cycle does (`engine`).
Start with `loop`; `cycle` and `instance_state` are shared with the fleet's workers.
"""
