// Bodies of answers: a status, and where it is OK, what was asked for.
#include <bit>

#include "proto/stream/messages.h"
#include "proto/stream/wire.h"

namespace mnemo::stream {
namespace {

std::string Success() { return std::string(1, '\0'); }

// Reads the status, and goes on with `take` where it is OK.
template <typename Take>
bool DecodeAnswer(ByteView body, absl::Status& status, const Take& take) {
  ByteReader in(body);
  if (!TakeStatus(in, status)) return false;
  if (status.ok() && !take(in)) return false;
  return AtEnd(in);
}

void AppendRun(std::string& out, const MatchAnswer::Run& run) {
  AppendLittle(out, run.first);
  AppendLittle(out, run.count);
  AppendByte(out, run.level);
}
bool TakeRun(ByteReader& in, MatchAnswer::Run& run) {
  run.first = in.Little<uint32_t>();
  run.count = in.Little<uint32_t>();
  run.level = in.Little<uint8_t>();
  return in.ok();
}

void AppendReach(std::string& out, const MatchAnswer::GroupReach& reach) {
  AppendLittle(out, reach.group);
  AppendLittle(out, reach.blocks);
}
bool TakeReach(ByteReader& in, MatchAnswer::GroupReach& reach) {
  reach.group = in.Little<uint32_t>();
  reach.blocks = in.Little<uint32_t>();
  return in.ok();
}

constexpr uint8_t kPresent = 2;
constexpr uint8_t kRefused = 4;

void AppendVerdict(std::string& out, const OfferAnswer::Verdict& verdict) {
  AppendByte(out, verdict.verdict);
  if (verdict.verdict == kPresent) AppendDigest(out, verdict.digest);
  if (verdict.verdict == kRefused) AppendError(out, verdict.reason);
}
bool TakeVerdict(ByteReader& in, OfferAnswer::Verdict& verdict) {
  verdict.verdict = in.Little<uint8_t>();
  if (verdict.verdict == kPresent) verdict.digest = TakeDigest(in);
  if (verdict.verdict == kRefused && (!TakeStatus(in, verdict.reason) || verdict.reason.ok())) {
    return false;
  }
  return in.ok() && verdict.verdict >= 1 && verdict.verdict <= kRefused;
}

constexpr uint8_t kHasFidelity = 1;
constexpr uint8_t kIsEncoded = 2;
constexpr size_t kMostRuns = 8192;  // sections of an envelope

void AppendDouble(std::string& out, double value) {
  AppendLittle(out, std::bit_cast<uint64_t>(value));
}
double TakeDouble(ByteReader& in) { return std::bit_cast<double>(in.Little<uint64_t>()); }

void AppendSections(std::string& out, const GetAnswer::Run& run) {
  AppendLittle(out, run.first);
  AppendLittle(out, run.count);
}
bool TakeSections(ByteReader& in, GetAnswer::Run& run) {
  run.first = in.Little<uint32_t>();
  run.count = in.Little<uint32_t>();
  return in.ok();
}

// In which form the bytes of a part are answered.
void AppendForm(std::string& out, const GetAnswer::Part& part) {
  const int form = (part.fidelity ? kHasFidelity : 0) | (part.encoded ? kIsEncoded : 0);
  AppendByte(out, static_cast<uint8_t>(form));
  if (form != 0) AppendDigest(out, part.put_digest);
  if (part.fidelity) {
    AppendText(out, part.fidelity->codec);
    AppendDouble(out, part.fidelity->bits_per_value);
    AppendDouble(out, part.fidelity->error);
  }
  if (part.encoded) AppendList(out, part.runs, AppendSections);
}
bool TakeForm(ByteReader& in, GetAnswer::Part& part) {
  const auto form = in.Little<uint8_t>();
  if (!in.ok() || form > (kHasFidelity | kIsEncoded)) return false;
  if (form != 0) part.put_digest = TakeDigest(in);
  if ((form & kHasFidelity) != 0) {
    std::string_view codec;
    if (!TakeText(in, codec)) return false;
    part.fidelity = GetAnswer::Fidelity{.codec = std::string(codec)};
    part.fidelity->bits_per_value = TakeDouble(in);
    part.fidelity->error = TakeDouble(in);
  }
  part.encoded = (form & kIsEncoded) != 0;
  return in.ok() && (!part.encoded || TakeList(in, kMostRuns, 8, part.runs, TakeSections));
}

void AppendGot(std::string& out, const GetAnswer::Part& part) {
  if (!part.status.ok()) return AppendError(out, part.status);
  AppendByte(out, 0);
  AppendLittle(out, part.size);
  AppendLittle(out, part.bytes);
  AppendDigest(out, part.digest);
  AppendByte(out, part.level);
  AppendLittle(out, part.depth);
  AppendForm(out, part);
}
bool TakeGot(ByteReader& in, GetAnswer::Part& part) {
  if (!TakeStatus(in, part.status)) return false;
  if (!part.status.ok()) return true;
  part.size = in.Little<uint64_t>();
  part.bytes = in.Little<uint64_t>();
  part.digest = TakeDigest(in);
  part.level = in.Little<uint8_t>();
  part.depth = in.Little<uint32_t>();
  return in.ok() && TakeForm(in, part);
}

void AppendStored(std::string& out, const PutAnswer::Part& part) {
  AppendByte(out, part.outcome);
  if (part.outcome == 0) return AppendError(out, part.status);
  AppendDigest(out, part.digest);
}
bool TakeStored(ByteReader& in, PutAnswer::Part& part) {
  part.outcome = in.Little<uint8_t>();
  if (!in.ok() || part.outcome > 3) return false;
  if (part.outcome == 0) return TakeStatus(in, part.status) && !part.status.ok();
  part.digest = TakeDigest(in);
  return in.ok();
}

}  // namespace

std::string EncodeError(const absl::Status& error) {
  std::string out;
  AppendError(out, error);
  return out;
}

std::string Encode(const Welcome& answer) {
  std::string out = Success();
  AppendLittle(out, answer.max_requests);
  AppendLittle(out, answer.max_regions);
  AppendLittle(out, answer.max_region_bytes);
  AppendText(out, answer.token);
  AppendLittle(out, answer.token_lifetime_ms);
  return out;
}

bool Decode(ByteView body, absl::Status& status, Welcome& answer) {
  return DecodeAnswer(body, status, [&](ByteReader& in) {
    answer.max_requests = in.Little<uint32_t>();
    answer.max_regions = in.Little<uint32_t>();
    answer.max_region_bytes = in.Little<uint64_t>();
    if (!TakeText(in, answer.token)) return false;
    answer.token_lifetime_ms = in.Little<uint64_t>();
    return in.ok();
  });
}

std::string Encode(const RegisterAnswer& answer) {
  std::string out = Success();
  AppendLittle(out, answer.region);
  AppendByte(out, answer.form);
  return out;
}

bool Decode(ByteView body, absl::Status& status, RegisterAnswer& answer) {
  return DecodeAnswer(body, status, [&](ByteReader& in) {
    answer.region = in.Little<uint32_t>();
    answer.form = in.Little<uint8_t>();
    return in.ok() && answer.form >= 1 && answer.form <= 4;
  });
}

std::string Encode(const UnregisterAnswer&) { return Success(); }

bool Decode(ByteView body, absl::Status& status, UnregisterAnswer&) {
  return DecodeAnswer(body, status, [](ByteReader&) { return true; });
}

std::string Encode(const MatchAnswer& answer) {
  std::string out = Success();
  AppendLittle(out, answer.blocks);
  AppendLittle(out, answer.tokens);
  AppendLittle(out, answer.lease);
  AppendLittle(out, answer.lease_ms);
  AppendLittle(out, answer.fetch_bytes);
  AppendList(out, answer.runs, AppendRun);
  AppendList(out, answer.pending, AppendU32);
  AppendText(out, answer.present);
  AppendList(out, answer.groups, AppendReach);
  return out;
}

bool Decode(ByteView body, absl::Status& status, MatchAnswer& answer) {
  return DecodeAnswer(body, status, [&](ByteReader& in) {
    answer.blocks = in.Little<uint32_t>();
    answer.tokens = in.Little<uint64_t>();
    answer.lease = in.Little<uint64_t>();
    answer.lease_ms = in.Little<uint32_t>();
    answer.fetch_bytes = in.Little<uint64_t>();
    return TakeList(in, kMaxKeys, 9, answer.runs, TakeRun) &&
           TakeList(in, kMaxKeys, 4, answer.pending, TakeU32) && TakeText(in, answer.present) &&
           TakeList(in, kMaxRanks, 8, answer.groups, TakeReach);
  });
}

std::string Encode(const OfferAnswer& answer) {
  std::string out = Success();
  AppendLittle(out, answer.reservation);
  AppendList(out, answer.verdicts, AppendVerdict);
  return out;
}

bool Decode(ByteView body, absl::Status& status, OfferAnswer& answer) {
  return DecodeAnswer(body, status, [&](ByteReader& in) {
    answer.reservation = in.Little<uint64_t>();
    return TakeList(in, kMaxParts, 1, answer.verdicts, TakeVerdict);
  });
}

std::string Encode(const GetAnswer& answer) {
  std::string out = Success();
  AppendList(out, answer.parts, AppendGot);
  return out;
}

bool Decode(ByteView body, absl::Status& status, GetAnswer& answer) {
  return DecodeAnswer(body, status, [&](ByteReader& in) {
    return TakeList(in, kMaxPlaces, 3, answer.parts, TakeGot);
  });
}

std::string Encode(const PutAnswer& answer) {
  std::string out = Success();
  AppendList(out, answer.parts, AppendStored);
  return out;
}

bool Decode(ByteView body, absl::Status& status, PutAnswer& answer) {
  return DecodeAnswer(body, status, [&](ByteReader& in) {
    return TakeList(in, kMaxParts, 4, answer.parts, TakeStored);
  });
}

std::string Encode(const TouchAnswer& answer) {
  std::string out = Success();
  AppendLittle(out, answer.found);
  return out;
}

bool Decode(ByteView body, absl::Status& status, TouchAnswer& answer) {
  return DecodeAnswer(body, status, [&](ByteReader& in) { return TakeU32(in, answer.found); });
}

std::string Encode(const PrefetchAnswer& answer) {
  std::string out = Success();
  AppendLittle(out, answer.prefetch);
  AppendLittle(out, answer.queued);
  AppendLittle(out, answer.in_ram);
  AppendLittle(out, answer.absent);
  AppendLittle(out, answer.dropped);
  return out;
}

bool Decode(ByteView body, absl::Status& status, PrefetchAnswer& answer) {
  return DecodeAnswer(body, status, [&](ByteReader& in) {
    answer.prefetch = in.Little<uint64_t>();
    return TakeU32(in, answer.queued) && TakeU32(in, answer.in_ram) && TakeU32(in, answer.absent) &&
           TakeU32(in, answer.dropped);
  });
}

}  // namespace mnemo::stream
