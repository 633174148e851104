"""The calls of AuthService."""

from __future__ import annotations

from typing import Optional, Sequence, Tuple

from . import auth
from ._contract import pb
from ._transport import Transport


class Auth:
    """The calls of AuthService, of a Client's `auth`. Thread-safe.

    `tenant` may be empty: the caller's own. `lifetime_seconds` 0: without end.
    What makes something is never retried, because a second token for a repeated
    call would end one that is in use. Every call raises MnemoError.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create_tenant(self, name: str, *, deadline: Optional[float] = None) -> auth.Tenant:
        """Makes a tenant."""
        request = pb.CreateTenantRequest(name=name)
        answer = self._transport.call("AuthService.CreateTenant", request, deadline, False)
        return auth.from_tenant(answer.tenant)

    def tenants(self, *, deadline: Optional[float] = None) -> Tuple[auth.Tenant, ...]:
        """All tenants."""
        answer = self._transport.call("AuthService.ListTenants", pb.ListTenantsRequest(), deadline)
        return tuple(auth.from_tenant(tenant) for tenant in answer.tenants)

    def create_token(
        self,
        principal: str,
        roles: Sequence[auth.Role],
        *,
        tenant: str = "",
        lifetime_seconds: int = 0,
        deadline: Optional[float] = None,
    ) -> auth.NewToken:
        """Makes a principal and its first token."""
        request = auth.create_request(principal, roles, tenant, lifetime_seconds)
        answer = self._transport.call("AuthService.CreateToken", request, deadline, False)
        return auth.from_new_token(answer)

    def rotate_token(
        self,
        principal: str,
        *,
        tenant: str = "",
        lifetime_seconds: int = 0,
        deadline: Optional[float] = None,
    ) -> auth.NewToken:
        """Makes a second token; the one before lives until the next rotation."""
        request = pb.RotateTokenRequest(
            tenant=tenant, principal=principal, lifetime_seconds=lifetime_seconds
        )
        answer = self._transport.call("AuthService.RotateToken", request, deadline, False)
        return auth.from_new_token(answer)

    def revoke_token(
        self,
        principal: str,
        token_id: str = "",
        *,
        tenant: str = "",
        deadline: Optional[float] = None,
    ) -> None:
        """Ends a token at once; without an id all of them, and the principal."""
        request = pb.RevokeTokenRequest(tenant=tenant, principal=principal, token_id=token_id)
        self._transport.call("AuthService.RevokeToken", request, deadline, False)

    def principals(
        self, *, tenant: str = "", deadline: Optional[float] = None
    ) -> Tuple[auth.Principal, ...]:
        """The principals of a tenant."""
        request = pb.ListPrincipalsRequest(tenant=tenant)
        answer = self._transport.call("AuthService.ListPrincipals", request, deadline)
        return tuple(auth.from_principal(principal) for principal in answer.principals)
