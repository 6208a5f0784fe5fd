"""Serves the demo's page: alone, to this machine unless told otherwise, with no call outside."""

import contextlib
import dataclasses
import errno
import json
import os
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence

import fastapi
import gradio as gr
import uvicorn
from starlette.responses import FileResponse, Response

from foundation.errors import InputError
from serving.demo import page
from serving.demo.page import Demo
from serving.options import DemoOptions

# A browser may fetch nothing from elsewhere, whatever a page or a library asks it to.
_POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; frame-ancestors 'self'"
)
_PLACE = "/pages/"
# What the page asks for. Gradio answers more: it would fetch other servers' files for whoever asks.
_OPEN = (
    *(_PLACE, "/assets/", "/static/", "/theme.css", "/config", "/favicon.ico", "/manifest.json"),
    *("/gradio_api/queue/", "/gradio_api/run/", "/gradio_api/upload", "/gradio_api/heartbeat/"),
    *("/gradio_api/file=", "/gradio_api/cancel", "/gradio_api/reset", "/gradio_api/startup-events"),
)
_CLOSED = "/gradio_api/file=http"
_UPLOAD = "/gradio_api/upload"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclasses.dataclass
class Server:
    """A page that is ready to be served.

    Attributes:
      address: where the browser finds it.
    """

    address: str
    _server: uvicorn.Server
    _socket: socket.socket
    _uploads: tempfile.TemporaryDirectory

    def run(self) -> None:
        """Serves until a signal, or `stop`, ends it; what was uploaded goes with it."""
        with contextlib.closing(self._socket), self._uploads:
            self._server.run(sockets=[self._socket])

    def stop(self) -> None:
        """Ends `run`, from another thread."""
        self._server.should_exit = True


def pages(options: DemoOptions) -> dict[str, str]:
    """Name of a page → where on the server it is."""
    given = {"report": options.report, "comparison": options.comparison}
    return {name: f"{_PLACE}{name}.html" for name, path in given.items() if path}


def prepare(demo: Demo, options: DemoOptions) -> Server:
    """Makes a server of a page.

    Raises:
      InputError: the address can't be had.
    """
    listening = _listening(options)
    host, port = listening.getsockname()[:2]
    uploads = tempfile.TemporaryDirectory(prefix="web_demo_")
    os.environ["GRADIO_TEMP_DIR"] = uploads.name
    app = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    _serve_pages(app, {"report": options.report, "comparison": options.comparison})
    _guard(app, uploads.name, _LOOPBACK if options.host in _LOOPBACK else ())
    app = gr.mount_gradio_app(
        app,
        page.build(demo),
        path="/",
        server_name=host,
        server_port=port,
        footer_links=[],
        show_error=False,
        max_file_size=int(options.max_megabytes * 2**20),
        ssr_mode=False,
        enable_monitoring=False,
        i18n=page.I18N,
        theme=page.THEME,
        css=page.CSS,
    )
    config = uvicorn.Config(app, log_level="warning", access_log=False)
    return Server(f"http://{host}:{port}/", uvicorn.Server(config), listening, uploads)


def _guard(app: fastapi.FastAPI, uploads: str, hosts: Sequence[str]) -> None:
    """Refuses what the page never asks for, and forbids browsers what it does not need.

    Where `hosts` are given, the page has no other name: a page of somebody else whose name leads to
    this machine would else reach it by a visitor's browser.
    """

    @app.middleware("http")
    async def guard(request: fastapi.Request, call_next):
        path = request.url.path
        if hosts and request.url.hostname not in hosts:
            return Response(status_code=421)
        if path != "/" and not path.startswith(_OPEN) or path.startswith(_CLOSED):
            return Response(status_code=404)
        if request.method != "GET" and not path.startswith(_UPLOAD):
            if not _names_uploads_alone(await request.body(), uploads):
                return Response(status_code=403)
        response = await call_next(request)
        response.headers.setdefault("Content-Security-Policy", _POLICY)
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        return response


def _names_uploads_alone(body: bytes, uploads: str) -> bool:
    """Whether each file that a request names was uploaded.

    An upload is answered with its path here, which the page sends with what it asks next. Mounted
    in another application, Gradio takes any path of this machine in its place, and any address.
    """

    def found(content: object) -> Iterator[object]:
        parts = content.items() if isinstance(content, dict) else enumerate(content)
        for name, part in parts:
            if name == "path":
                yield part
            if isinstance(part, dict | list):
                yield from found(part)

    def is_upload(path: object) -> bool:
        inside = os.path.realpath(uploads) + os.sep
        return path is None or isinstance(path, str) and os.path.realpath(path).startswith(inside)

    try:
        return all(map(is_upload, found([json.loads(body or b"null")])))
    except (ValueError, RecursionError):
        return False


def _serve_pages(app: fastapi.FastAPI, paths: Mapping[str, str | None]) -> None:
    def route(path: str):
        # It brings a policy of its own, and its script runs in the frame alone.
        headers = {"Content-Security-Policy": "sandbox allow-scripts"}
        return lambda: FileResponse(path, media_type="text/html", headers=headers)

    for name, path in paths.items():
        if path:
            app.add_api_route(f"{_PLACE}{name}.html", route(path), methods=["GET"])


def _listening(options: DemoOptions) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
        return socket.create_server((options.host, options.port), family=family)
    except OSError as error:
        # The socket module hands on the number of a name that is not found, not its exception.
        of_host = error.errno in (errno.EADDRNOTAVAIL, socket.EAI_NONAME, socket.EAI_AGAIN)
        raise InputError(
            f"{error.strerror or error}.",
            option="host" if of_host else "port",
            value=options.host if of_host else options.port,
            remedy="Name an address of this machine, or 0.0.0.0 for all of them."
            if of_host
            else "Choose another port, or 0 for any that is free.",
        ) from error
