"""What the adapters for WAeys and pyaileys share."""
