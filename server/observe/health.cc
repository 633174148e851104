#include "server/observe/health.h"

#include <algorithm>

namespace mnemo {

void Health::SetReady() {
  MutexLock lock(mutex_);
  if (phase_ == Phase::kStarting) phase_ = Phase::kReady;
}

void Health::SetStopping() {
  MutexLock lock(mutex_);
  phase_ = Phase::kStopping;
}

Health::Phase Health::phase() const {
  MutexLock lock(mutex_);
  return phase_;
}

Health::Change Health::SetProblem(const std::string& name, const std::string& text) {
  MutexLock lock(mutex_);
  const bool was =
      std::erase_if(problems_, [&](const auto& problem) { return problem.first == name; }) > 0;
  if (text.empty()) return was ? Change::kMended : Change::kNone;
  problems_.emplace_back(name, text);
  return was ? Change::kNone : Change::kNew;
}

std::vector<std::string> Health::problems() const {
  MutexLock lock(mutex_);
  std::vector<std::string> texts;
  for (const auto& [name, text] : problems_) texts.push_back(text);
  return texts;
}

std::string_view PhaseName(Health::Phase phase) {
  switch (phase) {
    case Health::Phase::kStarting:
      return "starting";
    case Health::Phase::kReady:
      return "ready";
    case Health::Phase::kStopping:
      return "stopping";
  }
  return "stopping";
}

}  // namespace mnemo
