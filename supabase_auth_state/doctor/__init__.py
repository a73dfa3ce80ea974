"""Looking after a company's rows: finding damage, repairing it, counting pre-keys."""
