"""The live feed: the log's facts in order, from any position on, over HTTP and for webhooks.

Reading order: `cursor` (a position on the whole log), `events` (a record as it is shown),
`filters`, `lookups` (what a fact does not say itself), `tail` and `pages` (the two readers),
`following` (both as one endless stream), `serving` (server-sent events).
"""
