"""The baseline of the throughput benchmark: N threads that only call `converse` on one boto3
client.

    python -m bench.boto3_baseline --url http://127.0.0.1:4599 --threads 64 --calls 3000

Prints JSON: wall seconds, CPU seconds of this process, calls made. It is a process of its own, so
that its CPU time is its own.
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
    """Make `calls` Converse calls with that many threads."""
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
    texts = texts_for(calls)
    numbers = itertools.count()
    done: list[int] = []

    def work() -> None:
        made = 0
        while (i := next(numbers)) < calls:
            call(client, texts[i])
            made += 1
        done.append(made)

    call(client, "Are you there?")  # the first call of a client reads its model from disk
    workers = [threading.Thread(target=work) for _ in range(threads)]
    before, started = cpu_seconds(), time.perf_counter()
    for thread in workers:
        thread.start()
    for thread in workers:
        thread.join()
    return {
        "seconds": time.perf_counter() - started,
        "cpuSeconds": cpu_seconds() - before,
        "calls": sum(done),
    }


def texts_for(calls: int) -> list[str]:
    """Return a prompt for each call, of the length of a gate's, that the emulator answers."""
    cases = [case.id for case in GATES if not case.whole_run and case.id not in ("G10", "G11")]
    return [
        f"{'The ferry leaves at nine. ' * 12}{Ref(1000 + i, cases[i % len(cases)], 0)}"
        for i in range(calls)
    ]


def call(client: object, text: str) -> None:
    """Call Converse with a text."""
    client.converse(  # type: ignore[attr-defined]
        modelId=MODEL,
        messages=[{"role": "user", "content": [{"text": text}]}],
        inferenceConfig={"maxTokens": 300},
    )


def cpu_seconds() -> float:
    """Return the CPU seconds of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", required=True)
    parser.add_argument("--threads", type=int, default=64)
    parser.add_argument("--calls", type=int, default=3000)
    options = parser.parse_args()
    print(json.dumps(run(options.url, options.threads, options.calls)))


if __name__ == "__main__":
    main()
