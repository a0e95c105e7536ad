"""Seals: what a hash chain over the log and a signed root for each day are, exactly."""
