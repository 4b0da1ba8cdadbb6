"""Requests and responses as values, on top of wasi:http 0.3. It is yours to change."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import componentize_py_async_support
import wit_world
from componentize_py_types import Err, Ok
from wit_world.imports.wasi_http_types import Fields, Method_Other, Request as HttpRequest, Response as HttpResponse

# The largest body of a request. `instance-memory-max` of the manifest must suffice for several at a time.
BODY_MAX = 1 << 20


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Response:
    body: bytes | str = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


async def serve(request: HttpRequest, answer: Callable[[Request], Awaitable[Response]]) -> HttpResponse:
    """Responds with what `answer` returns. A request whose body is incomplete or too large does not reach it."""
    asked = await read(request)
    return respond(asked if isinstance(asked, Response) else await answer(asked))


async def read(request: HttpRequest) -> Request | Response:
    """Reads all of a request. Returns the response if the body is too large, or the client disconnects before its end."""
    tag = request.get_method()
    method = tag.value if isinstance(tag, Method_Other) else type(tag).__name__.removeprefix("Method_").upper()
    path = request.get_path_with_query() or "/"
    headers: dict[str, str] = {}
    for name, value in request.get_headers().copy_all():
        # Several fields of one name are one list (RFC 9110, section 5.3).
        before = headers[name] + ("; " if name == "cookie" else ", ") if name in headers else ""
        headers[name] = before + value.decode("latin-1")
    done, handled = wit_world.result_unit_wasi_http_types_error_code_future(lambda: Ok(None))
    stream, trailers = HttpRequest.consume_body(request, handled)
    body = bytearray()
    with done, stream, trailers:
        while not stream.writer_dropped:
            body += await stream.read(65536)
            if len(body) > BODY_MAX:
                return Response(f"The body of the request must have at most {BODY_MAX} bytes.\n", 413)
        if isinstance(await trailers.read(), Err):
            return Response("The body of the request is incomplete.\n", 400)
    return Request(method, path, headers, bytes(body))


def respond(response: Response) -> HttpResponse:
    """Makes a response, whose body is written once the host has it."""
    body = response.body.encode() if isinstance(response.body, str) else response.body
    headers = {"content-type": "text/plain; charset=utf-8", "content-length": str(len(body)), **response.headers}
    fields = Fields.from_list([(name, value.encode("latin-1")) for name, value in headers.items()])
    writer, stream = wit_world.byte_stream()
    _, trailers = wit_world.result_option_wasi_http_types_fields_wasi_http_types_error_code_future(
        lambda: Ok(None)
    )
    made, _sent = HttpResponse.new(fields, stream, trailers)
    made.set_status_code(response.status)

    async def write() -> None:
        with writer:
            await writer.write_all(body)

    componentize_py_async_support.spawn(write())
    return made
