"""From a folder into the database and back: import, export, verify, purge."""
