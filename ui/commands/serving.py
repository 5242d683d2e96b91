"""The command `spyglass serve`."""

import os
from typing import Annotated

import typer

from retrieval.errors import MissingExtraError, UsageError
from ui.opening import open_index
from ui.options import Device, IndexFolder, ModelPlace, OnDevice

_RATE_ELSEWHERE = 50.0


def serve(
    index: IndexFolder,
    host: Annotated[
        str, typer.Option("--host", help="The address to listen on; others than loopback need a key.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes one that is free.")] = 8000,
    rate: Annotated[
        float | None,
        typer.Option(
            "--rate",
            metavar="N",
            min=0.0,
            help="Requests a second of one client, 0 for any number.  [default: 50; on loopback, 0]",
        ),
    ] = None,
    max_upload: Annotated[int, typer.Option("--max-upload", metavar="MIB", min=1, help="The longest request.")] = 20,
    max_pixels: Annotated[
        int, typer.Option("--max-pixels", metavar="N", min=1, help="Of the largest picture in a request.")
    ] = 50_000_000,
    batch_ms: Annotated[
        float,
        typer.Option("--batch-ms", metavar="MS", min=0.0, help="How long a query waits for others to join it."),
    ] = 3.0,
    max_batch: Annotated[
        int, typer.Option("--max-batch", metavar="N", min=1, help="Queries that go through the model at once.")
    ] = 32,
    model: ModelPlace = None,
    device: OnDevice = Device.auto,
) -> None:
    """Answer searches over HTTP until told to stop; the API is described at /docs.

    Prints the address once it can be asked. On an address that other machines reach, clients must send the key that
    the environment variable SPYGLASS_API_KEY holds, as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'. What is
    added to the index meanwhile is found within seconds. SIGTERM lets requests in flight finish first.

    \b
    Examples:
      spyglass serve --index photos.index
      SPYGLASS_API_KEY=$(openssl rand -hex 32) spyglass serve --index photos.index --host 0.0.0.0 --port 8080
    """
    _require_extra()

    from ui import server_process
    from ui.service.config import MIB, ServiceConfig
    from ui.service.listening import is_loopback, listen

    key = os.environ.get("SPYGLASS_API_KEY") or None
    on_loopback = is_loopback(host)
    if key is None and not on_loopback:
        raise UsageError(
            f"expected an API key in SPYGLASS_API_KEY to listen on {host}, which other machines may reach, got none; "
            "set one, or leave --host at 127.0.0.1"
        )
    if rate is None:
        rate = 0.0 if on_loopback else _RATE_ELSEWHERE
    config = ServiceConfig(
        api_key=key,
        max_upload_bytes=max_upload * MIB,
        max_pixels=max_pixels,
        requests_per_second=rate,
        batch_milliseconds=batch_ms,
        max_batch=max_batch,
    )
    server_process.run(open_index(index, device, model=model), config, listen(host, port))


def _require_extra() -> None:
    try:
        import fastapi  # noqa: F401
        import fastapi_offline  # noqa: F401
        import prometheus_client  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            f"expected the packages of an HTTP service, found no {error.name}; "
            "install them with: pip install 'spyglass-image-search[serve]'"
        ) from None
