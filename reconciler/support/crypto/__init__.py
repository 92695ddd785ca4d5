"""Keys, and what they are used for: sealed secrets, fingerprints, password hashes.

Not here: which secret belongs where (`engine/match_secrets`), tokens of `fivrec serve` (`web/tokens`).
Start with `keyring`.
"""
