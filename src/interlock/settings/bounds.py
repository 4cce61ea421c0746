"""What a service takes and bears: sizes and times, origins of scripts, overload, rate limits."""

from datetime import timedelta
from typing import Literal

from pydantic import BaseModel, Field

from interlock.settings.values import ByteSize, Duration, Names, Origins
from interlock.url import Url


class BoundsSection(BaseModel):
    """Sizes and times, origins of scripts, overload, rate limits."""

    request_bytes: ByteSize = Field(default=4 << 20, description="The largest request message or REST body.")
    reply_bytes: ByteSize = Field(default=4 << 20, description="The largest reply message.")
    header_bytes: ByteSize = Field(default=16 << 10, description="The largest header block of a request.")
    header_fields: int = Field(default=100, ge=1, description="The most header fields of a request.")
    json_depth: int = Field(default=100, ge=1, le=200, description="The deepest nesting of a JSON body.")
    query_parameters: int = Field(default=100, ge=1, description="The most query parameters of a REST request.")
    header_timeout: Duration = Field(
        default=timedelta(seconds=10), description="How long a request head may pause while it arrives."
    )
    body_idle_timeout: Duration = Field(
        default=timedelta(seconds=60), description="How long a request body may pause while it arrives; 0: for ever."
    )
    stream_idle_timeout: Duration = Field(
        default=timedelta(minutes=5),
        description="How long a client stream or a streamed reply may be silent; 0: for ever.",
    )
    stream_heartbeat: Duration = Field(
        default=timedelta(seconds=15),
        description="How long server-sent events are silent before a comment keeps proxies awake; 0: never.",
    )
    keep_alive: Duration = Field(default=timedelta(minutes=2), description="How long an idle connection is kept open.")
    max_connections: int = Field(
        default=0, ge=0, description="Connections of one worker; 0: as many as the system allows."
    )
    max_concurrent_streams: int = Field(default=256, ge=1, description="Calls at a time on one HTTP/2 connection.")
    stream_window_bytes: ByteSize = Field(
        default=1 << 20, ge=65535, description="How much of an unread upload is held for one stream."
    )
    connection_window_bytes: ByteSize = Field(
        default=4 << 20, ge=65535, description="How much of all unread uploads is held for one connection."
    )

    cors_origins: Origins = Field(
        default=(),
        description="Origins whose scripts may call from browsers: https://a.example,http://localhost:3000, or *.",
    )
    shed: bool = Field(default=True, description="Whether an overloaded service refuses calls at once (UNAVAILABLE).")
    shed_floor: int = Field(
        default=32, ge=1, description="Calls of one worker at a time that are never refused for being many."
    )
    shed_delay: Duration = Field(
        default=timedelta(milliseconds=500),
        description="How long calls may wait for a busy event loop before some are refused; 0: for ever.",
    )
    rate_limit_by: Literal["principal", "key", "address"] = Field(
        default="principal", description="Who has a rate limit: a principal, each of its API keys, or an address."
    )
    rate_limit_redis: Url = Field(
        default=Url(""), description="Redis that keeps limits across hosts (redis://host:6379/0); empty: none."
    )
    rate_limit_without_redis: Literal["open", "closed"] = Field(
        default="open",
        description="While Redis is away: each host keeps the limits by itself (open), or refuses limited calls.",
    )
    known_callers: Names = Field(
        default=(), description="Services that are counted by name as callers of what is deprecated; the rest is other."
    )
