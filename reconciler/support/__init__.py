"""What any program of this sort needs and that knows no instance: log, files, network, crypto, JSON Schema.

Not here: manifests, Connect, tables of the app, rules of reconciliation.
Start with `log` and `files`; `crypto/` seals secrets, `json_schema/` validates and words what is wrong.
"""
