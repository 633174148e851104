#include "client/cpp/read_assembly.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "client/cpp/convert.h"

namespace mnemo::client {
namespace {

absl::Status Broken(size_t index, std::string_view what) {
  return absl::InternalError(fmt::format("the daemon's answer for part {} {}", index, what));
}

}  // namespace

ReadAssembly::ReadAssembly(const GetRequest& request, PartDecoder* decoder)
    : destinations_(request.destinations),
      decoder_(decoder),
      verify_(request.verify),
      on_data_(request.on_data),
      parts_(request.destinations.size()) {}

void ReadAssembly::Reset() { parts_.assign(destinations_.size(), Part{}); }

absl::Status ReadAssembly::OnHeader(const v1::GetHeader& header) {
  const size_t index = header.index();
  if (index >= parts_.size()) return Broken(index, "was not asked for");
  Part& part = parts_[index];
  // A second header may only withdraw what the first announced.
  if (part.announced && !header.has_error()) return Broken(index, "has two headers");
  if (part.announced && !part.read.status.ok()) return absl::OkStatus();
  part.announced = true;
  part.read.size = header.size();
  part.read.digest = ToDigest(header.digest());
  part.has_digest = header.has_digest() || !header.has_fidelity();
  if (header.has_fidelity()) {
    part.read.fidelity = PartFidelity{.codec = header.fidelity().codec(),
                                      .bits_per_value = header.fidelity().bits_per_value(),
                                      .error = header.fidelity().error()};
  }
  part.read.level = ToLevel(header.level());
  part.read.depth = header.depth();
  if (header.has_error()) {
    part.read.status = ToStatus(header.error());
    part.complete = true;
    return absl::OkStatus();
  }
  if (header.bytes_following() > header.size()) {
    return Broken(index, "announces more bytes than the part has");
  }
  part.expected = header.bytes_following();
  if (header.has_encoded()) return OnEncodedHeader(header, part);
  if (part.expected == 0) Complete(index);
  return absl::OkStatus();
}

absl::Status ReadAssembly::OnEncodedHeader(const v1::GetHeader& header, Part& part) {
  const size_t index = header.index();
  if (decoder_ == nullptr) return Broken(index, "is encoded, which was not asked for");
  if (part.expected == 0) return Broken(index, "is encoded in no bytes");
  part.encoded =
      EncodedPart{.digest = part.read.digest, .put_digest = ToDigest(header.put_digest())};
  for (const v1::SectionRun& run : header.encoded().runs()) {
    part.encoded->runs.push_back({.first = run.first(), .count = run.count()});
  }
  // What is smaller than the bytes that it stands for fits where they do.
  const uint64_t room = destinations_[index].memory.size();
  if (part.expected > room) {
    part.read.status = absl::OutOfRangeError(fmt::format(
        "destinations[{}] holds {} bytes of the part, which has more even encoded", index, room));
  } else {
    part.encoded->bytes.reserve(part.expected);
  }
  return absl::OkStatus();
}

absl::Status ReadAssembly::OnEncodedData(GetDataView piece, Part& part) {
  const uint64_t size = piece.data.remaining();
  if (part.complete || piece.offset != part.read.bytes_received || size == 0 ||
      size > part.expected - part.read.bytes_received) {
    return Broken(piece.index, "has other bytes than announced");
  }
  part.read.bytes_received += size;
  if (part.read.status.ok()) {
    std::vector<uint8_t>& bytes = part.encoded->bytes;
    bytes.resize(part.read.bytes_received);
    piece.data.CopyTo(bytes.data() + piece.offset, size);
  }
  if (part.read.bytes_received < part.expected) return absl::OkStatus();
  part.complete = true;
  Decode(piece.index, {});
  return absl::OkStatus();
}

void ReadAssembly::Decode(size_t index, const CalibrationFailures& failures) {
  Part& part = parts_[index];
  part.missing.clear();
  if (part.read.status.ok()) {
    part.missing = decoder_->Decode(index, *part.encoded, failures, part.read);
  }
  if (part.missing.empty()) part.encoded.reset();
}

std::set<uint32_t> ReadAssembly::MissingCalibrations() const {
  std::set<uint32_t> missing;
  for (const Part& part : parts_) missing.insert(part.missing.begin(), part.missing.end());
  return missing;
}

void ReadAssembly::DecodeRest(const CalibrationFailures& failures) {
  for (size_t i = 0; i < parts_.size(); ++i) {
    if (!parts_[i].missing.empty()) Decode(i, failures);
  }
}

absl::Status ReadAssembly::OnData(GetDataView piece) {
  const size_t index = piece.index;
  if (index >= parts_.size() || !parts_[index].announced) return Broken(index, "has no header");
  Part& part = parts_[index];
  if (part.encoded) return OnEncodedData(std::move(piece), part);
  const uint64_t size = piece.data.remaining();
  if (part.complete || size == 0 || size > part.expected - part.read.bytes) {
    return Broken(index, "has other bytes than announced");
  }
  if (piece.offset > part.read.size || size > part.read.size - piece.offset) {
    return Broken(index, "has bytes beyond the part");
  }
  if (!AddRun(part.landed, piece.offset, piece.offset + size)) {
    return Broken(index, "has the same bytes twice");
  }
  part.read.bytes += size;

  const Destination& to = destinations_[index];
  const bool fits = piece.offset >= to.part_offset &&
                    piece.offset - to.part_offset <= to.memory.size() &&
                    size <= to.memory.size() - (piece.offset - to.part_offset);
  if (!fits) {
    part.read.status = absl::OutOfRangeError(fmt::format(
        "destinations[{}] holds bytes {} to {} of the part, needed are {} to {}", index,
        to.part_offset, to.part_offset + to.memory.size(), piece.offset, piece.offset + size));
  } else {
    piece.data.CopyTo(to.memory.data() + (piece.offset - to.part_offset), size);
    if (on_data_) on_data_(index, piece.offset, size);
  }
  if (part.read.bytes == part.expected) Complete(index);
  return absl::OkStatus();
}

bool ReadAssembly::AddRun(std::map<uint64_t, uint64_t>& runs, uint64_t begin, uint64_t end) {
  auto next = runs.lower_bound(begin);
  if (next != runs.end() && next->first < end) return false;
  if (next != runs.begin()) {
    const auto before = std::prev(next);
    if (before->second > begin) return false;
    if (before->second == begin) {
      before->second = end;
      if (next != runs.end() && next->first == end) {
        before->second = next->second;
        runs.erase(next);
      }
      return true;
    }
  }
  if (next != runs.end() && next->first == end) {
    end = next->second;
    next = runs.erase(next);
  }
  runs.emplace_hint(next, begin, end);
  return true;
}

void ReadAssembly::Complete(size_t index) {
  Part& part = parts_[index];
  part.complete = true;
  if (!verify_ || !part.has_digest || !part.read.status.ok() || part.expected != part.read.size) {
    return;
  }
  const Destination& to = destinations_[index];
  const Digest digest = DigestOf(to.memory.first(part.read.size));
  if (digest != part.read.digest) {
    part.read.status =
        absl::DataLossError(fmt::format("part {} differs from its digest on arrival", index));
  }
}

absl::StatusOr<GetResult> ReadAssembly::Finish(const absl::Status& status) {
  const bool any =
      std::any_of(parts_.begin(), parts_.end(), [](const Part& part) { return part.complete; });
  if (!status.ok() && !any) return status;
  GetResult result;
  result.parts.reserve(parts_.size());
  for (size_t i = 0; i < parts_.size(); ++i) {
    Part& part = parts_[i];
    if (!part.complete) {
      part.read.status = status.ok() ? Broken(i, "ended early") : status;
    }
    result.parts.push_back(std::move(part.read));
  }
  return result;
}

}  // namespace mnemo::client
