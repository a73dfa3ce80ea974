"""Side-by-side measurements on the local stack; see docs/performance.md."""
