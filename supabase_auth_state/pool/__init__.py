"""The session pool."""
