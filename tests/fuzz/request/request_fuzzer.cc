// Requests as they come from a client, through conversion and validation into a
// real engine. The first byte says which. Whatever the bytes are, the answer is
// a Status, and what was asked for in vain leaves nothing.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "server/engine/admin_engine.h"
#include "server/engine/block_engine.h"
#include "server/engine/event_hub.h"
#include "server/engine/space_engine.h"
#include "server/rpc/convert.h"
#include "tests/support/block_store_fixture.h"

namespace mnemo {
namespace {

class Node {
 public:
  Node() {
    auto store = BlockStore::Open(SmallStore(dir_ / "data"), *files_, clock_,
                                  [this](const PartEvent& event) { events_.Publish(event); });
    MNEMO_CHECK(store.ok());
    store_ = *std::move(store);
    auto registry = SpaceRegistry::Load(store_->state(), clock_);
    MNEMO_CHECK(registry.ok());
    registry_ = *std::move(registry);
    spaces_ = std::make_unique<SpaceEngine>(*registry_, *store_, events_);
    blocks_ = std::make_unique<BlockEngine>(*spaces_, *store_, events_, clock_, observer_);
    for (const bool chained : {false, true}) {
      SpaceSpec spec{.name = chained ? "c" : "s", .tokens_per_block = 16,
                     .chain_affinity = chained};
      spec.groups.push_back({.name = "g", .kind = GroupKind::kOpaque, .layers = 1});
      MNEMO_CHECK(spaces_->Open(call_, spec, false).ok());
    }
  }

  void Offer(const v1::OfferRequest& in) {
    const auto parts = FromProto(in.parts());
    if (!parts.ok()) return;
    blocks_->Offer(call_, FromProto(in.space()), in.salt(), *parts, in.reservation_ms())
        .status()
        .IgnoreError();
    clock_.Advance(std::chrono::minutes(2));
    blocks_->ExpireReservations();
  }

  void Put(const v1::PutStart& in) {
    const auto request = FromProto(in);
    if (!request.ok()) return;
    auto session = blocks_->Put(call_, *request);
    if (!session.ok()) return;
    MNEMO_CHECK((*session)->verdicts().size() == request->parts.size());
    const size_t immediate = (*session)->TakeImmediateResults().size();
    std::vector<PutResult> results;
    const std::string byte = "x";
    (*session)->Data(0, 0, AsBytes(byte), results).IgnoreError();
    (*session)->Finish(results);
    MNEMO_CHECK(immediate + results.size() == request->parts.size());
  }

  void Get(const v1::GetRequest& in) {
    const auto request = FromProto(in);
    if (!request.ok()) return;
    auto session = blocks_->Get(call_, *request);
    if (!session.ok()) return;
    for (;;) {
      (*session)->NextBytes();
      const auto step = (*session)->Next();
      MNEMO_CHECK(step.ok());
      if (!step->has_value()) return;
    }
  }

  void Delete(const v1::DeleteRequest& in) {
    const auto request = FromProto(in);
    if (request.ok()) blocks_->Delete(call_, *request).status().IgnoreError();
  }

  void Match(const v1::MatchRequest& in) {
    const auto answer = blocks_->Match(call_, FromProto(in));
    if (answer.ok()) MNEMO_CHECK(answer->blocks <= static_cast<uint32_t>(in.keys_size()));
  }

  void Describe(const v1::DescribeRequest& in) {
    blocks_->Describe(call_, KeysRequestFrom(in)).status().IgnoreError();
  }

  void List(const v1::ListBlocksRequest& in) {
    ListRequest asked{.space = FromProto(in.space()),
                      .key_prefix = in.key_prefix(),
                      .page_size = in.page_size(),
                      .page_token = in.page_token()};
    if (in.has_salt()) asked.salt = in.salt();
    std::string next;
    blocks_->List(call_, asked, next).status().IgnoreError();
  }

  void OpenSpace(const v1::Space& in) {
    const auto spec = FromProto(in);
    if (!spec.ok()) return;
    const auto opened = spaces_->Open(call_, *spec, false);
    if (opened.ok() && opened->created) {
      MNEMO_CHECK(spaces_->Delete(call_, opened->space->scope.space).ok());
    }
  }

 private:
  TempDir dir_;
  FakeClock clock_;
  std::unique_ptr<FileSystem> files_ = MakePosixFileSystem();
  NullEngineObserver observer_;
  EventHub events_{1};
  CallContext call_;
  std::unique_ptr<BlockStore> store_;
  std::unique_ptr<SpaceRegistry> registry_;
  std::unique_ptr<SpaceEngine> spaces_;
  std::unique_ptr<BlockEngine> blocks_;
};

template <typename Message, typename Use>
void Parse(const uint8_t* data, size_t size, const Use& use) {
  Message message;
  if (message.ParseFromArray(data, static_cast<int>(size))) use(message);
}

}  // namespace
}  // namespace mnemo

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mnemo;
  static const auto node = std::make_unique<Node>();
  if (size == 0) return 0;
  const uint8_t kind = data[0];
  ++data;
  --size;
  switch (kind) {
    case 'o':
      Parse<v1::OfferRequest>(data, size, [](const auto& m) { node->Offer(m); });
      break;
    case 'p':
      Parse<v1::PutStart>(data, size, [](const auto& m) { node->Put(m); });
      break;
    case 'g':
      Parse<v1::GetRequest>(data, size, [](const auto& m) { node->Get(m); });
      break;
    case 'd':
      Parse<v1::DeleteRequest>(data, size, [](const auto& m) { node->Delete(m); });
      break;
    case 'm':
      Parse<v1::MatchRequest>(data, size, [](const auto& m) { node->Match(m); });
      break;
    case 'i':
      Parse<v1::DescribeRequest>(data, size, [](const auto& m) { node->Describe(m); });
      break;
    case 'l':
      Parse<v1::ListBlocksRequest>(data, size, [](const auto& m) { node->List(m); });
      break;
    case 's':
      Parse<v1::Space>(data, size, [](const auto& m) { node->OpenSpace(m); });
      break;
    default:
      break;
  }
  return 0;
}
