"""The floor of the throughput bench: N threads that do nothing but call `converse` on one boto3
client.

    python -m bench.boto3_baseline --url http://127.0.0.1:4599 --threads 64 --calls 3000

Prints JSON: wall seconds, CPU seconds of this process, calls made. A process of its own, so that it
pays for itself only.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import threading
import time

import boto3
from botocore.config import Config

from certification.suite.case import Ref
from certification.suite.cases.gates import GATES

MODEL = "amazon.nova-micro-v1:0"


def run(url: str, threads: int, calls: int) -> dict[str, float]:
    """`calls` Converse calls by so many threads."""
    client = boto3.Session().client(
        "bedrock-runtime",
        region_name="us-east-1",
        endpoint_url=url,
        aws_access_key_id="BENCH",
        aws_secret_access_key="bench",
        config=Config(
            retries={"total_max_attempts": 1},
            max_pool_connections=threads,
            parameter_validation=False,
        ),
    )
    cases = [case.id for case in GATES if not case.whole_run and case.id not in ("G10", "G11")]
    numbers = itertools.count()
    done: list[int] = []

    def work() -> None:
        made = 0
        while (i := next(numbers)) < calls:
            _call(
                client,
                f"{'The ferry leaves at nine. ' * 12}{Ref(1000 + i, cases[i % len(cases)], 0)}",
            )
            made += 1
        done.append(made)

    _call(client, "Are you there?")  # the first call of a client reads its model from disk
    crew = [threading.Thread(target=work) for _ in range(threads)]
    before, started = _cpu(), time.perf_counter()
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    return {
        "seconds": time.perf_counter() - started,
        "cpuSeconds": _cpu() - before,
        "calls": sum(done),
    }


def _call(client: object, text: str) -> None:
    client.converse(  # type: ignore[attr-defined]
        modelId=MODEL,
        messages=[{"role": "user", "content": [{"text": text}]}],
        inferenceConfig={"maxTokens": 300},
    )


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", required=True)
    parser.add_argument("--threads", type=int, default=64)
    parser.add_argument("--calls", type=int, default=3000)
    given = parser.parse_args()
    print(json.dumps(run(given.url, given.threads, given.calls)))


if __name__ == "__main__":
    main()
