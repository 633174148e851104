"""Tenants, principals and tokens; proto/mnemo/v1/auth.proto says what each field means."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Sequence, Tuple

from ._contract import pb


class Role(IntEnum):
    """What a principal may do; no role contains another."""

    READER = 1
    WRITER = 2
    TENANT_ADMIN = 3
    OPERATOR = 4
    METRICS = 5


@dataclass(frozen=True)
class Tenant:
    """Who owns memory."""

    name: str
    id: int
    created_unix_us: int


@dataclass(frozen=True)
class TokenInfo:
    """What the daemon keeps of a token, but for its hash."""

    id: str
    created_unix_us: int
    expires_unix_us: int
    """0: never."""


@dataclass(frozen=True)
class NewToken:
    """A token that was made. `token` is told once; the daemon keeps its hash."""

    info: TokenInfo
    token: str

    def __repr__(self) -> str:
        """Without the secret, which would end up in a log."""
        return f"NewToken(info={self.info!r}, token=...)"


@dataclass(frozen=True)
class Principal:
    """Who calls. A role that this version does not know is its number."""

    name: str
    roles: Tuple[int, ...]
    tokens: Tuple[TokenInfo, ...]
    created_unix_us: int
    from_file: bool
    certificates: Tuple[str, ...]


def from_tenant(message: Any) -> Tenant:
    """Tenant."""
    return Tenant(message.name, message.id, message.created_unix_us)


def from_token_info(message: Any) -> TokenInfo:
    """TokenInfo."""
    return TokenInfo(message.id, message.created_unix_us, message.expires_unix_us)


def from_new_token(message: Any) -> NewToken:
    """CreateTokenResponse, RotateTokenResponse."""
    return NewToken(from_token_info(message.info), message.token)


def _role(number: int) -> int:
    return Role(number) if number in set(Role) else number


def from_principal(message: Any) -> Principal:
    """Principal."""
    return Principal(
        message.name,
        tuple(_role(number) for number in message.roles),
        tuple(from_token_info(token) for token in message.tokens),
        message.created_unix_us,
        message.from_file,
        tuple(message.certificates),
    )


def create_request(
    principal: str, roles: Sequence[Role], tenant: str, lifetime_seconds: int
) -> Any:
    """CreateTokenRequest."""
    return pb.CreateTokenRequest(
        tenant=tenant, principal=principal, roles=roles, lifetime_seconds=lifetime_seconds
    )
