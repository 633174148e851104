// Encodes and decodes a captured chain, block by block and layer by layer, with
// every codec, times it on one core, and leaves what was decoded for
// attention errors to be measured on.
//
// bench_codecs CAPTURE BOOK TOKENS OUT [CODECS]: CAPTURE is a model's folder of
// `make capture`; what was captured is rounded to bf16 first, and that counts as
// exact. The statistics are those of the book "calibration"; only "heldout" is timed.
// CODECS names the
// only ones wanted, with commas. Prints JSON. Writes OUT/CODEC_{k,v}.bf16, [layer, token, head,
// dimension].
#include <algorithm>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "storage/base/half.h"
#include "storage/codec/envelope.h"
#include "storage/codec/tensor_codec.h"
#include "tests/bench/common/bench_support.h"

namespace mnemo {
namespace {

using Json = nlohmann::ordered_json;
using Bytes = std::vector<uint8_t>;

constexpr uint64_t kTableEntryBytes = EnvelopeHeaderSize(1) - EnvelopeHeaderSize(0);
// Time goes on until so much was done, and the best of so many rounds counts: others
// use this machine too.
constexpr uint64_t kTimedBytes = uint64_t{16} << 20;
constexpr int kRounds = 7;

struct Coder {
  std::string name;
  CodecId id;
  uint32_t bits;
};

std::vector<Coder> Coders() {
  std::vector<Coder> coders = {
      {"int8", CodecId::kKivi, 8}, {"kivi4", CodecId::kKivi, 4}, {"kivi2", CodecId::kKivi, 2}};
  for (const uint32_t bits : {1u, 2u, 3u, 4u, 5u}) {
    coders.push_back({"rotated" + std::to_string(bits), CodecId::kRotated, bits});
  }
  for (const uint32_t bits : {2u, 3u, 4u, 5u, 8u}) {
    coders.push_back({"progressive" + std::to_string(bits), CodecId::kProgressive, bits});
  }
  for (const uint32_t bits : {1u, 2u, 3u, 4u, 5u}) {
    coders.push_back({"transform" + std::to_string(bits), CodecId::kTransform, bits});
  }
  return coders;
}

struct Capture {
  uint32_t layers = 0;
  uint32_t tokens = 0;
  uint32_t heads = 0;
  uint32_t dimension = 0;
  std::vector<LayerRope> ropes;
  // As bf16, and as fp16 for the lossless codec: [keys, values].
  Bytes bfloats[2];
  Bytes halves[2];

  TensorShape Shape(TensorRole role, uint32_t layer, uint32_t block_tokens, uint32_t depth) const {
    return {.role = role,
            .tokens = block_tokens,
            .heads = heads,
            .dimension = dimension,
            .exact_tokens = ExactTokens(depth, block_tokens),
            .first_layer = layer,
            .first_position = depth * block_tokens};
  }
  size_t Offset(uint32_t layer, uint32_t token) const {
    return (size_t{layer} * tokens + token) * heads * dimension * 2;
  }
  const Bytes& of(TensorRole role) const { return bfloats[static_cast<size_t>(role)]; }
  ByteView Section(TensorRole role, uint32_t layer, uint32_t block_tokens, uint32_t depth) const {
    return Cut(of(role), role, layer, block_tokens, depth);
  }
  // The same of any bytes that lie as the tensors do.
  ByteView Cut(const Bytes& bytes, TensorRole role, uint32_t layer, uint32_t block_tokens,
               uint32_t depth) const {
    return ByteView(bytes).subspan(Offset(layer, depth * block_tokens),
                                   Shape(role, layer, block_tokens, depth).bytes());
  }
};

void Read(const std::string& path, size_t values, size_t role, Capture& into) {
  std::ifstream file(path, std::ios::binary);
  std::vector<float> floats(values);
  file.read(reinterpret_cast<char*>(floats.data()), static_cast<std::streamsize>(values * 4));
  if (!file) Require(absl::NotFoundError("too short, or not there"), path.c_str());
  into.bfloats[role].resize(values * 2);
  into.halves[role].resize(values * 2);
  for (size_t i = 0; i < values; ++i) {
    StoreLittle(into.bfloats[role].data() + 2 * i, FloatToBfloat(floats[i]));
    StoreLittle(into.halves[role].data() + 2 * i, FloatToHalf(floats[i]));
  }
}

Capture Load(const std::string& folder) {
  std::ifstream file(folder + "/capture.json");
  if (!file) Require(absl::NotFoundError("not there"), folder.c_str());
  const Json facts = Json::parse(file);
  Capture capture;
  capture.layers = static_cast<uint32_t>(facts.at("layers").size());
  capture.tokens = facts.at("tokens").get<uint32_t>();
  capture.heads = facts.at("kv_heads").get<uint32_t>();
  capture.dimension = facts.at("dim").get<uint32_t>();
  const bool half = facts.at("pairing").get<std::string>() == "half";
  for (const Json& layer : facts.at("layers")) {
    capture.ropes.push_back(
        {half ? RopeStyle::kHalf : RopeStyle::kInterleaved, layer.at("theta").get<double>()});
  }
  const size_t values = size_t{capture.layers} * capture.tokens * capture.heads * capture.dimension;
  Read(folder + "/k.f32", values, 0, capture);
  Read(folder + "/v.f32", values, 1, capture);
  return capture;
}

std::shared_ptr<const Calibration> Calibrate(const Capture& capture) {
  CalibrationFit fit = Require(CalibrationFit::Create({.layers = capture.layers,
                                                       .heads = capture.heads,
                                                       .k_dimension = capture.dimension,
                                                       .v_dimension = capture.dimension,
                                                       .ropes = capture.ropes},
                                                      CalibrationKind::kAxes),
                               "calibration");
  for (const TensorRole role : {TensorRole::kKeys, TensorRole::kValues}) {
    for (uint32_t layer = 0; layer < capture.layers; ++layer) {
      Require(fit.Add(capture.Shape(role, layer, capture.tokens, 0),
                      capture.Section(role, layer, capture.tokens, 0)),
              "calibration");
    }
  }
  return Require(fit.Finish(), "calibration");
}

// One section, there and back.
struct Section {
  TensorShape shape;
  ByteView exact;
  Bytes encoded;
  uint8_t* decoded;
};

// GB/s of exact bytes of the best round over all sections.
template <typename Work>
double BestRate(std::vector<Section>& sections, const Work& work) {
  double best = 0;
  for (int round = 0; round < kRounds; ++round) {
    uint64_t bytes = 0;
    const auto began = BenchClock::now();
    while (bytes < kTimedBytes) {
      for (Section& section : sections) {
        work(section);
        bytes += section.exact.size();
        if (bytes >= kTimedBytes) break;
      }
    }
    best = std::max(best, static_cast<double>(bytes) / Seconds(BenchClock::now() - began) / 1e9);
  }
  return best;
}

// Encodes, decodes and times one role; adds up the sizes.
Json Measure(const Coder& coder, const Capture& capture, TensorRole role, uint32_t tokens,
             const CalibrationSet& set, const Calibration& calibration, bool timed,
             Bytes& decoded) {
  const auto codec = Require(TensorCodec::Create(coder.id, coder.bits), coder.name.c_str());
  TensorDecoder decoder(set);
  std::vector<Section> sections;
  uint64_t bytes = 0;
  uint64_t exact_bytes = 0;
  EncodingError error;
  Json layer_bits = Json::array();
  decoded.resize(capture.of(role).size());
  for (uint32_t layer = 0; layer < capture.layers; ++layer) {
    const uint64_t before = bytes - exact_bytes;
    const uint64_t values_before = error.values;
    for (uint32_t depth = 0; depth < capture.tokens / tokens; ++depth) {
      Section section = {.shape = capture.Shape(role, layer, tokens, depth),
                         .exact = capture.Section(role, layer, tokens, depth),
                         .encoded = {},
                         .decoded = decoded.data() + capture.Offset(layer, depth * tokens)};
      section.encoded.resize(codec->MaxEncodedSize(section.shape));
      const EncodedTensor made =
          Require(codec->Encode(section.shape, section.exact, &calibration, section.encoded),
                  coder.name.c_str());
      section.encoded.resize(made.bytes);
      section.encoded.shrink_to_fit();
      bytes += made.bytes + kTableEntryBytes;
      exact_bytes += made.exact_bytes;
      error.Add(made.error);
      sections.push_back(std::move(section));
    }
    layer_bits.push_back(8.0 * static_cast<double>(bytes - exact_bytes - before) /
                         static_cast<double>(error.values - values_before));
  }
  const auto decode = [&](Section& section) {
    Require(decoder.Decode(section.encoded, section.shape, TensorSlice::All(section.shape),
                           {section.decoded, section.exact.size()}),
            coder.name.c_str());
  };
  for (Section& section : sections) decode(section);
  const auto values = static_cast<double>(capture.of(role).size()) / 2;
  Json facts = {{"true_bits", 8.0 * static_cast<double>(bytes - exact_bytes) /
                                  static_cast<double>(error.values)},
                {"stored_bits", 8.0 * static_cast<double>(bytes) / values},
                {"layer_bits", layer_bits},
                {"relative_error", error.relative()}};
  if (!timed) return facts;
  // Timed into memory that is warm, as the caller's is.
  Bytes into(sections.front().exact.size());
  // The first one has exact tokens, the last one none.
  Bytes encoded(std::max(codec->MaxEncodedSize(sections.front().shape),
                         codec->MaxEncodedSize(sections.back().shape)));
  facts["decode_gbps"] = BestRate(sections, [&](Section& section) {
    Require(decoder.Decode(section.encoded, section.shape, TensorSlice::All(section.shape), into),
            coder.name.c_str());
  });
  facts["memcpy_gbps"] = BestRate(sections, [&](Section& section) {
    std::memcpy(into.data(), section.exact.data(), into.size());
  });
  facts["encode_gbps"] = BestRate(sections, [&](Section& section) {
    Require(codec->Encode(section.shape, section.exact, &calibration, encoded).status(),
            coder.name.c_str());
  });
  return facts;
}

// The lossless codec over the same sections, as bf16 and as fp16.
Json MeasureLossless(const Capture& capture, uint32_t tokens) {
  const CodecSet codecs;
  Json facts;
  for (const bool half : {false, true}) {
    uint64_t exact = 0;
    uint64_t stored = 0;
    double seconds = 0;
    Bytes encoded, decoded;
    for (const TensorRole role : {TensorRole::kKeys, TensorRole::kValues}) {
      for (uint32_t layer = 0; layer < capture.layers; ++layer) {
        for (uint32_t depth = 0; depth < capture.tokens / tokens; ++depth) {
          const ByteView bytes =
              capture.Cut(half ? capture.halves[static_cast<size_t>(role)] : capture.of(role), role,
                          layer, tokens, depth);
          encoded.resize(codecs.lossless().MaxEncodedSize(bytes.size()));
          const uint64_t size = Require(codecs.lossless().Encode(bytes, 2, encoded), "lossless");
          decoded.resize(bytes.size());
          const auto began = BenchClock::now();
          Require(codecs.lossless().Decode(ByteView(encoded).first(size), decoded), "lossless");
          seconds += Seconds(BenchClock::now() - began);
          if (!std::equal(bytes.begin(), bytes.end(), decoded.begin(), decoded.end()))
            Require(absl::InternalError("not the same"), "lossless");
          exact += bytes.size();
          stored += size;
        }
      }
    }
    facts[half ? "fp16_ratio" : "bf16_ratio"] =
        static_cast<double>(exact) / static_cast<double>(stored);
    facts[half ? "fp16_decode_gbps" : "bf16_decode_gbps"] =
        static_cast<double>(exact) / seconds / 1e9;
  }
  return facts;
}

void Write(const std::string& path, const Bytes& bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
  if (!file) Require(absl::InternalError("cannot be written"), path.c_str());
}

void Run(const std::string& folder, const std::string& book, uint32_t tokens,
         const std::string& out, const std::string& only) {
  const Capture learnt = Load(folder + "/calibration");
  const auto began = BenchClock::now();
  const auto calibration = Calibrate(learnt);
  Json facts;
  facts["calibration"] = {{"seconds", Seconds(BenchClock::now() - began)},
                          {"bytes", calibration->Serialize().size()}};
  const Capture capture = Load(folder + "/" + book);
  CalibrationSet set;
  set.Add(calibration);
  for (const Coder& coder : Coders()) {
    if (!only.empty() && ("," + only + ",").find("," + coder.name + ",") == std::string::npos) {
      continue;
    }
    for (const TensorRole role : {TensorRole::kKeys, TensorRole::kValues}) {
      const std::string name = role == TensorRole::kKeys ? "k" : "v";
      Bytes decoded;
      facts[coder.name][name] =
          Measure(coder, capture, role, tokens, set, *calibration, book == "heldout", decoded);
      Write(out + "/" + coder.name + "_" + name + ".bf16", decoded);
    }
  }
  if (only.empty()) facts["lossless"] = MeasureLossless(capture, tokens);
  Write(out + "/exact_k.bf16", capture.of(TensorRole::kKeys));
  Write(out + "/exact_v.bf16", capture.of(TensorRole::kValues));
  std::printf("%s\n", facts.dump(1).c_str());
}

}  // namespace
}  // namespace mnemo

int main(int argc, char** argv) {
  if (argc != 5 && argc != 6) {
    std::fprintf(stderr, "usage: bench_codecs CAPTURE BOOK TOKENS OUT [CODECS]\n");
    return 2;
  }
  mnemo::Run(argv[1], argv[2], static_cast<uint32_t>(std::stoul(argv[3])), argv[4],
             argc == 6 ? argv[5] : "");
  return 0;
}
