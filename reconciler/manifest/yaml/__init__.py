"""YAML itself: text to values with their positions, values to text, and edits of values within a text.

Knows no manifests. Not here: a manifest's text as a whole (`manifest/yaml_writer`) and its format
(`manifest/formatter`). Start with `parser`.
"""

import reconciler.support.lean_yaml  # noqa: F401 (PyYAML is imported by it)
