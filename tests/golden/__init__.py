"""Logs of released versions, and the states that they fold to."""
