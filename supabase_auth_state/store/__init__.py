"""The key store: reads, writes, and what the owner remembers."""
