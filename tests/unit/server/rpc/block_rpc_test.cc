#include <algorithm>

#include "tests/unit/server/rpc/rpc_fixture.h"

namespace mnemo {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr auto kInvalid = grpc::StatusCode::INVALID_ARGUMENT;

class BlockRpcTest : public RpcTest {
 protected:
  explicit BlockRpcTest(const BlockStoreOptions& store = SmallStore("")) : RpcTest({}, store) {
    Open(OpaqueSpace());
  }

  template <typename Request>
  Request KeysOf(const std::vector<std::string>& keys) {
    Request request;
    *request.mutable_space() = Ref("opaque");
    for (const std::string& key : keys) request.mutable_keys()->add_keys(key);
    return request;
  }
  v1::MatchRequest MatchOf(const std::string& space, const std::vector<std::string>& keys) {
    v1::MatchRequest request;
    *request.mutable_space() = Ref(space);
    for (const std::string& key : keys) request.add_keys(key);
    return request;
  }
  grpc::Status Pin(const std::vector<std::string>& keys, v1::PinResponse* response) {
    grpc::ClientContext context;
    return blocks_->Pin(&context, KeysOf<v1::PinRequest>(keys), response);
  }
  grpc::Status Delete(const v1::DeleteRequest& request, v1::DeleteResponse* response) {
    grpc::ClientContext context;
    return blocks_->Delete(&context, request, response);
  }
  grpc::Status Describe(const std::vector<std::string>& keys, v1::DescribeResponse* response) {
    grpc::ClientContext context;
    return blocks_->Describe(&context, KeysOf<v1::DescribeRequest>(keys), response);
  }
};

TEST_F(BlockRpcTest, OfferSaysWhatToSend) {
  PutOpaque("here", Bytes(1, 100));
  v1::OfferRequest request;
  *request.mutable_space() = Ref("opaque");
  for (const char* key : {"here", "new", ""}) {
    v1::PartOffer* part = request.add_parts();
    part->set_key(key);
    part->set_size(100);
  }
  for (const bool first : {true, false}) {
    grpc::ClientContext context;
    v1::OfferResponse response;
    ASSERT_THAT(blocks_->Offer(&context, request, &response), GrpcOk());
    EXPECT_EQ(response.verdicts(0).verdict(), v1::VERDICT_PRESENT);
    EXPECT_EQ(response.verdicts(0).digest().high(), DigestOf(AsBytes(Bytes(1, 100))).high);
    EXPECT_EQ(response.verdicts(1).verdict(), first ? v1::VERDICT_WANT : v1::VERDICT_PENDING);
    EXPECT_EQ(response.verdicts(2).verdict(), v1::VERDICT_REFUSED);
    EXPECT_THAT(response.verdicts(2).reason().message(), HasSubstr("1 to 64"));
    EXPECT_EQ(response.reservation() != 0, first);
  }
}

TEST_F(BlockRpcTest, OfferRangesAreNamed) {
  const auto refused = [this](const v1::OfferRequest& request, const std::string& says) {
    grpc::ClientContext context;
    v1::OfferResponse response;
    EXPECT_THAT(blocks_->Offer(&context, request, &response), GrpcIs(kInvalid, HasSubstr(says)));
  };
  v1::OfferRequest request;
  *request.mutable_space() = Ref("opaque");
  refused(request, "parts holds 0; it must hold 1 to 4096");
  request.add_parts()->set_key("k");
  request.set_reservation_ms(60001);
  refused(request, "reservation_ms is 60001; it must be at most 60000");
  request.set_reservation_ms(0);
  request.mutable_parts(0)->mutable_part()->set_pp_rank(64);
  refused(request, "parts[0].pp_rank is 64; it must be at most 63");
}

TEST_F(BlockRpcTest, MatchFindsTheLongestPrefix) {
  for (const char* key : {"a", "b", "d"}) PutOpaque(key, Bytes(1, 1000));
  v1::MatchRequest request = MatchOf("opaque", {"a", "b", "c", "d"});
  request.set_want_bitmap(true);
  v1::MatchResponse response;
  ASSERT_THAT(Match(request, &response), GrpcOk());
  EXPECT_EQ(response.blocks(), 2u);
  EXPECT_EQ(response.tokens(), 32u);
  EXPECT_EQ(response.fetch_bytes(), 2000u);
  EXPECT_EQ(response.present(), std::string(1, 0b1011));
  ASSERT_EQ(response.runs_size(), 1);
  EXPECT_EQ(response.runs(0).count(), 2u);
  EXPECT_EQ(response.runs(0).level(), v1::LEVEL_L1);
  ASSERT_EQ(response.groups_size(), 1);
  EXPECT_EQ(response.groups(0).blocks(), 2u);
  EXPECT_EQ(response.lease(), 0u);
}

TEST_F(BlockRpcTest, MatchMarksWhatIsBeingWritten) {
  PutOpaque("a", "x");
  grpc::ClientContext offer_context;
  v1::OfferRequest offer;
  *offer.mutable_space() = Ref("opaque");
  offer.add_parts()->set_key("b");
  offer.mutable_parts(0)->set_size(1);
  v1::OfferResponse offered;
  ASSERT_THAT(blocks_->Offer(&offer_context, offer, &offered), GrpcOk());
  v1::MatchResponse response;
  ASSERT_THAT(Match(MatchOf("opaque", {"a", "b", "c"}), &response), GrpcOk());
  EXPECT_EQ(response.blocks(), 1u);
  EXPECT_THAT(response.pending(), ElementsAre(1));
}

TEST_F(BlockRpcTest, MatchOfAWindowNeedsItsLastBlocksAlone) {
  Open(KvSpace());
  v1::PartId window;
  window.set_group(1);
  std::vector<ClientPart> parts;
  for (const char* key : {"a", "b", "c", "d"}) {
    parts.push_back({.key = key, .bytes = Bytes(1, kPartBytes)});
  }
  for (const char* key : {"b", "c"}) {
    parts.push_back({.key = key, .part = window, .bytes = Bytes(2, kPartBytes)});
  }
  ASSERT_THAT(Put("kv", parts).status, GrpcOk());
  v1::MatchRequest request = MatchOf("kv", {"a", "b", "c", "d"});
  v1::MatchResponse response;
  ASSERT_THAT(Match(request, &response), GrpcOk());
  EXPECT_EQ(response.blocks(), 4u);  // the window is optional
  request.add_groups(0);
  request.add_groups(1);
  ASSERT_THAT(Match(request, &response), GrpcOk());
  EXPECT_EQ(response.blocks(), 3u);
  EXPECT_EQ(response.fetch_bytes(), (3 + 2) * kPartBytes);
}

TEST_F(BlockRpcTest, MatchOfFourThousandKeysAcrossSteps) {
  std::vector<std::string> keys;
  std::vector<ClientPart> parts;
  for (int i = 0; i < 2600; ++i) {
    keys.push_back(std::string(30, 'k') + std::to_string(100000 + i));
    if (i >= 2500) continue;
    parts.push_back({.key = keys.back(), .bytes = "x", .depth = static_cast<uint32_t>(i)});
    if (parts.size() == 1000 || i == 2499) {
      ASSERT_THAT(Put("opaque", parts).status, GrpcOk());
      parts.clear();
    }
  }
  v1::MatchRequest request = MatchOf("opaque", keys);
  request.set_lease_ms(1000);
  v1::MatchResponse response;
  ASSERT_THAT(Match(request, &response), GrpcOk());
  EXPECT_EQ(response.blocks(), 2500u);
  EXPECT_NE(response.lease(), 0u);
  EXPECT_EQ(response.lease_ms(), 1000u);
}

TEST_F(BlockRpcTest, APeekDoesNotCountAsAUse) {
  PutOpaque("a", "x");
  const auto uses = [&] {
    v1::DescribeResponse described;
    EXPECT_THAT(Describe({"a"}, &described), GrpcOk());
    return described.parts_size() == 1 ? described.parts(0).uses() : 0;
  };
  const uint64_t before = uses();
  v1::MatchRequest request = MatchOf("opaque", {"a"});
  request.set_peek(true);
  v1::MatchResponse response;
  ASSERT_THAT(Match(request, &response), GrpcOk());
  EXPECT_EQ(response.blocks(), 1u);
  EXPECT_EQ(uses(), before);
  request.set_peek(false);
  ASSERT_THAT(Match(request, &response), GrpcOk());
  EXPECT_GT(uses(), before);
}

TEST_F(BlockRpcTest, MatchRefusesARankThatTheGroupDoesNotHave) {
  v1::Space space = KvSpace("split");
  for (v1::Group& group : *space.mutable_groups()) group.set_tensor_parallel_size(2);
  Open(space);
  v1::MatchResponse response;
  v1::MatchRequest request = MatchOf("split", {"a"});
  request.add_tp_ranks(1);
  EXPECT_THAT(Match(request, &response), GrpcOk());
  request.add_tp_ranks(2);
  EXPECT_THAT(Match(request, &response),
              GrpcIs(kInvalid, HasSubstr("tp_ranks has 2; it must be below 2")));
}

TEST_F(BlockRpcTest, MatchRangesAreNamed) {
  v1::MatchResponse response;
  EXPECT_THAT(Match(MatchOf("opaque", {}), &response),
              GrpcIs(kInvalid, HasSubstr("keys holds 0; it must hold 1 to 65536")));
  EXPECT_THAT(Match(MatchOf("opaque", {"a", std::string(65, 'k')}), &response),
              GrpcIs(kInvalid, HasSubstr("keys[1] is 65 bytes long; it must be 1 to 64")));
  v1::MatchRequest request = MatchOf("opaque", {"a"});
  request.set_lease_ms(60001);
  EXPECT_THAT(Match(request, &response), GrpcIs(kInvalid, HasSubstr("lease_ms is 60001")));
  request = MatchOf("opaque", {"a"});
  request.add_groups(1);
  EXPECT_THAT(Match(request, &response), GrpcIs(kInvalid, HasSubstr("groups has 1")));
  request = MatchOf("opaque", {"a"});
  request.set_salt(std::string(129, 's'));
  EXPECT_THAT(Match(request, &response), GrpcIs(kInvalid, HasSubstr("salt")));
}

TEST_F(BlockRpcTest, TheLargestMatchFitsTheReceiveLimit) {
  v1::Space chained = OpaqueSpace("chained");
  chained.set_chain_affinity(true);
  Open(chained);
  v1::MatchRequest request = MatchOf("chained", {});
  for (int i = 0; i < 65536; ++i) {
    request.add_keys(std::string(64, 'k'));
    request.add_stretches(std::string(64, 's'));
  }
  v1::MatchResponse response;
  EXPECT_THAT(Match(request, &response), GrpcOk());
  request.add_keys("one more");
  request.add_stretches("s");
  EXPECT_THAT(Match(request, &response), GrpcIs(kInvalid, HasSubstr("keys holds 65537")));
}

TEST_F(BlockRpcTest, ALeaseIsRenewedAndReleased) {
  PutOpaque("a", "x");
  v1::MatchRequest request = MatchOf("opaque", {"a"});
  request.set_lease_ms(1000);
  v1::MatchResponse matched;
  ASSERT_THAT(Match(request, &matched), GrpcOk());
  const auto renew = [&](uint32_t lease_ms, uint64_t lease) {
    grpc::ClientContext context;
    v1::RenewRequest asked;
    asked.set_lease(lease);
    asked.set_lease_ms(lease_ms);
    v1::RenewResponse response;
    return blocks_->Renew(&context, asked, &response);
  };
  EXPECT_THAT(renew(5000, matched.lease()), GrpcOk());
  EXPECT_THAT(renew(60001, matched.lease()), GrpcIs(kInvalid, HasSubstr("lease_ms is 60001")));
  EXPECT_THAT(renew(0, matched.lease()), GrpcOk());
  EXPECT_THAT(renew(5000, matched.lease()), GrpcIs(grpc::StatusCode::NOT_FOUND, testing::_));
}

TEST_F(BlockRpcTest, PinsTouchesAndDescribes) {
  PutOpaque("a", Bytes(1, 5000));
  v1::PinResponse pinned;
  ASSERT_THAT(Pin({"a", "b"}, &pinned), GrpcOk());
  EXPECT_EQ(pinned.parts_pinned(), 1u);
  EXPECT_THAT(pinned.missing(), ElementsAre(1));

  grpc::ClientContext touch_context;
  v1::TouchResponse touched;
  ASSERT_THAT(blocks_->Touch(&touch_context, KeysOf<v1::TouchRequest>({"a", "b"}), &touched),
              GrpcOk());
  EXPECT_EQ(touched.found(), 1u);

  v1::DescribeResponse described;
  ASSERT_THAT(Describe({"a", "b"}, &described), GrpcOk());
  ASSERT_EQ(described.parts_size(), 1);
  const v1::PartInfo& info = described.parts(0);
  EXPECT_EQ(info.key(), "a");
  EXPECT_EQ(info.size(), 5000u);
  EXPECT_TRUE(info.pinned());
  EXPECT_TRUE(info.on_disk());
  EXPECT_EQ(info.level(), v1::LEVEL_L1);
  EXPECT_EQ(info.durability(), v1::DURABILITY_CACHE);
  EXPECT_EQ(info.codec(), "raw");
  EXPECT_NE(info.created_unix_us(), 0);
  EXPECT_EQ(info.expires_unix_us(), 0);

  grpc::ClientContext unpin_context;
  v1::UnpinResponse unpinned;
  ASSERT_THAT(blocks_->Unpin(&unpin_context, KeysOf<v1::UnpinRequest>({"a", "b"}), &unpinned),
              GrpcOk());
  EXPECT_EQ(unpinned.parts_unpinned(), 1u);
}

// L1 is past its mark, so that parts lie on disk alone. Nobody takes from the queue.
class PrefetchRpcTest : public BlockRpcTest {
 protected:
  static constexpr uint64_t kPrefetchedBytes = 1 << 20;
  static BlockStoreOptions NarrowL1() {
    BlockStoreOptions options = SmallStore("");
    options.l2_bytes = 0;
    options.high_watermark = 0.1;
    options.low_watermark = 0.1;
    return options;
  }
  PrefetchRpcTest() : BlockRpcTest(NarrowL1()) {
    for (int i = 0; i < 12; ++i) {
      const std::string key(1, static_cast<char>('a' + i));
      const std::vector<ClientPart> part = {{.key = key,
                                             .bytes = Bytes(1, kPrefetchedBytes),
                                             .depth = static_cast<uint32_t>(i),
                                             .parent = keys_.empty() ? "" : keys_.back()}};
      v1::PutStart start = StartOf("opaque", part);
      start.set_durability(v1::DURABILITY_INTERVAL);
      EXPECT_THAT(Put(start, part).status, GrpcOk());
      keys_.push_back(key);
    }
    MoveAll(node_.store());
    v1::DescribeResponse described;
    EXPECT_THAT(Describe(keys_, &described), GrpcOk());
    for (const v1::PartInfo& part : described.parts()) {
      if (part.level() == v1::LEVEL_L3) on_disk_.push_back(part.key());
    }
    EXPECT_GE(on_disk_.size(), 3u);
  }
  v1::PrefetchResponse Prefetch(const v1::PrefetchRequest& request) {
    grpc::ClientContext context;
    v1::PrefetchResponse response;
    EXPECT_THAT(blocks_->Prefetch(&context, request, &response), GrpcOk());
    return response;
  }
  PrefetchFigures Figures(PrefetchOrigin origin = PrefetchOrigin::kAsked) {
    return node_.blocks().prefetches().figures()[static_cast<size_t>(origin)];
  }

  std::vector<std::string> keys_;
  std::vector<std::string> on_disk_;
};

TEST_F(PrefetchRpcTest, QueuesWhatLiesOnDiskAndSaysWhatDoesNot) {
  std::vector<std::string> asked = keys_;
  asked.push_back("none");
  const v1::PrefetchResponse response = Prefetch(KeysOf<v1::PrefetchRequest>(asked));
  EXPECT_EQ(response.queued(), on_disk_.size());
  EXPECT_EQ(response.in_ram(), keys_.size() - on_disk_.size());
  EXPECT_EQ(response.absent(), 1u);
  EXPECT_EQ(response.dropped(), 0u);
  EXPECT_NE(response.prefetch(), 0u);
  EXPECT_EQ(Figures().waiting, on_disk_.size());
  EXPECT_EQ(Figures().waiting_bytes, on_disk_.size() * kPrefetchedBytes);
  for (const std::string& key : on_disk_) {
    EXPECT_EQ(node_.blocks().prefetches().Take()->part.key.key.view(), key);
  }
}

TEST_F(PrefetchRpcTest, ALaterOneGivesUpWhatAnEarlierOneStillWaitsFor) {
  const v1::PrefetchResponse first = Prefetch(KeysOf<v1::PrefetchRequest>(on_disk_));
  v1::PrefetchRequest request = KeysOf<v1::PrefetchRequest>({on_disk_.back()});
  request.set_cancel(first.prefetch());
  const v1::PrefetchResponse second = Prefetch(request);
  EXPECT_EQ(second.queued(), 1u);
  EXPECT_NE(second.prefetch(), first.prefetch());
  EXPECT_EQ(Figures().waiting, 1u);
  EXPECT_EQ(Figures().cancelled, on_disk_.size());
  // Without keys it asks for nothing, not even a space.
  v1::PrefetchRequest cancel;
  cancel.set_cancel(second.prefetch());
  EXPECT_EQ(Prefetch(cancel).queued(), 0u);
  EXPECT_EQ(Figures().waiting, 0u);
}

TEST_F(PrefetchRpcTest, AReadFromDiskBringsUpWhatFollowsInItsChain) {
  // Of what the call names itself nothing is brought up.
  ASSERT_THAT(Get(GetOf("opaque", keys_)).status, GrpcOk());
  EXPECT_EQ(Figures(PrefetchOrigin::kFollowed).asked, 0u);
  ASSERT_THAT(Get(GetOf("opaque", {on_disk_[0]})).status, GrpcOk());
  const auto at = std::find(keys_.begin(), keys_.end(), on_disk_[0]);
  std::vector<std::string> expected;
  for (auto key = at + 1; key != keys_.end(); ++key) {
    if (std::count(on_disk_.begin(), on_disk_.end(), *key) > 0) expected.push_back(*key);
  }
  ASSERT_GE(expected.size(), 1u);
  EXPECT_EQ(Figures(PrefetchOrigin::kFollowed).waiting, expected.size());
  for (const std::string& key : expected) {
    const auto work = node_.blocks().prefetches().Take();
    EXPECT_EQ(work->part.key.key.view(), key);
    EXPECT_EQ(work->origin, PrefetchOrigin::kFollowed);
  }
}

TEST_F(PrefetchRpcTest, WhatIsBeyondTheBoundOfATenantIsDropped) {
  std::vector<std::string> asked;
  while (asked.size() < PrefetchOptions().tenant_parts + 5) asked.push_back(on_disk_.front());
  node_.blocks().prefetches().Stop();
  const v1::PrefetchResponse response = Prefetch(KeysOf<v1::PrefetchRequest>(asked));
  EXPECT_EQ(response.queued(), 0u);
  EXPECT_EQ(response.dropped(), asked.size());
  EXPECT_EQ(response.prefetch(), 0u);
  EXPECT_EQ(Figures().dropped, asked.size());
}

TEST_F(PrefetchRpcTest, RangesAreNamed) {
  const auto refused = [this](const v1::PrefetchRequest& request, const std::string& says) {
    grpc::ClientContext context;
    v1::PrefetchResponse response;
    EXPECT_THAT(blocks_->Prefetch(&context, request, &response), GrpcIs(kInvalid, HasSubstr(says)));
  };
  refused(KeysOf<v1::PrefetchRequest>({}), "keys holds 0; it must hold 1 to 65536");
  refused(KeysOf<v1::PrefetchRequest>(std::vector<std::string>(65537, "k")), "keys holds 65537");
  v1::PrefetchRequest request = KeysOf<v1::PrefetchRequest>({"a"});
  request.add_parts()->set_group(1);
  refused(request, "group");
  request.mutable_parts(0)->set_group(0);
  for (int i = 0; i < 1024; ++i) request.add_parts();
  refused(request, "the number of parts is 1025; it must be at most 1024");
  // Nothing but what to give up.
  v1::PrefetchRequest cancel;
  cancel.set_cancel(99);
  EXPECT_EQ(Prefetch(cancel).queued(), 0u);
}

TEST_F(BlockRpcTest, DescribeIsBoundedByPartsAndNotByKeysAlone) {
  v1::DescribeResponse response;
  EXPECT_THAT(Describe(std::vector<std::string>(4097, "k"), &response),
              GrpcIs(kInvalid, HasSubstr("keys holds 4097; it must hold 1 to 4096")));
  v1::Space wide = KvSpace("wide");
  wide.mutable_groups(0)->set_kv_heads(64);
  wide.mutable_groups(0)->set_tensor_parallel_size(64);
  Open(wide);
  grpc::ClientContext context;
  v1::DescribeRequest request = KeysOf<v1::DescribeRequest>(std::vector<std::string>(4096, "k"));
  *request.mutable_space() = Ref("wide");
  EXPECT_THAT(blocks_->Describe(&context, request, &response),
              GrpcIs(kInvalid, HasSubstr("must be at most 16384")));
}

TEST_F(BlockRpcTest, DeletesKeysSaltsAndSpaces) {
  v1::PutStart salted = StartOf("opaque", {{.key = "s", .bytes = "x"}});
  salted.set_salt("pepper");
  for (const char* key : {"a", "b", "c"}) PutOpaque(key, "x");
  ASSERT_THAT(Put(salted, {{.key = "s", .bytes = "x"}}).status, GrpcOk());

  v1::DeleteResponse response;
  ASSERT_THAT(Delete(KeysOf<v1::DeleteRequest>({"a", "missing"}), &response), GrpcOk());
  EXPECT_EQ(response.parts_deleted(), 1u);
  v1::DeleteRequest request;
  *request.mutable_space() = Ref("opaque");
  EXPECT_THAT(Delete(request, &response), GrpcIs(kInvalid, HasSubstr("what is absent")));
  request.set_all_of_space(false);
  EXPECT_THAT(Delete(request, &response), GrpcIs(kInvalid, HasSubstr("all_of_space = true")));
  request.set_salt("pepper");
  request.set_all_of_salt(true);
  ASSERT_THAT(Delete(request, &response), GrpcOk());
  EXPECT_EQ(response.parts_deleted(), 1u);
  request.set_all_of_space(true);
  ASSERT_THAT(Delete(request, &response), GrpcOk());
  EXPECT_EQ(response.parts_deleted(), 2u);
  EXPECT_EQ(node_.store().parts(), 0u);
}

TEST_F(BlockRpcTest, ListsPageByPageAndRefusesForeignTokens) {
  Open(OpaqueSpace("other"));
  for (const char* key : {"a1", "a2", "b1"}) PutOpaque(key, "x");
  std::vector<std::string> keys;
  v1::ListBlocksRequest request;
  *request.mutable_space() = Ref("opaque");
  request.set_page_size(1);
  std::string token;
  do {
    grpc::ClientContext context;
    v1::ListBlocksResponse page;
    ASSERT_THAT(blocks_->List(&context, request, &page), GrpcOk());
    for (const v1::PartInfo& part : page.parts()) keys.push_back(part.key());
    if (!page.next_page_token().empty()) token = page.next_page_token();
    request.set_page_token(page.next_page_token());
  } while (!request.page_token().empty());
  std::sort(keys.begin(), keys.end());
  EXPECT_THAT(keys, ElementsAre("a1", "a2", "b1"));

  const auto refused = [this](const v1::ListBlocksRequest& bad, const std::string& says) {
    grpc::ClientContext context;
    v1::ListBlocksResponse page;
    EXPECT_THAT(blocks_->List(&context, bad, &page), GrpcIs(kInvalid, HasSubstr(says)));
  };
  *request.mutable_space() = Ref("other");
  request.set_page_token(token);
  refused(request, "page_token");
  request.set_page_token("nonsense");
  refused(request, "page_token");
  request.clear_page_token();
  request.set_page_size(10001);
  refused(request, "page_size is 10001; it must be at most 10000");
  request.set_page_size(1);
  request.set_key_prefix(std::string(65, 'k'));
  refused(request, "key_prefix is 65; it must be at most 64");
}

TEST_F(BlockRpcTest, ListTakesAPrefix) {
  for (const char* key : {"a1", "a2", "b1"}) PutOpaque(key, "x");
  grpc::ClientContext context;
  v1::ListBlocksRequest request;
  *request.mutable_space() = Ref("opaque");
  request.set_key_prefix("a");
  v1::ListBlocksResponse page;
  ASSERT_THAT(blocks_->List(&context, request, &page), GrpcOk());
  EXPECT_EQ(page.parts_size(), 2);
}

TEST_F(BlockRpcTest, FlushWritesCacheParts) {
  PutOpaque("a", Bytes(1, 5000));
  grpc::ClientContext context;
  v1::FlushRequest request;
  *request.mutable_space() = Ref("opaque");
  v1::FlushResponse response;
  ASSERT_THAT(blocks_->Flush(&context, request, &response), GrpcOk());
  EXPECT_EQ(response.parts_written(), 1u);
  v1::DescribeResponse described;
  ASSERT_THAT(Describe({"a"}, &described), GrpcOk());
  EXPECT_TRUE(described.parts(0).on_disk());
}

TEST_F(BlockRpcTest, WatchTellsTheSnapshotThenWhatHappens) {
  PutOpaque("old", "x");
  grpc::ClientContext context;
  v1::WatchRequest request;
  *request.mutable_space() = Ref("opaque");
  auto watch = blocks_->Watch(&context, request);
  std::vector<v1::BlockEvent> events;
  const auto read_until = [&](size_t count) {
    v1::WatchResponse response;
    while (events.size() < count && watch->Read(&response)) {
      events.insert(events.end(), response.events().begin(), response.events().end());
    }
    return events.size() >= count;
  };
  ASSERT_TRUE(read_until(2));
  EXPECT_EQ(events[0].key(), "old");
  EXPECT_EQ(events[0].sequence(), 0u);
  EXPECT_EQ(events[1].kind(), v1::BLOCK_EVENT_KIND_SNAPSHOT_END);
  PutOpaque("new", "x");
  ASSERT_TRUE(read_until(3));
  EXPECT_EQ(events[2].kind(), v1::BLOCK_EVENT_KIND_STORED);
  EXPECT_EQ(events[2].key(), "new");
  EXPECT_EQ(events[2].level(), v1::LEVEL_L1);
  v1::DeleteResponse deleted;
  ASSERT_THAT(Delete(KeysOf<v1::DeleteRequest>({"old"}), &deleted), GrpcOk());
  ASSERT_TRUE(read_until(4));
  EXPECT_EQ(events[3].kind(), v1::BLOCK_EVENT_KIND_REMOVED);
  EXPECT_EQ(events[3].key(), "old");
  context.TryCancel();
  EXPECT_THAT(watch->Finish(), GrpcIs(grpc::StatusCode::CANCELLED, testing::_));

  // Who comes back is told what happened behind its last sequence.
  PutOpaque("later", "x");
  grpc::ClientContext again_context;
  request.set_from_sequence(events[2].sequence());
  auto again = blocks_->Watch(&again_context, request);
  v1::WatchResponse response;
  ASSERT_TRUE(again->Read(&response));
  EXPECT_EQ(response.events(0).kind(), v1::BLOCK_EVENT_KIND_REMOVED);
  EXPECT_EQ(response.events(0).sequence(), events[2].sequence() + 1);
  again_context.TryCancel();
  again->Finish();

  grpc::ClientContext gone_context;
  request.set_from_sequence(~uint64_t{0});
  auto gone = blocks_->Watch(&gone_context, request);
  EXPECT_FALSE(gone->Read(&response));
  EXPECT_THAT(gone->Finish(), GrpcIs(grpc::StatusCode::OUT_OF_RANGE, HasSubstr("from_sequence")));
}

}  // namespace
}  // namespace mnemo
