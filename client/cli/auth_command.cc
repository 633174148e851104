// mnemoctl auth token create, rotate, revoke and list; tenant create and list.
#include <fmt/format.h>

#include <map>
#include <nlohmann/json.hpp>

#include "client/cli/command.h"
#include "storage/base/units.h"

namespace mnemo::cli {
namespace {

using Json = nlohmann::ordered_json;

const std::map<std::string, client::Role> kRoles = {{"reader", client::Role::kReader},
                                                    {"writer", client::Role::kWriter},
                                                    {"tenant-admin", client::Role::kTenantAdmin},
                                                    {"operator", client::Role::kOperator},
                                                    {"metrics", client::Role::kMetrics}};
constexpr char kRoleNames[] = "reader writer tenant-admin operator metrics";

std::string NameOf(client::Role role) {
  for (const auto& [name, known] : kRoles) {
    if (known == role) return name;
  }
  return fmt::format("role-{}", static_cast<int>(role));
}

std::string NamesOf(const std::vector<client::Role>& roles) {
  std::string names;
  for (const client::Role role : roles) names += (names.empty() ? "" : ",") + NameOf(role);
  return names;
}

std::string EndOf(const client::TokenInfo& token) {
  return token.expires_unix_us == 0 ? "never" : Date(token.expires_unix_us);
}

Json ToJson(const client::TokenInfo& token) {
  return {{"id", token.id},
          {"created_unix_us", token.created_unix_us},
          {"expires_unix_us", token.expires_unix_us}};
}

struct TokenOptions {
  std::string principal;
  std::string tenant;
  std::vector<std::string> roles;
  std::string lifetime;
  std::string id;
  bool all = false;
};

std::chrono::seconds LifetimeOf(const TokenOptions& options) {
  const auto parsed = ParseDuration(options.lifetime);  // checked by the command line
  return parsed.ok() ? std::chrono::duration_cast<std::chrono::seconds>(*parsed)
                     : std::chrono::seconds(0);
}

std::string CheckLifetime(const std::string& text) {
  const auto parsed = ParseDuration(text);
  if (!parsed.ok()) return std::string(parsed.status().message());
  return *parsed >= std::chrono::seconds(1) ? "" : "it must be at least 1s";
}

// The token alone on standard output, so that a file can take it.
ExitCode PrintToken(Invocation& run, const TokenOptions& options,
                    const absl::StatusOr<client::NewToken>& made) {
  if (!made.ok()) return run.Fail(made.status());
  Json value = ToJson(made->info);
  value["principal"] = options.principal;
  value["token"] = made->token;
  run.Print(value, [&](bool) { run.out() << made->token << '\n'; });
  run.err() << fmt::format(
      "token {} of principal '{}', good until {}; it is shown this once: the daemon keeps its "
      "hash\n",
      made->info.id, Printable(options.principal), EndOf(made->info));
  return ExitCode::kOk;
}

ExitCode CreateToken(Invocation& run, const TokenOptions& options) {
  const auto client = run.Connect();
  if (!client.ok()) return run.Fail(client.status());
  client::CreateTokenRequest request{
      .tenant = options.tenant, .principal = options.principal, .lifetime = LifetimeOf(options)};
  for (const std::string& role : options.roles) request.roles.push_back(kRoles.at(role));
  return PrintToken(run, options, (*client)->auth().CreateToken(request, run.call_options()));
}

ExitCode RotateToken(Invocation& run, const TokenOptions& options) {
  const auto client = run.Connect();
  if (!client.ok()) return run.Fail(client.status());
  return PrintToken(run, options,
                    (*client)->auth().RotateToken({.tenant = options.tenant,
                                                   .principal = options.principal,
                                                   .lifetime = LifetimeOf(options)},
                                                  run.call_options()));
}

ExitCode RevokeToken(Invocation& run, const TokenOptions& options) {
  const auto client = run.Connect();
  if (!client.ok()) return run.Fail(client.status());
  const std::string what =
      options.all
          ? fmt::format("principal '{}' with all of its tokens", Printable(options.principal))
          : fmt::format("token {} of principal '{}'", Printable(options.id),
                        Printable(options.principal));
  if (!run.Confirm(fmt::format("Revoke {}?", what))) {
    run.err() << "nothing was revoked\n";
    return ExitCode::kFailure;
  }
  const absl::Status revoked = (*client)->auth().RevokeToken(
      {.tenant = options.tenant, .principal = options.principal, .token_id = options.id},
      run.call_options());
  if (!revoked.ok()) return run.Fail(revoked);
  run.err() << fmt::format("{} revoked\n", what);
  return ExitCode::kOk;
}

ExitCode ListPrincipals(Invocation& run, const TokenOptions& options) {
  const auto client = run.Connect();
  if (!client.ok()) return run.Fail(client.status());
  const auto principals = (*client)->auth().ListPrincipals(options.tenant, run.call_options());
  if (!principals.ok()) return run.Fail(principals.status());
  Json value = Json::array();
  Table table({{"PRINCIPAL"},
               {"ROLES"},
               {"TOKEN"},
               {"EXPIRES"},
               {"CREATED", false, true},
               {"FROM", false, true}});
  for (const client::Principal& principal : *principals) {
    Json each = {{"name", principal.name},
                 {"roles", Json::array()},
                 {"tokens", Json::array()},
                 {"certificates", principal.certificates},
                 {"from_file", principal.from_file}};
    for (const client::Role role : principal.roles) each["roles"].push_back(NameOf(role));
    const auto add_row = [&](const std::string& token, const std::string& end,
                             const std::string& created) {
      table.AddRow({Printable(principal.name), NamesOf(principal.roles), token, end, created,
                    principal.from_file ? "file" : "store"});
    };
    for (const client::TokenInfo& token : principal.tokens) {
      each["tokens"].push_back(ToJson(token));
      add_row(token.id.empty() ? "-" : Printable(token.id), EndOf(token),
              token.created_unix_us == 0 ? "-" : Date(token.created_unix_us));
    }
    for (const std::string& name : principal.certificates) add_row(Printable(name), "-", "-");
    if (principal.tokens.empty() && principal.certificates.empty()) add_row("none", "-", "-");
    value.push_back(std::move(each));
  }
  run.Print(value, [&](bool wide) { table.Print(run.out(), wide); });
  return ExitCode::kOk;
}

Json ToJson(const client::Tenant& tenant) {
  return {{"name", tenant.name},
          {"id", fmt::format("{:016x}", tenant.id)},
          {"created_unix_us", tenant.created_unix_us}};
}

ExitCode ListTenants(Invocation& run) {
  const auto client = run.Connect();
  if (!client.ok()) return run.Fail(client.status());
  const auto tenants = (*client)->auth().ListTenants(run.call_options());
  if (!tenants.ok()) return run.Fail(tenants.status());
  Json value = Json::array();
  Table table({{"TENANT"}, {"ID", false, true}, {"CREATED"}});
  for (const client::Tenant& tenant : *tenants) {
    value.push_back(ToJson(tenant));
    table.AddRow({Printable(tenant.name), fmt::format("{:016x}", tenant.id),
                  tenant.created_unix_us == 0 ? "-" : Date(tenant.created_unix_us)});
  }
  run.Print(value, [&](bool wide) { table.Print(run.out(), wide); });
  return ExitCode::kOk;
}

ExitCode CreateTenant(Invocation& run, const std::string& name) {
  const auto client = run.Connect();
  if (!client.ok()) return run.Fail(client.status());
  const auto tenant = (*client)->auth().CreateTenant(name, run.call_options());
  if (!tenant.ok()) return run.Fail(tenant.status());
  run.Print(ToJson(*tenant), [&](bool) { run.out() << fmt::format("{:016x}\n", tenant->id); });
  run.err() << fmt::format("tenant '{}' created\n", Printable(name));
  return ExitCode::kOk;
}

void AddPrincipal(CLI::App& verb, TokenOptions& options) {
  verb.add_option("PRINCIPAL", options.principal, "1 to 64 of a-z, 0-9, '.', '_' and '-'")
      ->required();
  verb.add_option("--tenant", options.tenant, "by name; default: the caller's own");
}

void AddLifetime(CLI::App& verb, TokenOptions& options) {
  verb.add_option("--expires", options.lifetime,
                  "how long the token is good, such as 30d; default: without end")
      ->check(CheckLifetime);
}

std::string CheckRole(const std::string& text) {
  if (kRoles.contains(text)) return "";
  return fmt::format("'{}' is not one of {}", text, kRoleNames);
}

}  // namespace

void AddAuthCommands(CLI::App& app, Invocation& run) {
  CLI::App* auth = app.add_subcommand("auth", "who may call");
  auth->require_subcommand(1);
  CLI::App* token = auth->add_subcommand("token", "principals and their tokens");
  token->require_subcommand(1);
  auto options = std::make_shared<TokenOptions>();

  CLI::App* create = token->add_subcommand("create", "make a principal with its first token");
  AddPrincipal(*create, *options);
  create->add_option("--role", options->roles, "one role; may be repeated")
      ->required()
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->check(CheckRole);
  AddLifetime(*create, *options);
  create->callback(
      [&run, options] { run.action = [&run, options] { return CreateToken(run, *options); }; });

  CLI::App* rotate = token->add_subcommand(
      "rotate", "give a principal one more token; the one before stays good, an older one ends");
  AddPrincipal(*rotate, *options);
  AddLifetime(*rotate, *options);
  rotate->callback(
      [&run, options] { run.action = [&run, options] { return RotateToken(run, *options); }; });

  CLI::App* revoke = token->add_subcommand("revoke", "end a token, or all of a principal's");
  AddPrincipal(*revoke, *options);
  CLI::Option* id = revoke->add_option("--id", options->id, "the one to end, as list shows it");
  CLI::Option* all = revoke->add_flag("--all", options->all, "all, and the principal");
  id->excludes(all);
  revoke->callback([&run, options] {
    if (options->id.empty() && !options->all) throw CLI::RequiredError("one of --id and --all");
    run.action = [&run, options] { return RevokeToken(run, *options); };
  });

  CLI::App* list = token->add_subcommand("list", "the principals of a tenant and their tokens");
  list->add_option("--tenant", options->tenant, "by name; default: the caller's own");
  list->callback(
      [&run, options] { run.action = [&run, options] { return ListPrincipals(run, *options); }; });
}

void AddTenantCommands(CLI::App& app, Invocation& run) {
  CLI::App* tenant = app.add_subcommand("tenant", "whose data it is");
  tenant->require_subcommand(1);
  tenant->add_subcommand("list", "all tenants")->callback([&run] {
    run.action = [&run] { return ListTenants(run); };
  });
  auto name = std::make_shared<std::string>();
  CLI::App* create = tenant->add_subcommand("create", "make a tenant");
  create->add_option("NAME", *name, "1 to 64 of a-z, 0-9, '.', '_' and '-'")->required();
  create->callback(
      [&run, name] { run.action = [&run, name] { return CreateTenant(run, *name); }; });
}

}  // namespace mnemo::cli
