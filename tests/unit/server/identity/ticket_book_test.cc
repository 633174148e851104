#include "server/identity/ticket_book.h"

#include <gtest/gtest.h>

#include <atomic>
#include <set>
#include <thread>

#include "tests/support/fake_clock.h"
#include "tests/support/status_matchers.h"

namespace mnemo {
namespace {

using ::testing::HasSubstr;

class TicketBookTest : public ::testing::Test {
 protected:
  std::string Issue(uint64_t tenant = 7, const std::string& plane = "tcp") {
    const auto issued = book_.Issue({.tenant = tenant, .principal = "engine"}, plane);
    EXPECT_OK(issued);
    return issued.ok() ? issued->ticket : "";
  }

  FakeClock clock_;
  TicketBook book_{{.max_of_tenant = 4, .max_of_node = 6}, clock_};
};

TEST_F(TicketBookTest, GivesTheIdentityOnce) {
  const std::string ticket = Issue(7);
  EXPECT_EQ(ticket.size(), TicketBook::kTicketBytes);
  const absl::StatusOr<Identity> identity = book_.Redeem(ticket, "tcp");
  ASSERT_OK(identity);
  EXPECT_EQ(identity->tenant, 7u);
  EXPECT_EQ(identity->principal, "engine");
  EXPECT_THAT(book_.Redeem(ticket, "tcp").status(), StatusIs(absl::StatusCode::kUnauthenticated));
  EXPECT_EQ(book_.outstanding(), 0u);
}

TEST_F(TicketBookTest, OneAnswerForWhateverIsNotGood) {
  const std::string used = Issue();
  ASSERT_OK(book_.Redeem(used, "tcp"));
  const std::string elsewhere = Issue();
  const std::string expired = Issue();
  const absl::Status unknown = book_.Redeem(std::string(16, 'x'), "tcp").status();
  EXPECT_THAT(unknown, StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr("ticket")));
  EXPECT_EQ(book_.Redeem(used, "tcp").status(), unknown);
  EXPECT_EQ(book_.Redeem("", "tcp").status(), unknown);
  EXPECT_EQ(book_.Redeem(elsewhere, "fast").status(), unknown);
  // It is used up.
  EXPECT_EQ(book_.Redeem(elsewhere, "tcp").status(), unknown);
  clock_.Advance(std::chrono::seconds(30));
  EXPECT_EQ(book_.Redeem(expired, "tcp").status(), unknown);
}

TEST_F(TicketBookTest, OneTenantCannotUseUpTheRests) {
  for (int i = 0; i < 4; ++i) ASSERT_OK(book_.Redeem(Issue(7), "tcp"));
  EXPECT_THAT(
      book_.Issue({.tenant = 7}, "tcp").status(),
      StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("4 tickets of this tenant")));
  Issue(8);
  Issue(8);
  EXPECT_THAT(book_.Issue({.tenant = 9}, "tcp").status(),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("too many tickets")));
  clock_.Advance(std::chrono::seconds(30));
  Issue(7);
  Issue(9);
  EXPECT_EQ(book_.outstanding(), 2u);
}

TEST_F(TicketBookTest, ThoseOfARevokedPrincipalAreDropped) {
  const std::string theirs = Issue(7);
  const std::string others = Issue(8);
  book_.Drop(7, "engine");
  EXPECT_THAT(book_.Redeem(theirs, "tcp").status(), StatusIs(absl::StatusCode::kUnauthenticated));
  EXPECT_OK(book_.Redeem(others, "tcp"));
}

TEST(TicketBookRaceTest, OneOfManyGetsIt) {
  FakeClock clock;
  TicketBook book({}, clock);
  for (int round = 0; round < 50; ++round) {
    const auto issued = book.Issue({.tenant = 7}, "tcp");
    ASSERT_OK(issued);
    std::atomic<int> winners{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&] { winners += book.Redeem(issued->ticket, "tcp").ok() ? 1 : 0; });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(winners, 1);
  }
}

TEST(TicketOptionsTest, NameFieldAndRange) {
  EXPECT_OK(TicketOptions{}.Validate());
  EXPECT_THAT((TicketOptions{.lifetime = Nanos(1)}.Validate()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("lifetime")));
  EXPECT_THAT((TicketOptions{.max_of_tenant = 9, .max_of_node = 8}.Validate()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("max_of_tenant is 9")));
}

}  // namespace
}  // namespace mnemo
