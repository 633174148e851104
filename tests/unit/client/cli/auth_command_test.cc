#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/support/certificates.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/client/cli/run_mnemoctl.h"
#include "tests/unit/client/cpp/fake_daemon.h"

namespace mnemo::cli {
namespace {

using client::FakeDaemon;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(AuthCommandTest, CreatePrintsTheTokenAloneOnStandardOutput) {
  FakeDaemon daemon;
  v1::CreateTokenRequest seen;
  daemon.auth.create = [&](const v1::CreateTokenRequest& request,
                           v1::CreateTokenResponse& response) {
    seen = request;
    response.mutable_info()->set_id("00000000000000ff");
    response.mutable_info()->set_expires_unix_us(1'767'225'600'000'000);
    response.set_token("mnemo_00000000000000ff_s");
    return grpc::Status::OK;
  };
  const std::vector<std::string> arguments = {"auth",     "token",  "create",    "engine",
                                              "--role",   "reader", "--role",    "writer",
                                              "--tenant", "acme",   "--expires", "30d"};
  const Ran ran = RunMnemoctl(arguments, {.server = daemon.target()});
  EXPECT_EQ(ran.code, ExitCode::kOk) << ran.err;
  EXPECT_EQ(ran.out, "mnemo_00000000000000ff_s\n");
  EXPECT_THAT(ran.err, AllOf(HasSubstr("2026-01-01 00:00:00Z"), HasSubstr("shown this once"),
                             Not(HasSubstr("ff_s"))));
  EXPECT_EQ(seen.tenant(), "acme");
  EXPECT_EQ(seen.principal(), "engine");
  EXPECT_THAT(seen.roles(), ElementsAre(v1::ROLE_READER, v1::ROLE_WRITER));
  EXPECT_EQ(seen.lifetime_seconds(), 30u * 24 * 3600);

  std::vector<std::string> as_json = arguments;
  as_json.insert(as_json.end(), {"-o", "json"});
  const auto json = nlohmann::json::parse(RunMnemoctl(as_json, {.server = daemon.target()}).out);
  EXPECT_EQ(json["token"], "mnemo_00000000000000ff_s");
  EXPECT_EQ(json["id"], "00000000000000ff");
}

TEST(AuthCommandTest, ARoleThatIsNoneOrMissingNeverReachesTheDaemon) {
  const std::vector<std::string> bad[] = {
      {}, {"--role", "king"}, {"--role", "reader", "--expires", "0s"}};
  for (const std::vector<std::string>& roles : bad) {
    std::vector<std::string> arguments = {"auth", "token", "create", "p"};
    arguments.insert(arguments.end(), roles.begin(), roles.end());
    EXPECT_EQ(RunMnemoctl(arguments, {.server = "unix:/nowhere"}).code, ExitCode::kUsage);
  }
}

TEST(AuthCommandTest, RevokeAsksFirstAndWantsToKnowWhat) {
  FakeDaemon daemon;
  std::vector<std::string> seen;
  daemon.auth.revoke = [&](const v1::RevokeTokenRequest& request) {
    seen.push_back(request.principal() + "/" + request.token_id());
    return grpc::Status::OK;
  };
  const std::vector<std::string> revoke = {"auth", "token", "revoke", "engine"};
  const auto run = [&](std::vector<std::string> more) {
    more.insert(more.begin(), revoke.begin(), revoke.end());
    return RunMnemoctl(more, {.server = daemon.target()}).code;
  };
  EXPECT_EQ(run({}), ExitCode::kUsage);
  EXPECT_EQ(run({"--id", "0f", "--all"}), ExitCode::kUsage);
  EXPECT_EQ(run({"--all"}), ExitCode::kFailure) << "nobody said yes";
  EXPECT_EQ(run({"--id", "0f", "--yes"}), ExitCode::kOk);
  EXPECT_EQ(run({"--all", "--yes"}), ExitCode::kOk);
  daemon.Stop();
  EXPECT_THAT(seen, ElementsAre("engine/0f", "engine/"));
}

TEST(AuthCommandTest, RotatePrintsTheNewToken) {
  FakeDaemon daemon;
  daemon.auth.rotate = [](const v1::RotateTokenRequest& request,
                          v1::RotateTokenResponse& response) {
    response.set_token(request.tenant() + "-" + request.principal());
    return grpc::Status::OK;
  };
  const Ran ran = RunMnemoctl({"auth", "token", "rotate", "engine", "--tenant", "acme"},
                              {.server = daemon.target()});
  EXPECT_EQ(ran.code, ExitCode::kOk);
  EXPECT_EQ(ran.out, "acme-engine\n");
  EXPECT_THAT(ran.err, HasSubstr("good until never"));
}

TEST(AuthCommandTest, ListShowsEveryCredential) {
  FakeDaemon daemon;
  daemon.auth.list = [](const v1::ListPrincipalsRequest&, v1::ListPrincipalsResponse& response) {
    v1::Principal& engine = *response.add_principals();
    engine.set_name("engine");
    engine.add_roles(v1::ROLE_READER);
    engine.add_roles(v1::ROLE_TENANT_ADMIN);
    engine.add_tokens()->set_id("aa");
    engine.add_tokens()->set_id("bb");
    v1::Principal& filed = *response.add_principals();
    filed.set_name("filed");
    filed.set_from_file(true);
    filed.add_certificates("cn:filed");
    return grpc::Status::OK;
  };
  const Ran ran = RunMnemoctl({"auth", "token", "list"}, {.server = daemon.target()});
  EXPECT_EQ(ran.code, ExitCode::kOk);
  EXPECT_THAT(ran.out, ::testing::MatchesRegex("PRINCIPAL .*\n"
                                               "engine  *reader,tenant-admin  *aa  *never.*\n"
                                               "engine  *reader,tenant-admin  *bb  *never.*\n"
                                               "filed  *cn:filed  *-.*\n"));
  const Ran as_json =
      RunMnemoctl({"auth", "token", "list", "-o", "json"}, {.server = daemon.target()});
  const auto json = nlohmann::json::parse(as_json.out);
  EXPECT_EQ(json[0]["roles"][1], "tenant-admin");
  EXPECT_EQ(json[1]["from_file"], true);
}

TEST(AuthCommandTest, TenantsAreMadeAndListed) {
  FakeDaemon daemon;
  daemon.auth.create_tenant = [](const v1::CreateTenantRequest& request,
                                 v1::CreateTenantResponse& response) {
    response.mutable_tenant()->set_name(request.name());
    response.mutable_tenant()->set_id(0xabc);
    return grpc::Status::OK;
  };
  daemon.auth.tenants = [](grpc::ServerContext&, v1::ListTenantsResponse& response) {
    response.add_tenants()->set_name("local");
    return grpc::Status::OK;
  };
  const Ran made = RunMnemoctl({"tenant", "create", "acme"}, {.server = daemon.target()});
  EXPECT_EQ(made.out, "0000000000000abc\n");
  EXPECT_THAT(RunMnemoctl({"tenant", "list"}, {.server = daemon.target()}).out, HasSubstr("local"));
}

TEST(AuthCommandTest, NotPermittedHasItsExitCode) {
  FakeDaemon daemon;
  daemon.auth.tenants = [](grpc::ServerContext&, v1::ListTenantsResponse&) {
    return grpc::Status(grpc::StatusCode::PERMISSION_DENIED, "a role");
  };
  EXPECT_EQ(RunMnemoctl({"tenant", "list"}, {.server = daemon.target()}).code,
            ExitCode::kNotPermitted);
}

TEST(ConnectionFilesTest, TheTokenComesFromItsFileAndAFlagGoesOverTheEnvironment) {
  const TempDir dir;
  WriteText(dir / "flag", "from-flag\n");
  WriteText(dir / "environment", "from-environment");
  FakeDaemon daemon;
  std::vector<std::string> shown;
  daemon.auth.tenants = [&](grpc::ServerContext& context, v1::ListTenantsResponse&) {
    shown.push_back(client::AuthorizationOf(context));
    return grpc::Status::OK;
  };
  const Around around{.server = daemon.target(), .files = {.token = dir / "environment"}};
  EXPECT_EQ(RunMnemoctl({"tenant", "list"}, around).code, ExitCode::kOk);
  EXPECT_EQ(RunMnemoctl({"tenant", "list", "--token-file", dir / "flag"}, around).code,
            ExitCode::kOk);
  EXPECT_EQ(RunMnemoctl({"tenant", "list"}, {.server = daemon.target()}).code, ExitCode::kOk);
  daemon.Stop();
  EXPECT_THAT(shown, ElementsAre("Bearer from-environment", "Bearer from-flag", ""));
}

TEST(ConnectionFilesTest, AFileThatCannotBeReadIsNamedBeforeAnythingIsSent) {
  const TempDir dir;
  WriteText(dir / "empty", "");
  for (const char* flag : {"--token-file", "--tls-ca", "--tls-cert", "--tls-key"}) {
    for (const std::string& path : {dir / "none", dir / "empty"}) {
      const Ran ran = RunMnemoctl({"tenant", "list", flag, path}, {.server = "unix:/nowhere"});
      EXPECT_EQ(ran.code, ExitCode::kUsage) << flag;
      EXPECT_THAT(ran.err, HasSubstr(path));
    }
  }
  WriteText(dir / "two", "two words");
  const Ran ran =
      RunMnemoctl({"tenant", "list", "--token-file", dir / "two"}, {.server = "unix:/nowhere"});
  EXPECT_EQ(ran.code, ExitCode::kUsage);
  EXPECT_THAT(ran.err, AllOf(HasSubstr("token is not"), Not(HasSubstr("two words"))));
}

}  // namespace
}  // namespace mnemo::cli
