// Tenants, principals and their tokens: durable, and looked up for every call.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/identity/authenticator.h"
#include "server/identity/principal.h"
#include "server/identity/token.h"
#include "storage/base/mutex.h"
#include "storage/tier/store.h"

namespace mnemo {

// A principal as the identity file names it; Principal::tenant is not set.
struct FilePrincipal {
  std::string tenant;
  Principal principal;
};
using IdentityFile = std::vector<FilePrincipal>;

struct IdentityOptions {
  // Whether who shows nothing is refused, instead of being the local tenant's
  // "local" with every role.
  bool required = false;
  Nanos session_lifetime = std::chrono::minutes(10);
  size_t max_sessions_of_tenant = 4096;
};

// Thread-safe. A look-up takes one lock for O(1), after one SHA-256 of the token.
// Errors of changes, beside those named: those of Store.
class IdentityBook final : public Authenticator {
 public:
  // Loads what is stored. `state` and `clock` outlive it. Errors: kDataLoss.
  static absl::StatusOr<std::unique_ptr<IdentityBook>> Load(const IdentityOptions& options,
                                                            Store& state, Clock& clock);

  absl::StatusOr<Identity> Resolve(const Credentials& credentials) const override;
  absl::StatusOr<Identity> ResolveUid(uid_t uid) const override;
  absl::Status CheckStream(const Identity& identity,
                           std::span<const std::string> certificate_names) const override;
  absl::StatusOr<SessionToken> IssueSession(const Identity& identity) override;
  absl::Status Recheck(const Identity& identity) const override;

  // Puts `file` in the place of an earlier one, and makes the tenants that it
  // names. All of it or nothing. Errors: kInvalidArgument (a token, certificate or
  // uid of two principals; a principal twice), kAlreadyExists (a stored principal
  // has the name).
  absl::Status ApplyFile(const IdentityFile& file);

  // Errors: kInvalidArgument (the name), kAlreadyExists.
  absl::StatusOr<Tenant> CreateTenant(const std::string& name);
  // By name; the local tenant first.
  std::vector<Tenant> ListTenants() const;
  // Errors: kNotFound.
  absl::StatusOr<Tenant> TenantByName(std::string_view name) const;
  absl::StatusOr<Tenant> TenantById(uint64_t id) const;

  // Makes a principal with its first token. Errors: kInvalidArgument (name, no
  // roles), kAlreadyExists (rotate instead), kNotFound (no such tenant).
  absl::StatusOr<NewToken> CreateToken(uint64_t tenant, const std::string& name, RoleSet roles,
                                       WallTime expires = kNever);
  // Gives a principal one more token. The one before stays good; one older than
  // that ends. Errors: kNotFound, kFailedPrecondition (of the identity file),
  // kPermissionDenied (it has a role that is not among `within`).
  absl::StatusOr<NewToken> RotateToken(uint64_t tenant, const std::string& name,
                                       WallTime expires = kNever, RoleSet within = RoleSet::All());
  // Ends a token, or all of a principal's and the principal where `token` is 0.
  // Errors: as of RotateToken.
  absl::Status RevokeToken(uint64_t tenant, const std::string& name, uint64_t token,
                           RoleSet within = RoleSet::All());
  // By name; without the tokens' hashes. Errors: kNotFound.
  absl::StatusOr<Principal> PrincipalOf(uint64_t tenant, const std::string& name) const;
  std::vector<Principal> ListPrincipals(uint64_t tenant) const;

 private:
  using PrincipalKey = std::pair<uint64_t, std::string>;  // tenant, name
  struct DigestHash {
    size_t operator()(const Sha256Digest& digest) const;
  };
  // What a credential leads to.
  struct Link {
    PrincipalKey principal;
    WallTime expires = kNever;
  };
  struct Session {
    Identity identity;  // as of the credential that it was issued for
    MonoTime expires;
  };
  // Everything that is derived from the principals, made anew with each change.
  struct Index {
    std::unordered_map<Sha256Digest, uint64_t, DigestHash> tokens;  // to the credential
    std::unordered_map<std::string, uint64_t> certificates;
    std::unordered_map<uint32_t, uint64_t> uids;
    std::unordered_map<uint64_t, Link> credentials;
  };
  using Principals = std::map<PrincipalKey, Principal>;

  IdentityBook(const IdentityOptions& options, Store& state, Clock& clock)
      : options_(options), state_(state), clock_(clock) {}
  // Errors: kInvalidArgument (a credential that leads to two).
  static absl::StatusOr<Index> MakeIndex(const Principals& principals);
  absl::Status PersistTenant(const Tenant& tenant) ABSL_EXCLUSIVE_LOCKS_REQUIRED(change_);
  // Stores `changed` under its key, or deletes it where it is null, then shows it.
  absl::Status ReplacePrincipal(const PrincipalKey& key, const Principal* changed)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(change_);
  absl::StatusOr<Principal> ChangeablePrincipal(const PrincipalKey& key, RoleSet within) const;
  absl::StatusOr<Identity> FollowLocked(uint64_t credential) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<Identity> ByTokenLocked(const Sha256Digest& digest) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  uint64_t CertificateLocked(std::span<const std::string> names) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status RecheckLocked(const Identity& identity) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const IdentityOptions options_;
  Store& state_;
  Clock& clock_;
  // Serialises changes, and is held across the store: taken before mutex_.
  Mutex change_;
  mutable Mutex mutex_ ABSL_ACQUIRED_AFTER(change_);
  std::map<std::string, Tenant, std::less<>> tenants_ ABSL_GUARDED_BY(mutex_);
  Principals principals_ ABSL_GUARDED_BY(mutex_);
  Index index_ ABSL_GUARDED_BY(mutex_);
  std::unordered_map<Sha256Digest, Session, DigestHash> sessions_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mnemo
