"""What any program of this sort needs, without knowing about instances: log, files, network, crypto, JSON Schema.

Not here: manifests, Connect, tables of the app, rules of reconciliation.
Start with `log` and `files`; `crypto/` seals secrets, `json_schema/` validates values and says what is wrong.
"""
