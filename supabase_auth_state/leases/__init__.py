"""One owner per company: leases in the database, and their renewal."""
