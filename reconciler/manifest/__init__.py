"""From YAML files to `Desired` values, with every problem reported at its line.

Here: files, YAML, templates, fleets, checks, references to secrets, formatting, Git. Not here: the database and
Connect, which a manifest only names. Start with `loader`, which shows the order; `references` resolves secrets.
"""
