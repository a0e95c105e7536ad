"""The benchmark: the service against the ceiling of the chain it relays to, on the embedded stack.

`make bench` (`python -m orchestrator.dev.bench --help`). Everything that is compared is measured in
one run, in turns, so that a busy machine slows both; what is kept for later comparison are ratios
(`history.py`). What is measured is the service as it is deployed: processes of the command line,
configured by the environment, seen from the chain, the log and /proc.
"""
