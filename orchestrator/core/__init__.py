"""The pure core: decisions as functions of the log. No clock, random, I/O, logging or asyncio.

`lifecycle.py` is the heart: the table of stages, the fold and what a request still owes.
"""
