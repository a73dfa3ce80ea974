"""What is compared: one module a contestant."""
