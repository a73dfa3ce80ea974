"""What is measured: one module a group, each with `run(bench)`."""
