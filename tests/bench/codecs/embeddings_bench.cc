// Encodes and decodes embeddings of real passages with every form, times it on one core,
// and leaves what was decoded for recall to be measured on.
//
// bench_codec_embeddings FOLDER DIMENSION: FOLDER is that of passages.py; reads
// calibration.f32 and passages.f32, writes decoded_FORM.f32. Prints JSON.
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "storage/codec/embedding_codec.h"
#include "tests/bench/common/bench_support.h"

namespace mnemo {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kRounds = 7;

std::vector<float> Read(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) Require(absl::NotFoundError("not there"), path.c_str());
  std::vector<float> values(static_cast<size_t>(file.tellg()) / sizeof(float));
  file.seekg(0);
  file.read(reinterpret_cast<char*>(values.data()),
            static_cast<std::streamsize>(values.size() * sizeof(float)));
  return values;
}

// GB/s of exact bytes, of the best round.
template <typename Work>
double BestRate(size_t bytes, const Work& work) {
  double best = 0;
  for (int round = 0; round < kRounds; ++round) {
    const auto began = BenchClock::now();
    work();
    best = std::max(best, static_cast<double>(bytes) / Seconds(BenchClock::now() - began) / 1e9);
  }
  return best;
}

void Run(const std::string& folder, uint32_t dimension) {
  const std::vector<float> calibration = Read(folder + "/calibration.f32");
  const std::vector<float> exact = Read(folder + "/passages.f32");
  const auto rows = static_cast<uint32_t>(exact.size() / dimension);
  const auto began = BenchClock::now();
  const auto basis =
      Require(EmbeddingBasis::Fit(calibration, dimension, dimension / 2), "the basis");
  Json facts = {{"basis_seconds", Seconds(BenchClock::now() - began)}};
  struct Coder {
    const char* name;
    EmbeddingForm form;
    std::shared_ptr<const EmbeddingBasis> basis;
  };
  for (const Coder& coder : {Coder{"int8", EmbeddingForm::kInt8, nullptr},
                             {"fp8", EmbeddingForm::kFp8, nullptr},
                             {"reduced_fp8", EmbeddingForm::kReducedFp8, basis},
                             {"rotated4", EmbeddingForm::kRotated4, nullptr}}) {
    const auto codec =
        Require(EmbeddingCodec::Create(coder.form, dimension, coder.basis), coder.name);
    std::vector<uint8_t> section(codec.EncodedSize(rows));
    std::vector<float> decoded(exact.size());
    const size_t bytes = exact.size() * sizeof(float);
    const EncodedEmbeddings made = Require(codec.Encode(exact, section), coder.name);
    facts[coder.name] = {
        {"ratio", static_cast<double>(bytes) / static_cast<double>(made.bytes)},
        {"relative_error", made.error.relative()},
        {"encode_gbps",
         BestRate(bytes, [&] { Require(codec.Encode(exact, section).status(), coder.name); })},
        {"decode_gbps",
         BestRate(bytes, [&] { Require(codec.Decode(section, 0, rows, decoded), coder.name); })}};
    std::ofstream out(folder + "/decoded_" + coder.name + ".f32", std::ios::binary);
    out.write(reinterpret_cast<const char*>(decoded.data()), static_cast<std::streamsize>(bytes));
    if (!out) Require(absl::InternalError("cannot be written"), coder.name);
  }
  std::printf("%s\n", facts.dump(1).c_str());
}

}  // namespace
}  // namespace mnemo

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: bench_codec_embeddings FOLDER DIMENSION\n");
    return 2;
  }
  mnemo::Run(argv[1], static_cast<uint32_t>(std::stoul(argv[2])));
  return 0;
}
