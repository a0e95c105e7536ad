"""Webhooks: the feed, delivered. Each endpoint gets its facts in order, signed, until it answers.

Reading order: `endpoints` (what is configured), `signing` (Standard Webhooks), `ledger` (what is
kept in PostgreSQL), `sending` (one attempt), `delivering` (the role), `reporting` (what is shown).
"""
