#include "index/vector/byte_codes.h"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "tests/support/vector_rows.h"

namespace mnemo {
namespace {

constexpr uint32_t kDimension = 100;
constexpr uint32_t kNodes = 50;

class ByteCodesTest : public testing::TestWithParam<Metric> {
 protected:
  void SetUp() override {
    std::vector<float> scratch(codes_.padded());
    for (uint32_t node = 0; node < kNodes; ++node) {
      rows_.push_back(vectors_.Next());
      std::vector<float> copy = rows_.back();
      codes_.Encode(node, copy.data(), scratch.data());
      EXPECT_OK(EncodeRow(shape_, rows_.back(), stored_));
    }
  }
  std::vector<float> Distances(const CodeQuery& query) {
    std::vector<uint32_t> nodes(kNodes);
    for (uint32_t node = 0; node < kNodes; ++node) nodes[node] = node;
    std::vector<float> distances(kNodes);
    codes_.Distances(query, nodes, batch_, distances.data());
    return distances;
  }

  const VectorShape shape_{kDimension, ElementType::kFloat32, GetParam()};
  ClusteredVectors vectors_{kDimension, 9};
  ByteCodes codes_{shape_, kNodes, 1, vectors_.Next(), BestKernels()};
  ByteCodes::Batch batch_;
  std::vector<std::vector<float>> rows_;
  std::string stored_;
};

// A distance is minus the score plus something that is the query's alone.
TEST_P(ByteCodesTest, DistancesDifferAsScoresDo) {
  const ContiguousReader reader(AsBytes(stored_), shape_.row_bytes());
  const Query query = *Query::Prepare(shape_, vectors_.Next());
  CodeQuery code_query;
  codes_.MakeQuery(query, code_query);
  const std::vector<float> distances = Distances(code_query);
  const std::vector<Hit> exact = ExactHits(shape_, query, {}, kNodes, reader, kNodes);
  const double offset = distances[exact[0].id] + exact[0].score;
  double range = 0;
  for (const Hit& hit : exact) range = std::max<double>(range, std::abs(hit.score));
  for (const Hit& hit : exact) {
    // Both this row's code and the nearest one's may be off.
    const float error = codes_.Error(code_query, static_cast<uint32_t>(hit.id)) +
                        codes_.Error(code_query, static_cast<uint32_t>(exact[0].id));
    EXPECT_NEAR(distances[hit.id] + hit.score, offset, 4 * error) << hit.id;
    EXPECT_LT(error, 0.05 * range);
  }
}

TEST_P(ByteCodesTest, WithOffsetsDistancesAreSymmetric) {
  for (const uint32_t a : {0U, 7U}) {
    for (const uint32_t b : {1U, 30U}) {
      CodeQuery from_a;
      CodeQuery from_b;
      codes_.MakeNodeQuery(a, from_a);
      codes_.MakeNodeQuery(b, from_b);
      const float ab = Distances(from_a)[b] + codes_.Offset(a);
      const float ba = Distances(from_b)[a] + codes_.Offset(b);
      EXPECT_NEAR(ab, ba, 1e-3 * (1 + std::abs(ab)));
    }
  }
}

TEST_P(ByteCodesTest, ZerosAndTheGreatestNumbersStayNumbers) {
  std::vector<float> scratch(codes_.padded());
  std::vector<float> zeros(kDimension);
  codes_.Encode(0, zeros.data(), scratch.data());
  std::vector<float> greatest(kDimension, std::numeric_limits<float>::max());
  codes_.Encode(1, greatest.data(), scratch.data());
  for (const uint32_t node : {0U, 1U}) {
    EXPECT_TRUE(std::isfinite(codes_.factors()[node].scale));
    EXPECT_TRUE(std::isfinite(codes_.factors()[node].offset));
    for (uint32_t i = 0; i < codes_.padded(); ++i) EXPECT_NE(codes_.Code(node)[i], -128);
  }
}

INSTANTIATE_TEST_SUITE_P(Metrics, ByteCodesTest,
                         testing::Values(Metric::kInnerProduct, Metric::kCosine, Metric::kL2));

}  // namespace
}  // namespace mnemo
