#include "server/transfer/region_table.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <string>

#include "tests/support/status_matchers.h"
#include "tests/unit/server/transfer/hostile_client.h"

namespace mnemo {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kBytes = 64 << 10;
constexpr uint64_t kTenant = 7;

Descriptor MakeMemory(int seals = F_SEAL_SHRINK | F_SEAL_GROW) {
  Descriptor file(::memfd_create("client", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  EXPECT_EQ(::posix_fallocate(file.get(), 0, kBytes), 0);
  EXPECT_EQ(::fcntl(file.get(), F_ADD_SEALS, seals), 0);
  return file;
}

const RegionFormFigures Of(const RegionLedger& ledger, RegionForm form) {
  return ledger.figures()[static_cast<size_t>(form) - 1];
}

TEST(RegionTableTest, GivesNumbersThatAreNeverGivenTwice) {
  RegionLedger ledger({});
  RegionTable table(ledger, kTenant, Peer());
  ASSERT_OK_AND_ASSIGN(const uint32_t first, table.AddFile(MakeMemory(), kBytes));
  ASSERT_OK_AND_ASSIGN(const uint32_t second, table.AddFile(MakeMemory(), kBytes));
  EXPECT_EQ(first, 1u);
  EXPECT_EQ(second, 2u);
  ASSERT_OK(table.Remove(second));
  ASSERT_OK_AND_ASSIGN(const uint32_t third, table.AddFile(MakeMemory(), kBytes));
  EXPECT_EQ(third, 3u);
  EXPECT_EQ(table.size(), 2u);
  for (const uint32_t unknown : {0u, second, 4u, UINT32_MAX}) {
    EXPECT_THAT(table.Find(unknown), StatusIs(absl::StatusCode::kNotFound));
    EXPECT_THAT(table.Remove(unknown), StatusIs(absl::StatusCode::kNotFound));
  }
}

TEST(RegionTableTest, BoundsWhatATenantRegistersOverAllItsConnections) {
  RegionLedger ledger({.tenant_regions = 3, .tenant_bytes = 5 * kBytes / 2});
  RegionTable one(ledger, kTenant, Peer());
  auto two = std::make_unique<RegionTable>(ledger, kTenant, Peer());
  RegionTable other(ledger, kTenant + 1, Peer());
  ASSERT_OK(one.AddFile(MakeMemory(), kBytes));
  ASSERT_OK(two->AddFile(MakeMemory(), kBytes));
  EXPECT_THAT(one.AddFile(MakeMemory(), kBytes), StatusIs(absl::StatusCode::kResourceExhausted,
                                                          HasSubstr("has registered 131072 of")));
  ASSERT_OK(one.AddFile(MakeMemory(), kBytes / 2));
  EXPECT_THAT(one.AddFile(MakeMemory(), 1),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("3 registrations")));
  EXPECT_OK(other.AddFile(MakeMemory(), kBytes));
  // A connection that ends gives back what it had.
  two.reset();
  EXPECT_OK(one.AddFile(MakeMemory(), kBytes));
}

TEST(RegionTableTest, BoundsStagingMemoryOfAllTenants) {
  RegionLedger ledger({.staging_bytes = 2 * kBytes});
  RegionTable one(ledger, kTenant, Peer());
  RegionTable two(ledger, kTenant + 1, Peer());
  Descriptor file;
  ASSERT_OK_AND_ASSIGN(const uint32_t id, one.AddStaging(kBytes, file));
  EXPECT_TRUE(file.valid());
  ASSERT_OK(two.AddStaging(kBytes, file));
  Descriptor none;
  EXPECT_THAT(two.AddStaging(kBytes, none),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("staging memory")));
  EXPECT_FALSE(none.valid());
  ASSERT_OK(one.Remove(id));
  // What was refused for another reason is not charged.
  EXPECT_THAT(one.AddStaging(1, none), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_EQ(Of(ledger, RegionForm::kStaging).bytes, kBytes);
  EXPECT_OK(two.AddStaging(kBytes, file));
}

TEST(RegionTableTest, SizesOfAMessageDoNotOverflowTheLimits) {
  RegionLedger ledger({.tenant_bytes = 2 * kBytes});
  RegionTable table(ledger, kTenant, Peer());
  ASSERT_OK(table.AddFile(MakeMemory(), kBytes));
  Descriptor none;
  EXPECT_THAT(table.AddStaging(UINT64_MAX - kBytes + 1, none),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(ledger.Take(kTenant, RegionForm::kMapped, UINT64_MAX - kBytes + 1).status(),
              StatusIs(absl::StatusCode::kResourceExhausted));
}

TEST(RegionTableTest, ACopyKeepsItsRegionThoughItIsRemoved) {
  RegionLedger ledger({});
  RegionTable table(ledger, kTenant, Peer());
  ASSERT_OK_AND_ASSIGN(const uint32_t id, table.AddFile(MakeMemory(), kBytes));
  {
    ASSERT_OK_AND_ASSIGN(const auto region, table.Find(id));
    ASSERT_OK(table.Remove(id));
    ASSERT_OK_AND_ASSIGN(const SliceList slices,
                         SliceList::Create({{.offset = 0, .length = 5}}, region->size(), "s"));
    const ByteView bytes = AsBytes("hello");
    EXPECT_OK(region->CopyOut({&bytes, 1}, slices, 0));
    EXPECT_EQ(Of(ledger, RegionForm::kMapped).bytes, kBytes);
  }
  EXPECT_EQ(Of(ledger, RegionForm::kMapped).bytes, 0u);
  EXPECT_EQ(Of(ledger, RegionForm::kMapped).regions, 0u);
}

TEST(RegionTableTest, CountsByForm) {
  RegionLedger ledger({});
  HostileClient client;
  ASSERT_OK_AND_ASSIGN(Peer peer, Peer::Of(client.socket()));
  RegionTable table(ledger, kTenant, std::move(peer));
  Descriptor staging;
  ASSERT_OK(table.AddFile(MakeMemory(), kBytes));
  ASSERT_OK_AND_ASSIGN(const uint32_t shared, table.AddFile(MakeMemory(0), kBytes));
  ASSERT_OK(table.AddProcess(client.address(), kBytes));
  ASSERT_OK(table.AddStaging(kBytes, staging));
  EXPECT_FALSE(table.AddFile(Descriptor(), kBytes).ok());
  EXPECT_FALSE(table.AddProcess(0, kBytes).ok());
  for (const RegionForm form :
       {RegionForm::kMapped, RegionForm::kShared, RegionForm::kProcess, RegionForm::kStaging}) {
    const RegionFormFigures figures = Of(ledger, form);
    EXPECT_EQ(figures.regions, 1u);
    EXPECT_EQ(figures.bytes, kBytes);
    EXPECT_EQ(figures.registered, 1u);
  }
  EXPECT_EQ(Of(ledger, RegionForm::kMapped).refused, 1u);
  EXPECT_EQ(Of(ledger, RegionForm::kProcess).refused, 1u);

  ASSERT_OK_AND_ASSIGN(const auto region, table.Find(shared));
  ASSERT_OK_AND_ASSIGN(const SliceList slices,
                       SliceList::Create({{.offset = 0, .length = 5}}, kBytes, "s"));
  const ByteView from = AsBytes("hello");
  uint8_t into[3];
  const MutableByteView to(into);
  ASSERT_OK(region->CopyOut({&from, 1}, slices, 0));
  ASSERT_OK(region->CopyIn(slices, 0, {&to, 1}));
  EXPECT_FALSE(region->CopyOut({&from, 1}, slices, 1).ok());
  const RegionFormFigures figures = Of(ledger, RegionForm::kShared);
  EXPECT_EQ(figures.bytes_out, 5u);
  EXPECT_EQ(figures.bytes_in, 3u);
  EXPECT_EQ(figures.failed_copies, 1u);
}

TEST(RegionTableTest, TakesNoProcessMemoryWhereItIsForbidden) {
  RegionLedger ledger({.process_memory = false});
  HostileClient client;
  ASSERT_OK_AND_ASSIGN(Peer peer, Peer::Of(client.socket()));
  RegionTable table(ledger, kTenant, std::move(peer));
  EXPECT_THAT(table.AddProcess(client.address(), kBytes),
              StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("streams.process_memory")));
}

TEST(RegionLimitsTest, NamesWhatIsOutOfRange) {
  EXPECT_OK(RegionLimits{}.Validate());
  EXPECT_THAT(RegionLimits{.tenant_regions = 0}.Validate(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("tenant_regions")));
  EXPECT_THAT(RegionLimits{.tenant_bytes = UINT64_MAX}.Validate(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("tenant_bytes")));
  EXPECT_THAT(RegionLimits{.staging_bytes = UINT64_MAX}.Validate(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("staging_bytes")));
}

}  // namespace
}  // namespace mnemo
