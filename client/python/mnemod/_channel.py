"""The connection: target, options, and gRPC's errors as ours."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, List, Optional, Sequence, Tuple, Union

import grpc

from .errors import MnemoError, UnavailableError, make_error

Metadata = Sequence[Tuple[str, str]]

HEALTH_METHOD = "/grpc.health.v1.Health/Check"
PUSHBACK_TRAILER = "grpc-retry-pushback-ms"

_MIB = 1 << 20
_OPTIONS: Tuple[Tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", 16 * _MIB),
    ("grpc.max_send_message_length", 8 * _MIB),
    # Large messages in few, large pieces.
    ("grpc.http2.max_frame_size", 16 * _MIB - 1),
    ("grpc.http2.lookahead_bytes", 16 * _MIB),
    ("grpc.http2.write_buffer_size", _MIB),
    ("grpc.experimental.tcp_min_read_chunk_size", _MIB),
    ("grpc.experimental.tcp_max_read_chunk_size", 8 * _MIB),
    # A store on the same host or rack is never behind a web proxy.
    ("grpc.enable_http_proxy", 0),
    # A daemon that restarts is found again at once instead of in two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    # By its name a backoff, in fact the time that one attempt to connect gets.
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # An idle connection that the network dropped is noticed, and kept from it.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # Retries are ours: the channel's would repeat what is not idempotent.
    ("grpc.enable_retries", 0),
    # Two clients are two connections.
    ("grpc.use_local_subchannel_pool", 1),
)


@dataclass(frozen=True)
class Tls:
    """TLS of a connection; every text is PEM.

    `ca` is what the server's certificate is checked against, by default what the
    system trusts. `certificate` and `key` show who the client is, where the server
    asks. `server_name` is the name that the server's certificate must have, by
    default the host of the target.
    """

    ca: Optional[bytes] = None
    certificate: Optional[bytes] = None
    key: Optional[bytes] = field(default=None, repr=False)
    server_name: Optional[str] = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("tls: certificate and key come together or not at all")

    @classmethod
    def from_files(
        cls,
        ca: Union[str, Path, None] = None,
        certificate: Union[str, Path, None] = None,
        key: Union[str, Path, None] = None,
        server_name: Optional[str] = None,
    ) -> "Tls":
        """Reads the texts. Errors: OSError, ValueError."""
        texts = [None if path is None else Path(path).read_bytes() for path in (ca, certificate, key)]
        return cls(texts[0], texts[1], texts[2], server_name)


def with_token(metadata: Metadata, token: Optional[str]) -> Metadata:
    """Metadata that shows `token` as well. Errors: ValueError, without the token."""
    if token is None:
        return metadata
    if not token or not all("!" <= letter <= "~" for letter in token):
        raise ValueError("token: it must be printable ASCII without spaces, and not empty")
    return (*metadata, ("authorization", f"Bearer {token}"))


def channel_options(extra: Sequence[Tuple[str, Any]] = ()) -> List[Tuple[str, Any]]:
    """Options of a channel; those in `extra` win."""
    merged = dict(_OPTIONS)
    merged.update(extra)
    return list(merged.items())


def parse_target(target: str) -> str:
    """Returns the address in gRPC's words: `host:port` or `unix:/path`.

    Errors: ValueError.
    """
    if target.startswith("unix:"):
        path = target[len("unix:") :]
        path = path[2:] if path.startswith("//") else path
        if not path.startswith("/"):
            raise ValueError(f"target: {target!r} is not unix:/absolute/path")
        return f"unix:{path}"
    host, separator, port = target.rpartition(":")
    if not separator or not host or not port.isdigit() or not 0 < int(port) < 1 << 16:
        raise ValueError(f"target: {target!r} is neither host:port nor unix:/path")
    return target


def from_rpc_error(error: Any) -> MnemoError:
    """Returns our error for a `grpc.RpcError` that a call raised."""
    # A stream's error is the call itself, which its frames refer to: a cycle
    # that would keep the caller's buffers until the collector comes by.
    error.__traceback__ = None
    # gRPC's own words where HTTP/2 says ENHANCE_YOUR_CALM: the daemon's memory for
    # connections is taken. Nothing of the call was done, and no quota is full.
    if error.details() == "Received RST_STREAM with error code 11":
        return UnavailableError("the server has no memory left for this connection")
    return make_error(
        error.code().value[0], error.details() or "", _pushback(error.trailing_metadata())
    )


def _pushback(trailers: Optional[Any]) -> Optional[float]:
    for key, value in trailers or ():
        if key == PUSHBACK_TRAILER:
            try:
                return int(value) / 1000
            except ValueError:
                # By gRFC A6 a hint that cannot be read means: do not retry.
                return -1.0
    return None


def make_channel(
    target: str, credentials: Optional[Any], tls: Optional[Tls], options: Any, aio: bool
) -> Any:
    """Opens a channel; nothing is connected before the first call. Errors: ValueError."""
    address = parse_target(target)
    module = grpc.aio if aio else grpc
    extra = list(options)
    if tls is not None:
        if credentials is not None:
            raise ValueError("tls: not together with credentials")
        credentials = grpc.ssl_channel_credentials(tls.ca, tls.key, tls.certificate)
        if tls.server_name is not None:
            extra.append(("grpc.ssl_target_name_override", tls.server_name))
    if credentials is None:
        return module.insecure_channel(address, options=channel_options(extra))
    return module.secure_channel(address, credentials, options=channel_options(extra))
