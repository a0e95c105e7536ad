"""The parts of the demonstration as containers run them, one each: docker-compose.dev.yml.

Outside of containers the embedded stack (`orchestrator.dev.stack`) does the same with less.
"""
