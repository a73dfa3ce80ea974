"""Running it: statistics, capacity, alerts and metrics."""
