"""Requests to a NATS server, many under way at a time: one inbox for all answers, one wait for a batch of them."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeout
from nats.js.errors import APIError

Request = tuple[str, bytes, Mapping[str, str] | None]
"""Subject, payload, headers."""


class Requests:
    """Asks and matches the answers; begun by `start`, on one connection, and good until that is closed."""

    def __init__(self, client: Client, timeout: float) -> None:
        self._client = client
        self._timeout = timeout
        self._inbox = client.new_inbox()
        self._numbers = count()
        self._asked: dict[str, asyncio.Future[Msg]] = {}

    async def start(self) -> None:
        """Listen for answers."""
        await self._client.subscribe(f"{self._inbox}.*", cb=self._answered, pending_msgs_limit=-1)

    async def ask(self, requests: Sequence[Request]) -> list[Msg]:
        """Send requests in order and return their answers; an error of NATS if one is missing after the timeout."""
        loop, names, answers = asyncio.get_running_loop(), [], []
        try:
            for subject, payload, headers in requests:
                name = f"{self._inbox}.{next(self._numbers)}"
                answer: asyncio.Future[Msg] = loop.create_future()
                self._asked[name] = answer
                names.append(name)
                answers.append(answer)
                await self._client.publish(subject, payload, reply=name, headers=dict(headers) if headers else None)
            _, late = await asyncio.wait(answers, timeout=self._timeout)
            if late:
                raise NatsTimeout
            return [each.result() for each in answers]
        finally:
            for name in names:
                self._asked.pop(name, None)

    async def ask_one(self, subject: str, payload: bytes) -> Msg:
        """Send one request and return its answer; an error of NATS if it is missing after the timeout."""
        loop = asyncio.get_running_loop()
        name = f"{self._inbox}.{next(self._numbers)}"
        answer: asyncio.Future[Msg] = loop.create_future()
        self._asked[name] = answer
        late = loop.call_later(self._timeout, _end, answer)
        try:
            await self._client.publish(subject, payload, reply=name)
            return await answer
        finally:
            late.cancel()
            self._asked.pop(name, None)

    async def store(self, requests: Sequence[Request]) -> None:
        """Send messages to their streams, in order, and return once all are stored; an error of NATS if one is not."""
        for answer in await self.ask(requests):
            if b'"error"' in answer.data:
                found: dict[str, Any] = json.loads(answer.data).get("error") or {}
                if found:
                    APIError.from_error(found)  # raises
            if not answer.data and (answer.headers or {}).get("Status") == "503":
                raise NoRespondersError

    async def _answered(self, message: Msg) -> None:
        waiting = self._asked.pop(message.subject, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(message)


def _end(answer: "asyncio.Future[Msg]") -> None:
    if not answer.done():
        answer.set_exception(NatsTimeout())
