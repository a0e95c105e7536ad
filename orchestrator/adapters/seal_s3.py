"""Seals in an S3 bucket: an object a day, written on the condition that there is none yet.

`If-None-Match: *` (conditional writes, S3 User Guide) makes the first writer win and lets nobody
overwrite by this code; the bucket's Object Lock and policy make it so for everybody. What stands
there after a write is read back, for a store that does not know the condition would overwrite.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import AsyncExitStack
from typing import Any

import aioboto3
from aiobotocore.config import AioConfig
from botocore.exceptions import BotoCoreError, ClientError

from orchestrator.errors import AnchorUnavailable

_AT_ONCE = 16
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_TAKEN = {"PreconditionFailed", "ConditionalRequestConflict"}
"""412: an object is there. 409: another write of it is under way, which then stands there."""
_CONFLICTS = 5


class S3Anchor:
    """`ports.SealAnchor` on `s3://bucket/prefix`. Times in seconds."""

    def __init__(
        self,
        bucket: str,
        prefix: str,
        region: str,
        *,
        endpoint_url: str | None = None,
        connect_timeout_seconds: float = 3.0,
        read_timeout_seconds: float = 30.0,
    ) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._region = region
        self._endpoint_url = endpoint_url
        self._config = AioConfig(
            connect_timeout=connect_timeout_seconds,
            read_timeout=read_timeout_seconds,
            max_pool_connections=_AT_ONCE,
            retries={"total_max_attempts": 3, "mode": "standard"},
            s3={"addressing_style": "path"} if endpoint_url else None,
        )
        self._opening = asyncio.Lock()
        self._resources = AsyncExitStack()
        self._client: Any = None
        self.name = f"s3://{bucket}/{self._prefix}".rstrip("/")

    async def days(self) -> list[str]:
        return sorted(await self._listed())

    async def read(self, day: str) -> bytes | None:
        try:
            answer = await self._call("get_object", Key=self._key(day))
            async with answer["Body"] as body:
                return bytes(await body.read())
        except ClientError as error:
            if _code(error) in ("NoSuchKey", "404"):
                return None
            raise self._unavailable(error) from None
        except (BotoCoreError, OSError) as error:
            raise self._unavailable(error) from None

    async def newest(self) -> tuple[str, bytes] | None:
        for day in reversed(await self.days()):
            document = await self.read(day)
            if document is not None:
                return day, document
        return None

    async def everything(self) -> list[tuple[str, bytes]]:
        days = await self.days()
        found: list[tuple[str, bytes]] = []
        for first in range(0, len(days), _AT_ONCE):
            some = days[first : first + _AT_ONCE]
            contents = await asyncio.gather(*(self.read(day) for day in some))
            found += [
                (self._key(day), content)
                for day, content in zip(some, contents, strict=True)
                if content is not None
            ]
        return found

    async def put(self, day: str, document: bytes) -> bytes:
        for _ in range(_CONFLICTS):
            held = await self.read(day)
            if held is not None:
                return held
            try:
                await self._call(
                    "put_object",
                    Key=self._key(day),
                    Body=document,
                    ContentType="application/json",
                    IfNoneMatch="*",
                )
            except ClientError as error:
                if _code(error) not in _TAKEN:
                    raise self._unavailable(error) from None
            except (BotoCoreError, OSError) as error:
                raise self._unavailable(error) from None
        raise AnchorUnavailable(f"{self.name}: {self._key(day)} was written and is not there")

    async def close(self) -> None:
        self._client = None
        await self._resources.aclose()

    def _key(self, day: str) -> str:
        return f"{self._prefix}{day}.json"

    async def _listed(self) -> set[str]:
        """Objects that bear a day's name; others are none of ours."""
        found: set[str] = set()
        more: dict[str, str] = {}
        try:
            while True:
                answer = await self._call("list_objects_v2", Prefix=self._prefix, **more)
                for item in answer.get("Contents", ()):
                    name = item["Key"].removeprefix(self._prefix).removesuffix(".json")
                    if _DAY.fullmatch(name) and item["Key"] == self._key(name):
                        found.add(name)
                if not answer.get("IsTruncated"):
                    return found
                more = {"ContinuationToken": answer["NextContinuationToken"]}
        except (BotoCoreError, ClientError, OSError) as error:
            raise self._unavailable(error) from None

    async def _call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        client = self._client or await self._opened()
        answer: dict[str, Any] = await getattr(client, operation)(Bucket=self._bucket, **arguments)
        return answer

    async def _opened(self) -> Any:
        async with self._opening:
            if self._client is None:
                client = aioboto3.Session().client(
                    "s3",
                    region_name=self._region,
                    endpoint_url=self._endpoint_url,
                    config=self._config,
                )
                try:
                    self._client = await self._resources.enter_async_context(client)
                except ValueError:
                    text = (
                        f"{self.name}: AWS_ENDPOINT_URL_S3 is no valid URL, or AWS_REGION no region"
                    )
                    raise AnchorUnavailable(text) from None
            return self._client

    def _unavailable(self, error: Exception) -> AnchorUnavailable:
        """By its code only: AWS's text of a refused signature quotes the canonical request."""
        what = _code(error) if isinstance(error, ClientError) else type(error).__name__
        hint = "" if what != "AccessDenied" else "; allow s3:ListBucket, GetObject and PutObject"
        return AnchorUnavailable(f"{self.name}: {what}{hint}")


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", "unknown"))
