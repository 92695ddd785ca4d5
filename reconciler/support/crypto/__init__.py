"""Keys and what is made with them: sealed secrets, fingerprints, password hashes.

Not here: which secret belongs where (`engine/match_secrets`), tokens of `fivrec serve` (`web/tokens`).
Start with `keyring`.
"""
