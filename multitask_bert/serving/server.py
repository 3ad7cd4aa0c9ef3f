"""Listens on a port, and runs the application there until it is asked to stop."""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from multitask_bert.config.schema import ServeConfig
from multitask_bert.errors import InputError
from multitask_bert.utils.terminal import make_console

if TYPE_CHECKING:
    from fastapi import FastAPI

log = logging.getLogger(__name__)

LOOPBACK = ("127.0.0.1", "localhost", "::1")
MAX_CONNECTIONS = 1000


@contextmanager
def listen(config: ServeConfig) -> Iterator[socket.socket]:
    """The socket that requests arrive on.

    Raises:
        InputError: the port is in use, or the address is not one of this machine.
    """
    try:
        family = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((config.host, config.port), family=family, backlog=2048)
    except PermissionError as error:
        raise InputError(f"serve.port={config.port}: not allowed for this user; choose one above 1023") from error
    except socket.gaierror as error:
        raise InputError(f"serve.host={config.host}: no such address ({error.strerror})") from error
    except OSError as error:
        where = f"serve.host={config.host} serve.port={config.port}"
        raise InputError(
            f"{where}: cannot listen ({os.strerror(error.errno or 0)}); choose another port, or 0 for a free one"
        ) from error
    # Connections inherit it. asyncio sets it only for sockets that name their protocol, and without it a client waits
    # some 40 ms for the second part of an answer.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with listener:
        yield listener


def run_server(app: FastAPI, listener: socket.socket, config: ServeConfig, *, name: str) -> None:
    """Answer requests until SIGINT or SIGTERM; those that have arrived are answered before it returns."""
    import uvicorn

    host, port = listener.getsockname()[:2]
    if host not in LOOPBACK:
        log.warning("serve.host=%s: whoever reaches this machine can use the model; put a proxy in front", config.host)
    shown_host = f"[{host}]" if ":" in host else host
    make_console().print(
        f"Serving      {name} on http://{shown_host}:{port} (a page), POST /predict, /health, /metrics, /openapi.json; "
        "Ctrl-C stops",
        highlight=False,
        soft_wrap=True,
    )
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_config=None,  # Hydra has configured logging
            access_log=False,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_graceful_shutdown=int(config.timeout) + 1,
        )
    )
    for stop in (signal.SIGINT, signal.SIGTERM):  # uvicorn raises them again once it has stopped
        signal.signal(stop, lambda *_: None)
    server.run(sockets=[listener])
