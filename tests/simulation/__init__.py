"""Deterministic simulation: the real core and the real agents on working models of everything else.

Read `loop` (time, order and processes), then the models (`broker`, `groups`, `contract`, `chain`,
`node`, `outside`), then `worker` (which agents run in a process), `scenario` (what a seed decides),
`oracle` (what must hold) and `running` (one seed from begin to end).
"""
