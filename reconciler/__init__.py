"""fivrec: keeps Fi.V App instances in the state that YAML manifests declare."""

__version__ = "0.2.0"
