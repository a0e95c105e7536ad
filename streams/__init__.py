"""The write side: from the outside to facts, and from facts to effects.

Reading order: `topics`, `books` (the fold of a partition), `deciding`, `signing`, `relaying`,
`lane_owner`, `following` and `listening` (ingestion), then `worker`, the only composition root.
"""
