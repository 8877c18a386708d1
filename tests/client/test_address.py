"""Addresses: text to value and back, and where a broker is looked for."""

import pytest

from furiosa.client.address import (
    Address,
    TcpAddress,
    UnixAddress,
    from_environment,
    in_folder,
    user_folder,
)
from furiosa.common.errors import BadArgument


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("unix:/run/b.sock", UnixAddress("/run/b.sock")),
        ("/run/b.sock", UnixAddress("/run/b.sock")),
        ("unix:///run/b.sock", UnixAddress("/run/b.sock")),  # as gRPC writes it
        ("example.org:50051", TcpAddress("example.org", 50051)),
        ("127.0.0.1:1", TcpAddress("127.0.0.1", 1)),
        ("[::1]:65535", TcpAddress("::1", 65535)),
    ],
)
def test_address_is_parsed_and_printed_back(text: str, address: Address) -> None:
    assert Address.parse(text) == address
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        *("", "unix:", "unix:relative/b.sock", "relative", "host", "host:", "host:0", ":50051"),
        *("host:65536", "host:123456", "ho st:1", "tcp://host:1", "::1:80", "unix://host/path"),
        *("host:١", "/run/b\0.sock"),
    ],
)
def test_nonsense_is_refused_by_name(text: str) -> None:
    with pytest.raises(BadArgument) as caught:
        Address.parse(text, "FURIOSA_BROKER")
    assert caught.value.argument == "FURIOSA_BROKER"
    assert repr(text) in caught.value.found


def test_handoff_socket_lies_beside_the_grpc_socket() -> None:
    assert UnixAddress("/run/b.sock").handoff == "/run/b.sock.handoff"


def test_path_may_be_as_long_as_the_kernel_allows_and_no_longer() -> None:
    longest = "/" + "p" * (107 - len("/.handoff"))
    assert Address.parse(longest) == UnixAddress(longest)
    with pytest.raises(BadArgument, match="108 bytes"):
        Address.parse(longest + "p")
    with pytest.raises(BadArgument, match="108 bytes"):
        Address.parse("/" + "ä" * 49 + "p")  # bytes count, not characters


def test_environment_variable_wins_and_an_empty_one_does_not_count() -> None:
    assert from_environment({"FURIOSA_BROKER": "/b.sock"}) == UnixAddress("/b.sock")
    assert from_environment({"FURIOSA_BROKER": ""}) is None
    assert from_environment({}) is None
    with pytest.raises(BadArgument, match="FURIOSA_BROKER"):
        from_environment({"FURIOSA_BROKER": "nonsense"})


def test_user_folder_is_in_the_runtime_folder_or_else_named_after_the_user() -> None:
    assert user_folder("/run/user/7", lambda: "/tmp", 7) == "/run/user/7/furiosa"
    assert user_folder(None, lambda: "/tmp", 7) == "/tmp/furiosa-7"


def test_folder_that_leaves_no_room_for_the_socket_is_refused() -> None:
    with pytest.raises(BadArgument, match="107 bytes"):
        in_folder("/" + "p" * 100)
