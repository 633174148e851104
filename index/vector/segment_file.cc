#include "index/vector/segment_file.h"

#include "absl/strings/str_cat.h"
#include "storage/base/checksum.h"
#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

constexpr uint32_t kMagic = 0x53564e4d;  // "MNVS"
constexpr uint16_t kVersion = 1;
constexpr size_t kHeaderBytes = 64;
constexpr size_t kEntryBytes = 32;
constexpr uint32_t kMaxSections = 64;
constexpr uint64_t kHeaderSeed = 0x6d6e656d6f767368;
constexpr uint64_t kDigestSeed = 0x6d6e656d6f767364;

template <typename Enum>
uint8_t Byte(Enum value) {
  return static_cast<uint8_t>(value);
}

uint64_t HeaderChecksum(ByteView header, ByteView table) {
  return Checksum64(header.first(kHeaderBytes - 8), Checksum64(table, kHeaderSeed));
}

absl::StatusOr<SegmentHeader> ParseHeader(ByteReader& reader) {
  SegmentHeader header;
  const uint8_t kind = reader.Little<uint8_t>();
  const uint8_t metric = reader.Little<uint8_t>();
  const uint8_t type = reader.Little<uint8_t>();
  reader.Take(3);
  header.shape.dimension = reader.Little<uint32_t>();
  header.rows = reader.Little<uint32_t>();
  header.nodes = reader.Little<uint32_t>();
  header.seed = reader.Little<uint64_t>();
  if (kind != Byte(SegmentKind::kHnsw) && kind != Byte(SegmentKind::kIvf)) {
    return CorruptSegment(absl::StrCat("kind ", kind));
  }
  header.kind = static_cast<SegmentKind>(kind);
  header.shape.metric = static_cast<Metric>(metric);
  header.shape.type = static_cast<ElementType>(type);
  if (const absl::Status shape = header.shape.Validate(); !shape.ok()) {
    return CorruptSegment(std::string(shape.message()));
  }
  if (header.rows < 1 || header.rows > kMaxSegmentRows || header.nodes > header.rows) {
    return CorruptSegment(absl::StrCat(header.nodes, " nodes of ", header.rows, " rows"));
  }
  return header;
}

}  // namespace

absl::Status CorruptSegment(std::string_view what) {
  return absl::DataLossError(absl::StrCat("vector segment: ", std::string(what)));
}

uint64_t SegmentDigest(ByteView bytes) { return Checksum64(bytes, kDigestSeed); }

std::string SegmentFileWriter::Finish() const {
  uint64_t offset = kHeaderBytes + kEntryBytes * sections_.size();
  std::string table;
  for (const Entry& entry : sections_) {
    AppendLittle<uint32_t>(table, static_cast<uint32_t>(entry.section));
    AppendLittle<uint32_t>(table, 0);
    AppendLittle<uint64_t>(table, offset);
    AppendLittle<uint64_t>(table, entry.bytes.size());
    AppendLittle<uint64_t>(table, Checksum64(entry.bytes));
    offset += entry.bytes.size();
  }
  std::string out;
  out.reserve(offset);
  AppendLittle<uint32_t>(out, kMagic);
  AppendLittle<uint16_t>(out, kVersion);
  AppendLittle<uint8_t>(out, Byte(header_.kind));
  AppendLittle<uint8_t>(out, Byte(header_.shape.metric));
  AppendLittle<uint8_t>(out, Byte(header_.shape.type));
  out.append(3, '\0');
  AppendLittle<uint32_t>(out, header_.shape.dimension);
  AppendLittle<uint32_t>(out, header_.rows);
  AppendLittle<uint32_t>(out, header_.nodes);
  AppendLittle<uint64_t>(out, header_.seed);
  AppendLittle<uint32_t>(out, static_cast<uint32_t>(sections_.size()));
  AppendLittle<uint64_t>(out, offset);
  out.append(kHeaderBytes - 8 - out.size(), '\0');
  out.append(8, '\0');
  StoreLittle(out.data() + kHeaderBytes - 8, HeaderChecksum(AsBytes(out), AsBytes(table)));
  out += table;
  for (const Entry& entry : sections_) out.append(AsText(entry.bytes));
  return out;
}

absl::StatusOr<SegmentFileReader> SegmentFileReader::Open(ByteView bytes) {
  ByteReader reader(bytes);
  if (reader.Little<uint32_t>() != kMagic) return CorruptSegment("no such file");
  const uint16_t version = reader.Little<uint16_t>();
  if (reader.ok() && version != kVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat("vector segment: version ", version, ", this build reads ", kVersion));
  }
  SegmentFileReader file;
  MNEMO_ASSIGN_OR_RETURN(file.header_, ParseHeader(reader));
  const uint32_t count = reader.Little<uint32_t>();
  const uint64_t total = reader.Little<uint64_t>();
  if (!reader.ok() || count > kMaxSections || total != bytes.size() ||
      bytes.size() < kHeaderBytes + count * kEntryBytes) {
    return CorruptSegment("cut short, or of another length than it says");
  }
  const ByteView table = bytes.subspan(kHeaderBytes, count * kEntryBytes);
  if (LoadLittle<uint64_t>(bytes.data() + kHeaderBytes - 8) != HeaderChecksum(bytes, table)) {
    return CorruptSegment("checksum of the header");
  }
  ByteReader entries(table);
  uint64_t offset = kHeaderBytes + table.size();
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t section = entries.Little<uint32_t>();
    entries.Take(4);
    const uint64_t begin = entries.Little<uint64_t>();
    const uint64_t size = entries.Little<uint64_t>();
    const uint64_t checksum = entries.Little<uint64_t>();
    if (begin != offset || size > bytes.size() - offset) {
      return CorruptSegment(absl::StrCat("section ", section, " lies outside"));
    }
    if (!file.Find(static_cast<SegmentSection>(section)).empty()) {
      return CorruptSegment(absl::StrCat("section ", section, " twice"));
    }
    const ByteView content = bytes.subspan(begin, size);
    if (Checksum64(content) != checksum) {
      return CorruptSegment(absl::StrCat("checksum of section ", section));
    }
    file.sections_.push_back({section, content});
    offset += size;
  }
  if (offset != bytes.size()) return CorruptSegment("bytes behind the last section");
  return file;
}

ByteView SegmentFileReader::Find(SegmentSection section) const {
  for (const Entry& entry : sections_) {
    if (entry.section == static_cast<uint32_t>(section)) return entry.bytes;
  }
  return {};
}

absl::StatusOr<ByteView> SegmentFileReader::Get(SegmentSection section, uint64_t size) const {
  const ByteView bytes = Find(section);
  if (bytes.size() != size) {
    return CorruptSegment(absl::StrCat("section ", static_cast<uint32_t>(section), " of ",
                                       bytes.size(), " bytes, expected ", size));
  }
  return bytes;
}

}  // namespace mnemo
