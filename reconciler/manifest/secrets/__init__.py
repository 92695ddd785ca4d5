"""What references lead to: variables, files, commands, Vault, installed packages, and generated passwords.

Not here: which references a manifest has, and what becomes of their values (`manifest/references`). Start with
`sources`.
"""
