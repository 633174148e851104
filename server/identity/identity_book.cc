#include "server/identity/identity_book.h"

#include <fmt/format.h>

#include <algorithm>

#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

// Node-wide state has no natural shard: all of it lies in the first.
constexpr uint16_t kStateShard = 0;
constexpr char kPrincipalSuffix = 'p';
// The log tells a tenant's from a space's by the kind of the key.
constexpr OperationKind kPutState = OperationKind::kPutSpace;
constexpr OperationKind kDeleteState = OperationKind::kDeleteSpace;

StoredKey TenantKey(uint64_t tenant) {
  return StoredKey(kStateShard, KeyKind::kTenant, {.tenant = tenant}, "");
}
StoredKey PrincipalStoredKey(uint64_t tenant, const std::string& name) {
  return StoredKey(kStateShard, KeyKind::kTenant, {.tenant = tenant}, kPrincipalSuffix + name);
}

Tenant LocalTenant() {
  return {.id = kLocalTenant, .name = std::string(kLocalTenantName), .created = {}};
}

// Credentials that have no id of their own get one that anybody would compute
// alike, so that an identity stays good over a reload.
uint64_t CredentialOf(char kind, std::string_view what) {
  const Sha256Digest digest = Sha256(kind + std::string(what));
  return LoadLittle<uint64_t>(digest.data()) | 1;
}

absl::Status NoPrincipal(std::string_view name) {
  return absl::NotFoundError(fmt::format("no principal '{}' in this tenant", name));
}

absl::Status Unauthenticated(std::string_view why) {
  return absl::UnauthenticatedError(std::string(why));
}

void DropExpired(std::vector<TokenRecord>& tokens, WallTime now) {
  std::erase_if(tokens, [&](const TokenRecord& token) { return token.expires <= now; });
}

absl::Status CheckRolesGiven(RoleSet roles) {
  if (!roles.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      fmt::format("roles is empty; it must be one or more of {}", RoleSet::All().ToString()));
}

}  // namespace

size_t IdentityBook::DigestHash::operator()(const Sha256Digest& digest) const {
  return LoadLittle<size_t>(digest.data());
}

absl::StatusOr<std::unique_ptr<IdentityBook>> IdentityBook::Load(const IdentityOptions& options,
                                                                 Store& state, Clock& clock) {
  std::unique_ptr<IdentityBook> book(new IdentityBook(options, state, clock));
  std::string begin;
  AppendBig<uint16_t>(begin, kStateShard);
  begin.push_back(static_cast<char>(KeyKind::kTenant));
  std::map<std::string, Tenant, std::less<>> tenants;
  Principals principals;
  absl::Status damage;
  const auto load = [&](const StoredKey& key, std::string_view value) {
    if (key.suffix().empty()) {
      absl::StatusOr<Tenant> tenant = DecodeTenant(AsBytes(value));
      damage = tenant.status();
      if (tenant.ok()) tenants[tenant->name] = *tenant;
    } else {
      absl::StatusOr<Principal> principal = DecodePrincipal(AsBytes(value));
      damage = principal.status();
      if (principal.ok()) principals[{principal->tenant, principal->name}] = *principal;
    }
    return damage.ok();
  };
  MNEMO_RETURN_IF_ERROR(state.Scan(begin, PrefixEnd(begin), load));
  MNEMO_RETURN_IF_ERROR(damage);
  MNEMO_ASSIGN_OR_RETURN(Index index, MakeIndex(principals));
  MutexLock lock(book->mutex_);
  book->tenants_ = std::move(tenants);
  book->tenants_[std::string(kLocalTenantName)] = LocalTenant();
  book->principals_ = std::move(principals);
  book->index_ = std::move(index);
  return book;
}

absl::StatusOr<IdentityBook::Index> IdentityBook::MakeIndex(const Principals& principals) {
  Index index;
  const auto add = [&](auto& map, const auto& what, uint64_t credential, const Link& link,
                       std::string_view kind) -> absl::Status {
    if (map.emplace(what, credential).second) {
      index.credentials[credential] = link;
      return absl::OkStatus();
    }
    return absl::InvalidArgumentError(
        fmt::format("principal '{}': one of its {} is another's too, or given twice",
                    link.principal.second, kind));
  };
  for (const auto& [key, principal] : principals) {
    for (const TokenRecord& token : principal.tokens) {
      const std::string_view hash(reinterpret_cast<const char*>(token.hash.data()),
                                  token.hash.size());
      const uint64_t credential = token.id != 0 ? token.id : CredentialOf('t', hash);
      MNEMO_RETURN_IF_ERROR(
          add(index.tokens, token.hash, credential, {key, token.expires}, "tokens"));
    }
    for (const std::string& name : principal.certificates) {
      MNEMO_RETURN_IF_ERROR(
          add(index.certificates, name, CredentialOf('c', name), {key}, "certificates"));
    }
    for (const uint32_t uid : principal.uids) {
      MNEMO_RETURN_IF_ERROR(
          add(index.uids, uid, CredentialOf('u', fmt::to_string(uid)), {key}, "uids"));
    }
  }
  return index;
}

absl::StatusOr<Identity> IdentityBook::FollowLocked(uint64_t credential) const {
  const auto link = index_.credentials.find(credential);
  if (link == index_.credentials.end()) {
    return Unauthenticated("the credential is not known, or was revoked");
  }
  if (link->second.expires <= clock_.Wall()) return Unauthenticated("the token has expired");
  const Principal& principal = principals_.at(link->second.principal);
  return Identity{.tenant = principal.tenant,
                  .principal = principal.name,
                  .roles = principal.roles,
                  .credential = credential};
}

absl::StatusOr<Identity> IdentityBook::ByTokenLocked(const Sha256Digest& digest) const {
  if (const auto found = index_.tokens.find(digest); found != index_.tokens.end()) {
    return FollowLocked(found->second);
  }
  const auto session = sessions_.find(digest);
  if (session == sessions_.end()) {
    return Unauthenticated("the token is not known, or was revoked");
  }
  if (session->second.expires <= clock_.Mono()) return Unauthenticated("the token has expired");
  MNEMO_RETURN_IF_ERROR(RecheckLocked(session->second.identity));
  return session->second.identity;
}

uint64_t IdentityBook::CertificateLocked(std::span<const std::string> names) const {
  // In the order of CertificateNames: the most precise name wins.
  for (const std::string& name : names) {
    const auto found = index_.certificates.find(name);
    if (found != index_.certificates.end()) return found->second;
  }
  return 0;
}

absl::StatusOr<Identity> IdentityBook::Resolve(const Credentials& credentials) const {
  if (credentials.malformed || credentials.token.size() > kMaxTokenBytes) {
    return Unauthenticated(
        "the metadata 'authorization' is not a single \"Bearer TOKEN\" of at most 512 bytes");
  }
  const bool has_token = !credentials.token.empty();
  const Sha256Digest digest = has_token ? Sha256(credentials.token) : Sha256Digest{};
  MutexLock lock(mutex_);
  const uint64_t certificate = CertificateLocked(credentials.certificate_names);
  if (has_token) {
    MNEMO_ASSIGN_OR_RETURN(Identity identity, ByTokenLocked(digest));
    if (certificate != 0) {
      MNEMO_ASSIGN_OR_RETURN(const Identity shown, FollowLocked(certificate));
      if (shown.tenant != identity.tenant) {
        return Unauthenticated("the certificate and the token are of different tenants");
      }
    }
    return identity;
  }
  if (certificate != 0) return FollowLocked(certificate);
  if (!options_.required) return Identity{};
  return Unauthenticated(credentials.certificate_names.empty()
                             ? "no credential: show a token or a client certificate"
                             : "the client certificate belongs to no principal");
}

absl::StatusOr<Identity> IdentityBook::ResolveUid(uid_t uid) const {
  MutexLock lock(mutex_);
  const auto found = index_.uids.find(uid);
  if (found != index_.uids.end()) return FollowLocked(found->second);
  if (!options_.required) return Identity{};
  return Unauthenticated(fmt::format("no principal has the user id {}", uid));
}

absl::Status IdentityBook::CheckStream(const Identity& identity,
                                       std::span<const std::string> certificate_names) const {
  MutexLock lock(mutex_);
  if (const uint64_t certificate = CertificateLocked(certificate_names); certificate != 0) {
    MNEMO_ASSIGN_OR_RETURN(const Identity shown, FollowLocked(certificate));
    if (shown.tenant != identity.tenant) {
      return Unauthenticated("the certificate and the ticket are of different tenants");
    }
  }
  return RecheckLocked(identity);
}

absl::StatusOr<Authenticator::SessionToken> IdentityBook::IssueSession(const Identity& identity) {
  NewToken token = MakeToken();
  MutexLock lock(mutex_);
  const MonoTime now = clock_.Mono();
  std::erase_if(sessions_, [&](const auto& entry) { return entry.second.expires <= now; });
  const auto held = std::count_if(sessions_.begin(), sessions_.end(), [&](const auto& entry) {
    return entry.second.identity.tenant == identity.tenant;
  });
  if (static_cast<size_t>(held) >= options_.max_sessions_of_tenant) {
    return absl::ResourceExhaustedError(
        fmt::format("the tenant has {} session tokens, which is the most", held));
  }
  sessions_[token.hash] = {identity, now + options_.session_lifetime};
  return SessionToken{std::move(token.text), options_.session_lifetime};
}

absl::Status IdentityBook::RecheckLocked(const Identity& identity) const {
  if (identity.credential == 0) {
    return options_.required ? Unauthenticated("credentials are required") : absl::OkStatus();
  }
  MNEMO_ASSIGN_OR_RETURN(const Identity now, FollowLocked(identity.credential));
  if (now.tenant != identity.tenant || now.principal != identity.principal ||
      !now.roles.Contains(identity.roles)) {
    return Unauthenticated("the credential has lost a right that it had");
  }
  return absl::OkStatus();
}

absl::Status IdentityBook::Recheck(const Identity& identity) const {
  MutexLock lock(mutex_);
  return RecheckLocked(identity);
}

absl::Status IdentityBook::ApplyFile(const IdentityFile& file) {
  for (const FilePrincipal& entry : file) {
    MNEMO_RETURN_IF_ERROR(CheckName("tenant", entry.tenant));
    MNEMO_RETURN_IF_ERROR(CheckName("name", entry.principal.name));
    MNEMO_RETURN_IF_ERROR(CheckRolesGiven(entry.principal.roles));
    const absl::StatusOr<Tenant> made = CreateTenant(entry.tenant);
    if (!made.ok() && !absl::IsAlreadyExists(made.status())) return made.status();
  }
  MutexLock change(change_);
  MutexLock lock(mutex_);
  Principals principals = principals_;
  std::erase_if(principals, [](const auto& entry) { return entry.second.from_file; });
  for (const FilePrincipal& entry : file) {
    Principal principal = entry.principal;
    principal.tenant = tenants_.find(entry.tenant)->second.id;
    principal.from_file = true;
    const PrincipalKey key{principal.tenant, principal.name};
    const auto [at, fresh] = principals.emplace(key, std::move(principal));
    if (fresh) continue;
    if (!at->second.from_file) {
      return absl::AlreadyExistsError(
          fmt::format("principal '{}' of tenant '{}' is stored already", key.second, entry.tenant));
    }
    return absl::InvalidArgumentError(
        fmt::format("principal '{}' of tenant '{}' is there twice", key.second, entry.tenant));
  }
  MNEMO_ASSIGN_OR_RETURN(Index index, MakeIndex(principals));
  principals_ = std::move(principals);
  index_ = std::move(index);
  return absl::OkStatus();
}

absl::Status IdentityBook::PersistTenant(const Tenant& tenant) {
  StoreBatch batch;
  const StoredKey key = TenantKey(tenant.id);
  std::string record = EncodeTenant(tenant);
  batch.Log({.shard = kStateShard, .kind = kPutState, .key = key.bytes(), .payload = record});
  batch.Put(key, std::move(record));
  return state_.Apply(batch, /*sync=*/true);
}

absl::StatusOr<Tenant> IdentityBook::CreateTenant(const std::string& name) {
  MNEMO_RETURN_IF_ERROR(CheckName("name", name));
  MutexLock change(change_);
  if (TenantByName(name).ok()) {
    return absl::AlreadyExistsError(fmt::format("tenant '{}' is there already", name));
  }
  Tenant tenant{.id = RandomIdentifier(), .name = name, .created = clock_.Wall()};
  MNEMO_RETURN_IF_ERROR(PersistTenant(tenant));
  MutexLock lock(mutex_);
  tenants_[name] = tenant;
  return tenant;
}

std::vector<Tenant> IdentityBook::ListTenants() const {
  MutexLock lock(mutex_);
  std::vector<Tenant> tenants{LocalTenant()};
  for (const auto& [name, tenant] : tenants_) {
    if (tenant.id != kLocalTenant) tenants.push_back(tenant);
  }
  return tenants;
}

absl::StatusOr<Tenant> IdentityBook::TenantByName(std::string_view name) const {
  MutexLock lock(mutex_);
  const auto found = tenants_.find(name);
  if (found == tenants_.end()) return absl::NotFoundError(fmt::format("no tenant '{}'", name));
  return found->second;
}

absl::StatusOr<Tenant> IdentityBook::TenantById(uint64_t id) const {
  MutexLock lock(mutex_);
  const auto found = std::find_if(tenants_.begin(), tenants_.end(),
                                  [&](const auto& entry) { return entry.second.id == id; });
  if (found == tenants_.end()) return absl::NotFoundError("no such tenant");
  return found->second;
}

absl::Status IdentityBook::ReplacePrincipal(const PrincipalKey& key, const Principal* changed) {
  StoreBatch batch;
  const StoredKey stored = PrincipalStoredKey(key.first, key.second);
  Operation operation{
      .shard = kStateShard, .kind = kDeleteState, .key = stored.bytes(), .payload = {}};
  if (changed == nullptr) {
    batch.Delete(stored);
  } else {
    operation.kind = kPutState;
    operation.payload = EncodePrincipal(*changed);
    batch.Put(stored, operation.payload);
  }
  batch.Log(std::move(operation));
  MNEMO_RETURN_IF_ERROR(state_.Apply(batch, /*sync=*/true));
  MutexLock lock(mutex_);
  Principals principals = principals_;
  principals.erase(key);
  if (changed != nullptr) principals.emplace(key, *changed);
  MNEMO_ASSIGN_OR_RETURN(Index index, MakeIndex(principals));
  principals_ = std::move(principals);
  index_ = std::move(index);
  return absl::OkStatus();
}

absl::StatusOr<NewToken> IdentityBook::CreateToken(uint64_t tenant, const std::string& name,
                                                   RoleSet roles, WallTime expires) {
  MNEMO_RETURN_IF_ERROR(CheckName("principal", name));
  MNEMO_RETURN_IF_ERROR(CheckRolesGiven(roles));
  MutexLock change(change_);
  const PrincipalKey key{tenant, name};
  {
    MNEMO_RETURN_IF_ERROR(TenantById(tenant).status());
    MutexLock lock(mutex_);
    if (principals_.contains(key)) {
      return absl::AlreadyExistsError(
          fmt::format("principal '{}' is there already; rotate its token", name));
    }
  }
  NewToken token = MakeToken();
  const WallTime now = token.created = clock_.Wall();
  Principal principal{.tenant = tenant, .name = name, .roles = roles, .created = now};
  principal.tokens.push_back({token.id, token.hash, now, expires});
  MNEMO_RETURN_IF_ERROR(ReplacePrincipal(key, &principal));
  return token;
}

absl::StatusOr<Principal> IdentityBook::ChangeablePrincipal(const PrincipalKey& key,
                                                            RoleSet within) const {
  MutexLock lock(mutex_);
  const auto found = principals_.find(key);
  if (found == principals_.end()) return NoPrincipal(key.second);
  if (found->second.from_file) {
    return absl::FailedPreconditionError(
        fmt::format("principal '{}' is of the identity file: change it there", key.second));
  }
  if (!within.Contains(found->second.roles)) {
    return absl::PermissionDeniedError(
        fmt::format("principal '{}' has other roles than {}", key.second, within.ToString()));
  }
  return found->second;
}

absl::StatusOr<NewToken> IdentityBook::RotateToken(uint64_t tenant, const std::string& name,
                                                   WallTime expires, RoleSet within) {
  MutexLock change(change_);
  const PrincipalKey key{tenant, name};
  MNEMO_ASSIGN_OR_RETURN(Principal principal, ChangeablePrincipal(key, within));
  const WallTime now = clock_.Wall();
  DropExpired(principal.tokens, now);
  while (principal.tokens.size() >= kMaxLiveTokens) {
    principal.tokens.erase(principal.tokens.begin());
  }
  NewToken token = MakeToken();
  token.created = now;
  principal.tokens.push_back({token.id, token.hash, now, expires});
  MNEMO_RETURN_IF_ERROR(ReplacePrincipal(key, &principal));
  return token;
}

absl::Status IdentityBook::RevokeToken(uint64_t tenant, const std::string& name, uint64_t token,
                                       RoleSet within) {
  MutexLock change(change_);
  const PrincipalKey key{tenant, name};
  MNEMO_ASSIGN_OR_RETURN(Principal principal, ChangeablePrincipal(key, within));
  if (token == 0) return ReplacePrincipal(key, nullptr);
  const size_t ended = std::erase_if(principal.tokens,
                                     [&](const TokenRecord& record) { return record.id == token; });
  if (ended == 0) {
    return absl::NotFoundError(
        fmt::format("principal '{}' has no token {}", name, TokenIdText(token)));
  }
  return ReplacePrincipal(key, &principal);
}

absl::StatusOr<Principal> IdentityBook::PrincipalOf(uint64_t tenant,
                                                    const std::string& name) const {
  MutexLock lock(mutex_);
  const auto found = principals_.find({tenant, name});
  if (found == principals_.end()) return NoPrincipal(name);
  Principal principal = found->second;
  for (TokenRecord& token : principal.tokens) token.hash = {};
  return principal;
}

std::vector<Principal> IdentityBook::ListPrincipals(uint64_t tenant) const {
  std::vector<Principal> listed;
  MutexLock lock(mutex_);
  for (auto it = principals_.lower_bound({tenant, ""});
       it != principals_.end() && it->first.first == tenant; ++it) {
    listed.push_back(it->second);
    for (TokenRecord& token : listed.back().tokens) token.hash = {};
  }
  return listed;
}

}  // namespace mnemo
