"""The auth state of a company: in the database, in files, or where the feature flag says."""
