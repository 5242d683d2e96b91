"""The service under load: many clients at once with batching, beside one client at a time without.

spyglass index caltech101-00.parquet --index caltech101.index
python tests/benchmarks/serve_load.py caltech101.index [--clients 32] [--seconds 60] [--out FILE.json]

It starts `spyglass serve` itself, on the loopback address, twice: as it is by default for the many clients, and with
batching off for the one. Queries are pictures of the index, uploaded; each client keeps its connection. Throughput is
the median over `--rounds` of both, taken in turns, so that a machine that slows down slows down both.
"""

import argparse
import http.client
import itertools
import json
import os
import shlex
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from indexer import Index

NUM_PICTURES = 512
WARM_UP_SECONDS = 3.0
BOUNDARY = "spyglass-load"
BATCHING_OFF = ("--batch-ms", "0", "--max-batch", "1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index", type=Path)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=60.0, help="of the many clients, and as much of the one")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="keep the figures as JSON")
    arguments = parser.parse_args()
    bodies = upload_bodies(arguments.index)
    rounds = {"many": [], "one": []}
    with served(arguments.index) as many, served(arguments.index, *BATCHING_OFF) as one:
        for url in (many, one):
            load(url, bodies, num_clients=4, seconds=WARM_UP_SECONDS)
        for _ in range(arguments.rounds):
            seconds = arguments.seconds / arguments.rounds
            rounds["many"].append(load(many, bodies, num_clients=arguments.clients, seconds=seconds))
            rounds["one"].append(load(one, bodies, num_clients=1, seconds=seconds))
    figures = {name: summary(parts) for name, parts in rounds.items()}
    ratio = figures["many"]["requests_per_second"] / figures["one"]["requests_per_second"]
    result = {
        "command": shlex.join(["python", "tests/benchmarks/serve_load.py", *sys.argv[1:]]),
        "images": Index.open(arguments.index).info()["images"],
        "cores": os.cpu_count(),
        "clients": arguments.clients,
        "seconds": arguments.seconds,
        "with_batching": figures["many"],
        "one_client_without_batching": figures["one"],
        "ratio": round(ratio, 2),
    }
    print(json.dumps(result, indent=1))
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


def upload_bodies(folder: Path) -> list[bytes]:
    """Ready-made request bodies, so that making them takes no time from the service: the two share the machine."""
    index = Index.open(folder)
    uris = index.catalog()["uri"].sample(NUM_PICTURES, random_state=0, replace=True)
    return [upload_body(index.read_image(uri)) for uri in uris]


def upload_body(picture: bytes) -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="query"\r\n\r\n'
    return head.encode() + picture + f"\r\n--{BOUNDARY}--\r\n".encode()


@contextmanager
def served(folder: Path, *options: str) -> Iterator[str]:
    """The address of a service of its own."""
    command = [sys.executable, "-m", "ui.cli", "serve", "--index", str(folder), "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        url = process.stdout.readline().strip()
        if not url:
            raise SystemExit(f"expected the service to start, but it ended with {process.wait()}")
        yield url
    finally:
        process.terminate()
        process.wait(timeout=20)


def load(url: str, bodies: list[bytes], *, num_clients: int, seconds: float) -> dict:
    """What `num_clients` clients, each asking again as soon as it is answered, saw within `seconds`."""
    place = urlsplit(url)
    numbers = itertools.count()
    latencies: list[list[float]] = [[] for _ in range(num_clients)]
    errors: list[str] = []
    started = time.perf_counter()
    due = started + seconds

    def run(own: list[float]) -> None:
        connection = http.client.HTTPConnection(place.hostname, place.port, timeout=60)
        headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        while (asked := time.perf_counter()) < due:
            try:
                connection.request("POST", "/v1/search", bodies[next(numbers) % len(bodies)], headers)
                response = connection.getresponse()
                answer = response.read()
            except (OSError, http.client.HTTPException) as error:
                errors.append(repr(error))
                connection.close()
                continue
            if response.status != 200 or b'"rank":1,' not in answer:
                errors.append(f"{response.status} {answer[:200]!r}")
            own.append(time.perf_counter() - asked)
        connection.close()

    threads = [threading.Thread(target=run, args=(own,)) for own in latencies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {
        "seconds": time.perf_counter() - started,
        "latencies": [latency for own in latencies for latency in own],
        "errors": errors,
    }


def summary(rounds: list[dict]) -> dict:
    latencies = sorted(latency for part in rounds for latency in part["latencies"])
    errors = [error for part in rounds for error in part["errors"]]
    return {
        "requests": len(latencies),
        "errors": len(errors),
        "first_errors": errors[:3],
        "requests_per_second": round(statistics.median(len(p["latencies"]) / p["seconds"] for p in rounds), 2),
        "p50_ms": round(1000 * latencies[len(latencies) // 2], 1),
        "p99_ms": round(1000 * latencies[min(len(latencies) - 1, int(0.99 * len(latencies)))], 1),
        "max_ms": round(1000 * latencies[-1], 1),
    }


if __name__ == "__main__":
    main()
