"""The embedded stack: every outer system of the service, real, on this machine, without Docker.

Kafka, PostgreSQL and the chains are the real programs, taken from package registries; the KMS
endpoint and Kuro are our own servers that speak the real protocols. Start with `stack.py`.
"""
