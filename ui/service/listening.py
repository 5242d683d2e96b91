"""The address that a service listens on."""

import ipaddress
import os
import socket

from retrieval.errors import UsageError


def is_loopback(host: str) -> bool:
    """Whether a host, by name or number, is reached from this machine alone; raises `UsageError` for an unknown one."""
    _, address = _resolve(host, 0)
    return ipaddress.ip_address(address[0].partition("%")[0]).is_loopback


def listen(host: str, port: int) -> socket.socket:
    """A socket that takes connections from now on, on a free port for 0; raises `UsageError` where it may not."""
    family, address = _resolve(host, port)
    try:
        return socket.create_server(address, family=family, backlog=2048)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error  # its own words tell the address once more
        raise UsageError(
            f"expected to listen on port {port} of {host}, but cannot: {reason}; choose another --port"
        ) from None


def url_of(listening: socket.socket) -> str:
    """How a client on this machine, or one that knows a better name for it, writes the address."""
    host, port, *_ = listening.getsockname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, tuple]:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"expected --host as an address of this machine, got {host!r}: {reason}") from None
    return family, address
