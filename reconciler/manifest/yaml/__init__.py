"""YAML itself: text to values with their places, values to text, and changes of a text where its values stand.

Knows no manifests. Not here: a manifest's text as a whole (`manifest/yaml_writer`) and its format
(`manifest/formatter`). Start with `parser`.
"""
