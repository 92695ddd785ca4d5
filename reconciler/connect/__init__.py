"""The panel: Fi.V Connect's API, and an emulator of it.

Here: requests, retries, the checked transport, answers parsed into values, the emulator. Not here: what follows from an
answer (`planning/status_check`). Start with `client`.
"""
