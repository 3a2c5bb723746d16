"""A peer of the throughput benchmark: N tasks on one event loop that only call `converse` on one
aiobotocore client. Runs in an environment of its own; see `bench.peers`.

Takes JSON on standard input: url, inFlight, texts, model. Prints JSON as `bench.boto3_baseline`.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session


async def run(url: str, in_flight: int, texts: list[str], model: str) -> dict[str, float]:
    """Call Converse with every text, so many at once."""
    config = AioConfig(
        retries={"total_max_attempts": 1},
        max_pool_connections=in_flight,
        parameter_validation=False,
    )
    async with get_session().create_client(
        "bedrock-runtime",
        region_name="us-east-1",
        endpoint_url=url,
        aws_access_key_id="BENCH",
        aws_secret_access_key="bench",
        config=config,
    ) as client:
        waiting = iter(texts)

        async def work() -> None:
            for text in waiting:
                await call(client, model, text)

        await call(client, model, "Are you there?")
        before, started = cpu_seconds(), time.perf_counter()
        await asyncio.gather(*(work() for _ in range(in_flight)))
        seconds = time.perf_counter() - started
    return {"seconds": seconds, "cpuSeconds": cpu_seconds() - before, "calls": len(texts)}


async def call(client: Any, model: str, text: str) -> None:
    await client.converse(
        modelId=model,
        messages=[{"role": "user", "content": [{"text": text}]}],
        inferenceConfig={"maxTokens": 300},
    )


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    options = json.load(sys.stdin)
    print(
        json.dumps(
            asyncio.run(
                run(options["url"], options["inFlight"], options["texts"], options["model"])
            )
        )
    )
