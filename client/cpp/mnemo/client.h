// The client of a mnemo daemon.
//
//   auto client = Client::Connect({.target = "127.0.0.1:7070"});
//   auto match = (*client)->blocks().Match({.space = "llama", .keys = keys});
//
// Every call has a deadline. Errors of all calls, beside those of the
// contract: kDeadlineExceeded, kCancelled, kUnavailable (the daemon cannot be
// reached, or shed the call and retries did not help).
#pragma once

#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "mnemo/admin.h"
#include "mnemo/auth.h"
#include "mnemo/blocks.h"
#include "mnemo/contexts.h"
#include "mnemo/memory.h"
#include "mnemo/options.h"
#include "mnemo/types.h"

namespace mnemo::client {

class Core;  // the connection and what all calls share

// Called exactly once, on a thread of the client; must not block, and must not
// destroy the client.
template <typename T>
using Done = std::function<void(absl::StatusOr<T>)>;

// Makes and finds spaces. Thread-safe.
class Spaces {
 public:
  explicit Spaces(Core& core) : core_(core) {}

  // Gets the space of this name or creates it.
  absl::StatusOr<OpenedSpace> Open(const Space& space, bool must_exist = false,
                                   const CallOptions& options = {});
  absl::StatusOr<SpaceAndUsage> Get(const SpaceRef& space, const CallOptions& options = {});
  // All spaces, by name, however many pages that takes.
  absl::StatusOr<std::vector<SpaceAndUsage>> List(const CallOptions& options = {});
  absl::StatusOr<Space> Update(const SpaceRef& space, const SpacePolicy& policy,
                               const CallOptions& options = {});
  // Answers how many parts are gone.
  absl::StatusOr<uint64_t> Delete(const SpaceRef& space, const CallOptions& options = {});

 private:
  Core& core_;
};

// The events of a space, in order. Not thread-safe, but for Cancel. Must not
// outlive its client.
class Watch {
 public:
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;
  ~Watch();

  // Waits for the next events. Errors: kDeadlineExceeded if none came in time
  // (ask again); any other is the end of the watch: kOutOfRange (the sequence
  // is gone), kResourceExhausted (read too slowly), kCancelled.
  absl::StatusOr<std::vector<BlockEvent>> Next(Millis timeout);
  void Cancel();

  class Impl;
  explicit Watch(std::unique_ptr<Impl> impl);

 private:
  std::unique_ptr<Impl> impl_;
};

// Stores and reads blocks; each call waits for its answer. Thread-safe.
class Blocks {
 public:
  explicit Blocks(Core& core) : core_(core) {}

  absl::StatusOr<OfferResult> Offer(const OfferRequest& request, const CallOptions& options = {});
  // OK even if single parts failed, also because the call ended early: see
  // their outcomes. An error means that no part was answered.
  absl::StatusOr<PutResult> Put(const PutRequest& request, const CallOptions& options = {});
  absl::StatusOr<MatchResult> Match(const MatchRequest& request, const CallOptions& options = {});
  // OK even if single parts are missing, also because the call ended early:
  // see their status. An error means that no part was read.
  absl::StatusOr<GetResult> Get(const GetRequest& request, const CallOptions& options = {});
  // Answers how many parts are gone.
  absl::StatusOr<uint64_t> Delete(const DeleteRequest& request, const CallOptions& options = {});
  // Answers how many keys are here.
  absl::StatusOr<uint32_t> Touch(const KeysRequest& request, const CallOptions& options = {});
  // Does not wait for the disk.
  absl::StatusOr<PrefetchResult> Prefetch(const PrefetchRequest& request,
                                          const CallOptions& options = {});
  absl::StatusOr<PinResult> Pin(const KeysRequest& request, const CallOptions& options = {});
  // Answers how many parts were pinned and are not now.
  absl::StatusOr<uint64_t> Unpin(const KeysRequest& request, const CallOptions& options = {});
  // Answers how long the lease holds, in milliseconds.
  absl::StatusOr<uint32_t> Renew(uint64_t lease, uint32_t lease_ms,
                                 const CallOptions& options = {});
  absl::Status Release(uint64_t lease, const CallOptions& options = {});
  absl::StatusOr<std::vector<PartInfo>> Describe(const KeysRequest& request,
                                                 const CallOptions& options = {});
  absl::StatusOr<BlockPage> List(const ListBlocksRequest& request, const CallOptions& options = {});
  // Of one space, or of all. Answers how many parts were written because of it.
  absl::StatusOr<uint64_t> Flush(const std::optional<SpaceRef>& space = std::nullopt,
                                 const CallOptions& options = {});
  // The watch itself has no deadline; each Next has.
  absl::StatusOr<std::unique_ptr<class Watch>> Watch(const SpaceRef& space,
                                                     uint64_t from_sequence = 0);

 private:
  Core& core_;
};

// The calls of the data path without waiting. Thread-safe. A request that
// cannot be sent is answered through `done` as well, before the call returns.
class AsyncBlocks {
 public:
  explicit AsyncBlocks(Core& core) : core_(core) {}

  void Offer(const OfferRequest& request, Done<OfferResult> done, const CallOptions& options = {});
  void Put(const PutRequest& request, Done<PutResult> done, const CallOptions& options = {});
  void Match(const MatchRequest& request, Done<MatchResult> done, const CallOptions& options = {});
  void Get(const GetRequest& request, Done<GetResult> done, const CallOptions& options = {});
  void Delete(const DeleteRequest& request, Done<uint64_t> done, const CallOptions& options = {});
  void Touch(const KeysRequest& request, Done<uint32_t> done, const CallOptions& options = {});
  void Prefetch(const PrefetchRequest& request, Done<PrefetchResult> done,
                const CallOptions& options = {});
  void Pin(const KeysRequest& request, Done<PinResult> done, const CallOptions& options = {});
  void Unpin(const KeysRequest& request, Done<uint64_t> done, const CallOptions& options = {});
  void Renew(uint64_t lease, uint32_t lease_ms, Done<uint32_t> done,
             const CallOptions& options = {});
  void Describe(const KeysRequest& request, Done<std::vector<PartInfo>> done,
                const CallOptions& options = {});
  void List(const ListBlocksRequest& request, Done<BlockPage> done,
            const CallOptions& options = {});
  void Flush(const std::optional<SpaceRef>& space, Done<uint64_t> done,
             const CallOptions& options = {});

 private:
  Core& core_;
};

// Starts an asynchronous call and answers its future:
//   auto f = AsFuture<MatchResult>([&](auto done) { blocks.Match(request, std::move(done)); });
template <typename T, typename Start>
std::future<absl::StatusOr<T>> AsFuture(Start&& start) {
  auto promise = std::make_shared<std::promise<absl::StatusOr<T>>>();
  std::future<absl::StatusOr<T>> future = promise->get_future();
  start(Done<T>([promise](absl::StatusOr<T> result) { promise->set_value(std::move(result)); }));
  return future;
}

// What operators ask. Thread-safe.
class Admin {
 public:
  explicit Admin(Core& core) : core_(core) {}

  absl::StatusOr<NodeStatus> GetNodeStatus(const CallOptions& options = {});
  absl::StatusOr<std::vector<LevelInfo>> ListLevels(const CallOptions& options = {});
  absl::StatusOr<std::vector<TierInfo>> ListTiers(const CallOptions& options = {});
  absl::StatusOr<std::vector<Placement>> Explain(const ExplainRequest& request,
                                                 const CallOptions& options = {});
  absl::StatusOr<std::vector<ConfigEntry>> GetConfig(const CallOptions& options = {});

 private:
  Core& core_;
};

// Who may call: for operators, and for tenant-admins within their tenant.
// Thread-safe.
class Auth {
 public:
  explicit Auth(Core& core) : core_(core) {}

  absl::StatusOr<Tenant> CreateTenant(const std::string& name, const CallOptions& options = {});
  absl::StatusOr<std::vector<Tenant>> ListTenants(const CallOptions& options = {});
  absl::StatusOr<NewToken> CreateToken(const CreateTokenRequest& request,
                                       const CallOptions& options = {});
  absl::StatusOr<NewToken> RotateToken(const RotateTokenRequest& request,
                                       const CallOptions& options = {});
  absl::Status RevokeToken(const RevokeTokenRequest& request, const CallOptions& options = {});
  absl::StatusOr<std::vector<Principal>> ListPrincipals(const std::string& tenant,
                                                        const CallOptions& options = {});

 private:
  Core& core_;
};

// Thread-safe.
class Client {
 public:
  // Does not wait for the connection: the first call does.
  // Errors: kInvalidArgument, naming the option and its range.
  static absl::StatusOr<std::unique_ptr<Client>> Connect(const ClientOptions& options);
  // Cancels what is outstanding and waits for its callbacks.
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  Spaces spaces();
  Blocks blocks();
  AsyncBlocks async_blocks();
  Contexts contexts();
  Admin admin();
  Auth auth();

  // Memory that the daemon of this host reads and writes itself. Errors:
  // kInvalidArgument (0 bytes), kResourceExhausted.
  absl::StatusOr<std::unique_ptr<SharedMemory>> AllocateShared(size_t bytes);
  // The same of an engine's own: all of a memfd, or of another file on a tmpfs, that
  // is mapped at `mapped` from its beginning. The caller keeps both.
  absl::StatusOr<std::unique_ptr<SharedMemory>> Share(int descriptor, MutableBytes mapped);

  // Waits until the daemon can be reached. Errors: kUnavailable.
  absl::Status WaitUntilConnected(Millis timeout);

 private:
  explicit Client(std::unique_ptr<Core> core);
  std::unique_ptr<Core> core_;
};

}  // namespace mnemo::client
