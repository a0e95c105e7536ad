"""Sealing days of the log, and comparing the log with its seals."""
