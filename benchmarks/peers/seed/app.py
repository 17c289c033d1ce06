"""The stack from which this project grew, newly written from its description.

FastAPI, pydantic, redis.asyncio, prometheus_client. Where the description leaves a choice, this takes the cheaper
documented one. It uses a registered script, a response header set by the endpoint instead of a middleware, and no
access log.
"""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path
from typing import Annotated

import redis.asyncio as redis
from fastapi import FastAPI, Header, HTTPException, Response
from prometheus_client import Counter, Histogram, make_asgi_app
from pydantic import BaseModel, Field

RATE, WINDOW = 1_000_000, 3600

allowed_total = Counter("ratelimiter_allowed_total", "Allowed checks", ["client_id", "endpoint"])
blocked_total = Counter("ratelimiter_blocked_total", "Blocked checks", ["client_id", "endpoint"])
redis_errors_total = Counter("ratelimiter_redis_errors_total", "Errors of Redis", ["operation"])
check_duration = Histogram("ratelimiter_check_duration_seconds", "Duration of a check")

client = redis.from_url(os.environ["REDIS_URL"])
token_bucket = client.register_script((Path(__file__).parent / "token_bucket.lua").read_text())
app = FastAPI()
app.mount("/metrics", make_asgi_app())


class Check(BaseModel):
    client_id: str = Field(min_length=1, max_length=256)
    limit_key: str = Field(default="global", min_length=1, max_length=128)
    cost: int = Field(default=1, ge=1)


class Decision(BaseModel):
    allowed: bool
    remaining: int
    retry_after_ms: int
    limit: int
    window: int
    reset_at: float


@app.post("/v1/check")
async def check(asked: Check, response: Response, x_correlation_id: Annotated[str | None, Header()] = None) -> Decision:
    response.headers["X-Correlation-ID"] = x_correlation_id or str(uuid.uuid4())
    with check_duration.time():
        decision = await decide(asked)
    total = allowed_total if decision.allowed else blocked_total
    total.labels(asked.client_id, asked.limit_key).inc()
    return decision


async def decide(asked: Check) -> Decision:
    """Decide by Redis alone, as FAIL_MODE=closed does, so that no answer of a benchmark can hide an error."""
    now = time.time()
    key = f"ratelimit:token_bucket:{asked.client_id}:{asked.limit_key}"
    try:
        allowed, remaining, wait_ms = await token_bucket(keys=[key], args=[RATE, WINDOW, asked.cost, now])
    except redis.RedisError as error:
        redis_errors_total.labels("check").inc()
        raise HTTPException(503, "Redis is not available") from error
    return Decision(
        allowed=bool(allowed),
        remaining=remaining,
        retry_after_ms=wait_ms,
        limit=RATE,
        window=WINDOW,
        reset_at=now + (RATE - remaining) * WINDOW / RATE,
    )
