"""The sources of secrets: variables, files, commands, Vault, installed packages, and generated passwords.

Not here: which references a manifest has, and how their values are used (`manifest/references`). Start with `sources`.
"""
