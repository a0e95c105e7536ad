"""A typed client of the API, for asyncio.

    async with Client("http://127.0.0.1:3000", token="sco_…") as api:
        status = await api.status("m-1")
        print(status.status, (await api.explain("m-1")).summary)

It waits when the API asks to (429, 503 with Retry-After), within a patience; it pages by itself;
and its feed goes on after a break where it was. docs/client.md has more.
"""

from orchestrator.client import models
from orchestrator.client.api import Client, Filters
from orchestrator.client.asking import ApiError, ApiUnavailable
from orchestrator.client.feed import FeedItem, FeedLost

__all__ = ["ApiError", "ApiUnavailable", "Client", "FeedItem", "FeedLost", "Filters", "models"]
