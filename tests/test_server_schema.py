"""The whole OpenAPI of the service against what it does, by schemathesis."""

import re
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest
from test_server import served
from toy import ToyEmbedder, png

from indexer import Index

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "ignored_auth",
)
SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")


@pytest.mark.slow
def test_no_server_error_and_no_answer_that_is_not_described(tmp_path):
    pictures = tmp_path / "pictures"  # those that the examples speak of
    for number, name in enumerate(("boats/01.jpg", "boats/02.jpg", "other/00.jpg")):
        (pictures / name).parent.mkdir(parents=True, exist_ok=True)
        (pictures / name).write_bytes(png(number))
    index = Index.create(tmp_path / "toy.index", ToyEmbedder())
    index.add(pictures, label_from="parent", num_workers=0)
    with served(index, api_key="a key") as client:
        options = {
            "--header": "X-API-Key: a key",
            "--checks": ",".join(CHECKS),
            "--phases": "examples,coverage,fuzzing",
            "--max-examples": "20",
            "--seed": "1",
            "--generation-database": "none",
            "--suppress-health-check": "all",
        }
        description = str(client.base_url.join("/openapi.json"))
        run = subprocess.run(
            [SCHEMATHESIS, "run", description, *chain.from_iterable(options.items())],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
        )
        figures = client.get("/metrics", headers={"X-API-Key": "a key"}).text
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr
    assert "Tested: 8" in run.stdout, run.stdout
    answered = set(re.findall(r'route="([^"]+)",status="(\d+)"', figures))
    # It has not all been refused for one reason or another.
    done = {"search": "200", "recommend": "200", "feedback": "201", "images/{id:path}": "200"}
    assert {(f"/v1/{route}", status) for route, status in done.items()} <= answered
