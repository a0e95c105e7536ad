"""Commands of `orchestrator`, a module for each group, registered in `orchestrator/cli.py`. Like it
they import what they run only when they run."""
