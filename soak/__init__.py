"""A simulated day and night of many companies: what grows, and what does not."""
