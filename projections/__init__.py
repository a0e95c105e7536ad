"""The read side: rows folded from the log, and the HTTP API that serves them.

`consumer` reads the log, `fold` (pure) turns records into row changes, `writer` commits them
together with the offsets in one PostgreSQL transaction, `store` reads, `api` serves. Nothing here
decides anything: every table can be dropped and is rebuilt from the log.
"""
