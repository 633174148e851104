// One side of the comparison of graph indexes, as a program of its own.
//
// Every side runs the same loop over the same files, so that what differs is
// the index alone. It needs nothing of mnemo: peers are compiled with flags of
// their own. A line on standard output is a JSON object:
//
//   {"build_s": ...}                 when the index is built
//   {"ef": ..., "recall": ...}       the least ef whose recall@10 is RECALL
//   {"us": ...}                      for each line read from standard input: one
//                                    pass over all queries, one query a call,
//                                    mean microseconds a query
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

namespace bench_side {

constexpr size_t kResults = 10;

struct Options {
  std::string folder;  // base.f32, queries.f32, truth.i32
  size_t dimension = 0;
  int links = 16;
  int ef_construction = 100;
  double recall = 0.95;
};

class Side {
 public:
  virtual ~Side() = default;
  virtual void Build(const std::vector<float>& base, const Options& options) = 0;
  // Ids of the kResults nearest by L2; one thread.
  virtual void Search(const float* query, int ef, int64_t* ids) = 0;
};

template <typename T>
std::vector<T> ReadAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) {
    std::fprintf(stderr, "cannot read %s\n", path.c_str());
    std::exit(1);
  }
  std::vector<T> values(static_cast<size_t>(file.tellg()) / sizeof(T));
  file.seekg(0);
  file.read(reinterpret_cast<char*>(values.data()),
            static_cast<std::streamsize>(values.size() * sizeof(T)));
  return values;
}

class Runner {
 public:
  Runner(Side& side, const Options& options)
      : side_(side),
        options_(options),
        queries_(ReadAll<float>(options.folder + "/queries.f32")),
        truth_(ReadAll<int32_t>(options.folder + "/truth.i32")) {}

  void Run() {
    Prepare();
    Answer();
  }
  // Builds, and finds the least ef.
  void Prepare() {
    {
      const std::vector<float> base = ReadAll<float>(options_.folder + "/base.f32");
      const auto began = std::chrono::steady_clock::now();
      side_.Build(base, options_);
      std::printf("{\"build_s\": %.3f}\n", Seconds(began));
      std::fflush(stdout);
    }
    ef_ = LeastEf();
    std::printf("{\"ef\": %d, \"recall\": %.5f}\n", ef_, Recall(ef_));
    std::fflush(stdout);
  }
  void Answer() {
    for (std::string line; std::getline(std::cin, line);) {
      const auto began = std::chrono::steady_clock::now();
      Pass(ef_);
      std::printf("{\"us\": %.4f}\n", Seconds(began) * 1e6 / static_cast<double>(count()));
      std::fflush(stdout);
    }
  }

 private:
  static double Seconds(std::chrono::steady_clock::time_point began) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  }
  size_t count() const { return queries_.size() / options_.dimension; }

  std::vector<int64_t> Pass(int ef) {
    std::vector<int64_t> ids(count() * kResults, -1);
    for (size_t q = 0; q < count(); ++q) {
      side_.Search(queries_.data() + q * options_.dimension, ef, ids.data() + q * kResults);
    }
    return ids;
  }

  double Recall(int ef) {
    const std::vector<int64_t> ids = Pass(ef);
    size_t right = 0;
    for (size_t q = 0; q < count(); ++q) {
      const auto begin = truth_.begin() + static_cast<std::ptrdiff_t>(q * kResults);
      for (size_t i = 0; i < kResults; ++i) {
        right += std::find(begin, begin + kResults, ids[q * kResults + i]) != begin + kResults;
      }
    }
    return static_cast<double>(right) / static_cast<double>(ids.size());
  }

  int LeastEf() {
    int low = static_cast<int>(kResults);
    int high = 2048;
    while (low < high) {
      const int middle = low + (high - low) / 2;
      if (Recall(middle) >= options_.recall) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    return low;
  }

  Side& side_;
  const Options options_;
  const std::vector<float> queries_;
  const std::vector<int32_t> truth_;
  int ef_ = 0;
};

// FOLDER DIMENSION LINKS EF_CONSTRUCTION RECALL
inline Options ParseOptions(int count, char** values) {
  if (count != 6) {
    std::fprintf(stderr, "usage: %s FOLDER DIMENSION LINKS EF_CONSTRUCTION RECALL\n", values[0]);
    std::exit(2);
  }
  Options options;
  options.folder = values[1];
  options.dimension = static_cast<size_t>(std::atoi(values[2]));
  options.links = std::atoi(values[3]);
  options.ef_construction = std::atoi(values[4]);
  options.recall = std::atof(values[5]);
  return options;
}

}  // namespace bench_side
