#include "server/audit_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "tests/support/fake_clock.h"

namespace mnemo {
namespace {

using ::testing::HasSubstr;

class AuditLogTest : public ::testing::Test {
 protected:
  void Refuse(const Identity* caller = nullptr) {
    const absl::Status status = caller == nullptr ? absl::UnauthenticatedError("no credential")
                                                  : absl::PermissionDeniedError("a role");
    audit_.Refused({.method = "S/M", .peer = "ipv4:1.2.3.4:5", .caller = caller, .status = status});
  }
  std::string TakeText() {
    std::string text = out_.str();
    out_.str("");
    return text;
  }

  FakeClock clock_;
  std::ostringstream out_;
  Logger log_{{}, clock_, out_};
  AuditLog audit_{log_, clock_};
};

TEST_F(AuditLogTest, ALineSaysWhoWasRefusedWhatAndWhy) {
  const Identity caller{.tenant = 7, .principal = "engine", .roles = {Role::kReader}};
  Refuse(&caller);
  EXPECT_THAT(TakeText(), HasSubstr("event=call-refused method=S/M code=PERMISSION_DENIED "
                                    "peer=ipv4:1.2.3.4:5 tenant=7 principal=engine"));
  Refuse();
  EXPECT_THAT(TakeText(), HasSubstr("code=UNAUTHENTICATED peer=ipv4:1.2.3.4:5 tenant=0"));
}

TEST_F(AuditLogTest, AFloodIsCountedInsteadOfWritten) {
  for (int i = 0; i < AuditLog::kRefusalsPerSecond; ++i) {
    Refuse();
    EXPECT_THAT(TakeText(), HasSubstr("unwritten=0"));
  }
  for (int i = 0; i < 1000; ++i) Refuse();
  EXPECT_EQ(TakeText(), "");
  clock_.Advance(std::chrono::seconds(1));
  Refuse();
  EXPECT_THAT(TakeText(), HasSubstr("unwritten=1000"));
  Refuse();
  EXPECT_THAT(TakeText(), HasSubstr("unwritten=0"));
}

TEST_F(AuditLogTest, AChangeOfCredentialsSaysWhoMadeIt) {
  const Identity by{.tenant = 7, .principal = "boss", .roles = {Role::kTenantAdmin}};
  audit_.Changed(
      {.what = "token-rotated", .by = by, .tenant = "acme", .principal = "engine", .token = 0x123});
  EXPECT_THAT(TakeText(),
              HasSubstr("event=identity-changed what=token-rotated tenant=acme principal=engine "
                        "token=0000000000000123 by_tenant=7 by=boss"));
}

}  // namespace
}  // namespace mnemo
