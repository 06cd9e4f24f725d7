"""Write a set of many blocks to object storage while processes are killed and requests fail, and compare every byte.

A local S3 server stands in for the store, behind a proxy that fails a share of the requests: answers 503, drops the
connection before or after the server acts, cuts an object, or delays. Each run starts a process that writes the set,
kills it (kill -9) at random moments, starts it again until it ends, and compares all objects with a local cache.
"""

from __future__ import annotations

__all__ = ["main"]

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HELPERS = Path(__file__).parents[1] / "tests" / "helpers"
sys.path.insert(0, str(HELPERS))


def one_run(
    port: int, blocks: int, kills: int, share: float, seed: int, whole: dict[str, bytes]
) -> dict[str, object]:
    """Write a set with kills and faults; return a row of the table."""
    from object_server import caches, content_of, environment

    from featood.cache import FeatureCache
    from featood.errors import FeatoodError

    rng, done, start = random.Random(seed), 0, time.perf_counter()
    with caches(port, share, seed) as (proxy, root):
        os.environ.update(environment(proxy))
        path = os.pathsep.join([str(HELPERS.parents[1]), str(HELPERS)])
        command = [sys.executable, str(HELPERS / "object_writer.py"), root, str(blocks)]
        while True:
            process = subprocess.Popen(
                command, env={**os.environ, "PYTHONPATH": path}, stderr=subprocess.PIPE
            )
            if done < kills:
                wait_for_requests(proxy, process, rng.randint(1, 5 * blocks // max(kills, 1)))
                process.send_signal(signal.SIGKILL)
            _, err = process.communicate()
            if process.returncode == 0:
                break
            if process.returncode != -signal.SIGKILL:
                raise SystemExit(err.decode())
            done += 1
        wrong = 0
        try:
            wrong += len(FeatureCache(root).verify("net/data/train"))
        except FeatoodError:
            wrong += 1
        requests, faults = len(proxy.requests), sum(proxy.faults.values())
        retries = (
            faults - proxy.faults["delayed"]
        )  # one after each other fault, unless the process was killed
        proxy.share = 0
        found = content_of(root)
    wrong += sum(found.get(name) != whole.get(name) for name in {*found, *whole})
    return {
        "seed": seed, "blocks": blocks, "kills": done, "requests": requests, "faults": faults,
        "retries": retries, "wrong": wrong, "seconds": time.perf_counter() - start,
    }  # fmt: skip


def wait_for_requests(proxy: object, process: subprocess.Popen[bytes], count: int) -> None:
    """Wait until a process has sent some requests, or has ended."""
    before = len(proxy.requests)  # type: ignore[attr-defined]
    while len(proxy.requests) < before + count and process.poll() is None:  # type: ignore[attr-defined]
        time.sleep(0.001)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--blocks", type=int, default=50)
    parser.add_argument("--kills", type=int, default=3, help="kills in each run")
    parser.add_argument("--share", type=float, default=0.05, help="share of requests that fail")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    from common import show
    from object_server import content_of, serving
    from object_writer import write

    with tempfile.TemporaryDirectory() as folder, serving() as port:
        write(folder, options.blocks)
        whole = content_of(Path(folder))
        rows = [
            one_run(port, options.blocks, options.kills, options.share, options.seed + run, whole)
            for run in range(options.runs)
        ]
    total = {name: sum(row[name] for row in rows) for name in rows[0] if name != "seed"}  # type: ignore[misc]
    show(f"Sets of {options.blocks} blocks on object storage", [*rows, {"seed": "all", **total}])


if __name__ == "__main__":
    main()
