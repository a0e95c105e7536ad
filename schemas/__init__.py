"""The vocabulary: every fact on every topic, and nothing that acts on one.

Read `base.py` (what a fact is and how it stands on the log), then the module of the topic you care
about: `kuro`, `evm`, `requests`, `lanes`, `dead_letters`. `topics.py` names the topics and what may
stand on each.
"""
