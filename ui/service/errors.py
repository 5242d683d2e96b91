"""What the service answers when something is wrong: one JSON object, `{"error": "one line"}`, and a status."""

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from retrieval.errors import (
    BusyError,
    DamagedError,
    ImageError,
    IndexFolderError,
    LockedError,
    SpyglassError,
    UsageError,
)
from ui.printing import one_line
from ui.service.indexed_pictures import GoneError, UnknownImageError

_STATUS_OF = {  # the first that fits
    GoneError: 410,
    ImageError: 422,
    UsageError: 422,
    BusyError: 503,
    DamagedError: 503,
    LockedError: 503,
    IndexFolderError: 409,
}
_EXCERPT = 120

_log = logging.getLogger("spyglass.service")


def error_response(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """An error in the shape that all of them have; who is refused for lack of room is told to come back in 1 s."""
    headers = dict(headers or {})
    if status in (429, 503):
        headers.setdefault("Retry-After", "1")
    return JSONResponse({"error": one_line(message)}, status, headers)


def install(app: FastAPI, index_folder: str) -> None:
    """Answer every error of `app` so; where the index lies on this machine's disk is nobody's business."""

    def http_error(request: Request, error: HTTPException) -> JSONResponse:
        return error_response(error.status_code, error.detail, error.headers)

    def invalid_request(request: Request, error: RequestValidationError) -> JSONResponse:
        return error_response(422, _invalid(error.errors()[0]))

    def spyglass_error(request: Request, error: SpyglassError) -> JSONResponse:
        status = next((status for kind, status in _STATUS_OF.items() if isinstance(error, kind)), 500)
        if status >= 500 and not isinstance(error, BusyError):
            _log.error("%s %s: %s", request.method, request.url.path, error)
        return error_response(status, str(error).replace(index_folder, "the index"))

    def unexpected(request: Request, error: Exception) -> JSONResponse:
        return error_response(500, f"unexpected {type(error).__name__}; the log of the service tells more")

    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(RequestValidationError, invalid_request)
    app.add_exception_handler(UnknownImageError, lambda request, error: error_response(404, str(error)))
    app.add_exception_handler(SpyglassError, spyglass_error)
    app.add_exception_handler(Exception, unexpected)


def _invalid(problem: dict[str, Any]) -> str:
    message = problem["msg"].removeprefix("Value error, ")  # pydantic's word before ours
    if problem["type"] == "value_error" and len(problem["loc"]) == 1:
        return message  # of the request as a whole: it says what was expected
    place = ".".join(str(part) for part in problem["loc"][1:]) or str(problem["loc"][0])
    arrived = repr(problem.get("input"))
    arrived = arrived if len(arrived) <= _EXCERPT else f"{arrived[:_EXCERPT]}…"
    return f"expected a valid {place}, got {arrived}: {message}"
