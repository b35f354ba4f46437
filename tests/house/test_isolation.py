"""What the tests themselves may not do."""

from __future__ import annotations

import os
import socket

import pytest


def test_tests_have_no_network() -> None:
    """A connection that leaves this machine fails as it does on a machine without a network."""
    with socket.socket() as outgoing, pytest.raises(OSError, match="Tests have no network"):
        outgoing.connect(("192.0.2.1", 80))
    with pytest.raises(socket.gaierror, match="Tests have no network"):
        socket.getaddrinfo("layertracer.example", 443)


def test_tests_reach_loopback() -> None:
    """A server on this machine can be reached."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        assert client.getpeername() == server.getsockname()


def test_hub_is_offline() -> None:
    """Libraries of the hub are told that there is none."""
    from huggingface_hub import constants

    assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert constants.HF_HUB_OFFLINE
