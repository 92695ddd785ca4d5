"""Check values against the schemas in `schemas/`: the verdict (`validate`) and its words (`messages`).

Not here: rules that a schema can't express (`manifest/rules`).
Start with `validate`.
"""
