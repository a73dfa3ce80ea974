"""A dashboard and rules for the metrics, and the check that they work."""
