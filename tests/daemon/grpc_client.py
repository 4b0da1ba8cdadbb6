"""Calls the guest `grpc` as Python's grpcio does: one message, many, a failure, and many calls on one connection."""
import sys

import grpc

channel = grpc.insecure_channel(sys.argv[1])
same = {"request_serializer": None, "response_deserializer": None}

echo = channel.unary_unary("/plugind.Echo/Echo", **same)
for size in (0, 5, 100_000):
    message = b"x" * size
    assert echo(message, timeout=30) == message, size

chat = channel.stream_stream("/plugind.Echo/Echo", **same)
messages = [b"one", b"two" * 50_000, b"three"]
assert list(chat(iter(messages), timeout=30)) == messages

try:
    channel.unary_unary("/plugind.Echo/Fail", **same)(b"", timeout=30)
    raise AssertionError("it should have failed")
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.NOT_FOUND, error
    assert error.details() == "there is none", error

calls = [echo.future(b"%d" % number, timeout=30) for number in range(300)]
assert [call.result() for call in calls] == [b"%d" % number for number in range(300)]
print("all calls answered")
