"""The loop of `fivrec watch`: the clock decides when an instance is checked.

Here: whose turn it is, what the end of a cycle means for the next, changed manifests, alerts, metrics, health. Not
here: what a cycle does (`engine`). Start with `loop`; `cycle` and `instance_state` are shared with the fleet's workers.
"""
