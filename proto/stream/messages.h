// What the bodies of frames say: docs/formats/stream-protocol.md.
//
// Meanings, units and ranges are those of proto/mnemo/v1/block.proto, whose
// messages these mirror; said here is only what differs. Decoded values are views of
// the body. Decode answers false for a body that is malformed: cut, with bytes left
// over, a count over its limit, a number that stands for nothing. Values within a
// well-formed body are the engine's to check.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "proto/stream/frame.h"
#include "storage/base/bytes.h"
#include "storage/base/checksum.h"

namespace mnemo::stream {

// Most of what a list may hold.
inline constexpr size_t kMaxKeys = 65536;
inline constexpr size_t kMaxParts = 4096;
inline constexpr size_t kMaxPlaces = 16384;
inline constexpr size_t kMaxRanks = 1024;  // of groups, ranks, parts of each key

// First of all, and only first.
struct Hello {
  // From StreamService.Open; empty: the peer's uid says who it is.
  std::string_view ticket;
  // Asks for a token that gRPC calls may show.
  bool want_token = false;
  std::string_view client;  // for people; at most 64 bytes
};
struct Welcome {
  uint32_t max_requests = 0;  // that may be under way
  uint32_t max_regions = 0;   // that may be registered
  uint64_t max_region_bytes = 0;
  std::string_view token;  // empty: none was asked for
  uint64_t token_lifetime_ms = 0;
};

// What memory is registered. Numbers are of the wire.
struct RegisterRequest {
  enum class Kind : uint8_t {
    kFile = 1,     // of the descriptor that comes along
    kProcess = 2,  // [address, address + bytes) of the peer's own process
    kStaging = 3,  // the server makes it; its descriptor comes with the answer
  };
  Kind kind = Kind::kFile;
  uint64_t address = 0;  // of kProcess
  uint64_t bytes = 0;
};
struct RegisterAnswer {
  uint32_t region = 0;  // its name in this stream; not 0
  // How the server comes to it: 1 maps it, 2 reads and writes the file, 3 the
  // process; 4 made it.
  uint8_t form = 0;
};
struct UnregisterRequest {
  uint32_t region = 0;
};
struct UnregisterAnswer {};

// Where payload travels in the stream, places name this region, with one slice from
// offset 0 on.
inline constexpr uint32_t kInStream = 0;

// `count` runs of `length` bytes in a region, whose first begins at `offset` and
// each other `stride` bytes behind the one before.
struct Slice {
  uint64_t offset = 0;
  uint64_t length = 0;
  uint64_t stride = 0;
  uint32_t count = 1;
  friend bool operator==(const Slice&, const Slice&) = default;
};
// The bytes of one part: slices [first, first + count) of its request, in order.
struct Place {
  uint32_t region = 0;
  uint32_t first = 0;
  uint32_t count = 0;
  friend bool operator==(const Place&, const Place&) = default;
};
inline std::span<const Slice> SlicesOf(const std::vector<Slice>& slices, const Place& place) {
  return std::span(slices).subspan(place.first, place.count);
}

struct Scope {
  uint64_t space = 0;           // 0: by name
  std::string_view space_name;  // only then
  std::string_view salt;
};
struct KeyRefs {
  std::vector<std::string_view> keys;
  std::vector<std::string_view> stretches;
};
struct PartRef {
  uint8_t group = 0;
  uint16_t tp_rank = 0;
  uint16_t pp_rank = 0;
  friend bool operator==(const PartRef&, const PartRef&) = default;
};

struct MatchRequest {
  Scope scope;
  KeyRefs keys;
  std::vector<uint32_t> groups;
  std::vector<uint32_t> tp_ranks;
  std::vector<uint32_t> pp_ranks;
  uint32_t lease_ms = 0;
  bool want_bitmap = false;
  bool peek = false;
};
struct MatchAnswer {
  struct Run {
    uint32_t first = 0;
    uint32_t count = 0;
    uint8_t level = 0;  // 1 to 4
  };
  struct GroupReach {
    uint32_t group = 0;
    uint32_t blocks = 0;
  };
  uint32_t blocks = 0;
  uint64_t tokens = 0;
  uint64_t lease = 0;
  uint32_t lease_ms = 0;
  uint64_t fetch_bytes = 0;
  std::vector<Run> runs;
  std::vector<uint32_t> pending;
  std::string_view present;
  std::vector<GroupReach> groups;
};

struct OfferedPart {
  std::string_view key;
  PartRef part;
  uint64_t size = 0;
  uint32_t depth = 0;
  std::string_view parent;
  std::string_view stretch;
  std::optional<Digest128> digest;
};
struct OfferRequest {
  Scope scope;
  uint32_t reservation_ms = 0;
  std::vector<OfferedPart> parts;
};
struct OfferAnswer {
  struct Verdict {
    uint8_t verdict = 0;  // 1 WANT, 2 PRESENT, 3 PENDING, 4 REFUSED
    Digest128 digest;     // of PRESENT
    absl::Status reason;  // of REFUSED
  };
  uint64_t reservation = 0;
  std::vector<Verdict> verdicts;
};

struct GetRequest {
  Scope scope;
  KeyRefs keys;
  std::vector<PartRef> parts;
  uint32_t first_layer = 0;
  uint32_t layer_count = 0;
  uint64_t lease = 0;
  uint32_t takes = 0;  // bit i: sections encoded by v1.Encoding i, which the reader decodes
  // One for each key and part, by key; each has room for what is read of it.
  std::vector<Place> places;
  std::vector<Slice> slices;
};
struct GetAnswer {
  struct Fidelity {
    std::string codec;
    double bits_per_value = 0;
    double error = 0;
    friend bool operator==(const Fidelity&, const Fidelity&) = default;
  };
  struct Run {  // neighbouring sections of an envelope
    uint32_t first = 0;
    uint32_t count = 0;
    friend bool operator==(const Run&, const Run&) = default;
  };
  struct Part {
    absl::Status status;  // not OK: nothing else is said, and its place holds nothing
    uint64_t size = 0;    // of the whole part
    uint64_t bytes = 0;   // that were written
    Digest128 digest;
    uint8_t level = 0;
    uint32_t depth = 0;
    std::optional<Fidelity> fidelity;  // none: as it was put
    bool encoded = false;              // what was written is encoded
    Digest128 put_digest;              // with fidelity or encoded
    std::vector<Run> runs;             // of encoded; none: all sections
  };
  std::vector<Part> parts;  // as the places
};

struct PutRequest {
  Scope scope;
  uint64_t reservation = 0;
  uint8_t durability = 0;  // 0: the space's own; 1 CACHE, 2 INTERVAL, 3 SYNC
  uint64_t time_to_live_seconds = 0;
  std::vector<OfferedPart> parts;
  // One for each part; its slices are as long as the part.
  std::vector<Place> places;
  std::vector<Slice> slices;
};
struct PutAnswer {
  struct Part {
    uint8_t outcome = 0;  // 0: failed; 1 STORED, 2 ALREADY_PRESENT, 3 CONFLICT
    Digest128 digest;     // unless it failed
    absl::Status status;  // if it failed
  };
  std::vector<Part> parts;  // as of the request
};

struct TouchRequest {
  Scope scope;
  KeyRefs keys;
};
struct TouchAnswer {
  uint32_t found = 0;
};

struct PrefetchRequest {
  Scope scope;
  uint64_t cancel = 0;
  std::vector<PartRef> parts;  // at most kMaxRanks
  KeyRefs keys;
};
struct PrefetchAnswer {
  uint64_t prefetch = 0;
  uint32_t queued = 0;
  uint32_t in_ram = 0;
  uint32_t absent = 0;
  uint32_t dropped = 0;
};

// How much payload of a PUT may be sent, where it travels in the stream.
struct Credit {
  uint64_t bytes = 0;  // from the PUT's beginning on; only grows
  // In the first: the parts whose payload is wanted, in the order in which it comes.
  std::vector<uint32_t> wanted;
};
// What stands before the payload of a DATA frame.
struct Data {
  uint32_t index = 0;   // of the part: as its place
  uint64_t offset = 0;  // in what travels of the part
};

struct Close {
  CloseReason reason = CloseReason::kDone;
  std::string_view message;  // for people
};

std::string Encode(const Hello& hello);
std::string Encode(const RegisterRequest& request);
std::string Encode(const UnregisterRequest& request);
std::string Encode(const MatchRequest& request);
std::string Encode(const OfferRequest& request);
std::string Encode(const GetRequest& request);
std::string Encode(const PutRequest& request);
std::string Encode(const TouchRequest& request);
std::string Encode(const PrefetchRequest& request);
std::string Encode(const Close& close);
std::string Encode(const Credit& credit);
std::string Encode(const Data& data);

bool Decode(ByteView body, Hello& hello);
bool Decode(ByteView body, RegisterRequest& request);
bool Decode(ByteView body, UnregisterRequest& request);
bool Decode(ByteView body, MatchRequest& request);
bool Decode(ByteView body, OfferRequest& request);
bool Decode(ByteView body, GetRequest& request);
bool Decode(ByteView body, PutRequest& request);
bool Decode(ByteView body, TouchRequest& request);
bool Decode(ByteView body, PrefetchRequest& request);
bool Decode(ByteView body, Close& close);
bool Decode(ByteView body, Credit& credit);
bool Decode(ByteView body, Data& data);

// The body of any answer that is an error.
std::string EncodeError(const absl::Status& error);
std::string Encode(const Welcome& answer);
std::string Encode(const RegisterAnswer& answer);
std::string Encode(const UnregisterAnswer& answer);
std::string Encode(const MatchAnswer& answer);
std::string Encode(const OfferAnswer& answer);
std::string Encode(const GetAnswer& answer);
std::string Encode(const PutAnswer& answer);
std::string Encode(const TouchAnswer& answer);
std::string Encode(const PrefetchAnswer& answer);

// `answer` is filled where `status` is OK.
bool Decode(ByteView body, absl::Status& status, Welcome& answer);
bool Decode(ByteView body, absl::Status& status, RegisterAnswer& answer);
bool Decode(ByteView body, absl::Status& status, UnregisterAnswer& answer);
bool Decode(ByteView body, absl::Status& status, MatchAnswer& answer);
bool Decode(ByteView body, absl::Status& status, OfferAnswer& answer);
bool Decode(ByteView body, absl::Status& status, GetAnswer& answer);
bool Decode(ByteView body, absl::Status& status, PutAnswer& answer);
bool Decode(ByteView body, absl::Status& status, TouchAnswer& answer);
bool Decode(ByteView body, absl::Status& status, PrefetchAnswer& answer);

}  // namespace mnemo::stream
