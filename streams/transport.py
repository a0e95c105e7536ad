"""Faust's Kafka transport, reading committed records only.

Lanes and chain followers append in transactions; what an aborted one left must never be acted on.
Faust reads committed records only under its own `exactly_once`, which this service does not use
(docs/decisions/0002-faust-without-exactly-once.md), so the isolation level is set here.
"""

from __future__ import annotations

from typing import Any

import aiokafka
from faust.transport.drivers import aiokafka as driver


class _CommittedConsumerThread(driver.AIOKafkaConsumerThread):
    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"
        return consumer


class _CommittedConsumer(driver.Consumer):
    def _new_consumer_thread(self) -> _CommittedConsumerThread:
        return _CommittedConsumerThread(self, loop=self.loop, beacon=self.beacon)


class CommittedTransport(driver.Transport):
    """Use as `app.transport`."""

    Consumer = _CommittedConsumer
