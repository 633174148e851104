#include "server/credential_files.h"

#include <utility>

#include "server/config/identity_file.h"
#include "storage/base/status_macros.h"
#include "storage/base/units.h"

namespace mnemo {
namespace {

constexpr uint64_t kLargestIdentityFile = kMiB;

}  // namespace

absl::Status CredentialFiles::ReloadIdentity() {
  if (identity_file_.empty()) return absl::OkStatus();
  MNEMO_ASSIGN_OR_RETURN(std::string text,
                         ReadSmallFile(files_, identity_file_, kLargestIdentityFile));
  if (has_applied_ && text == applied_) return absl::OkStatus();
  MNEMO_ASSIGN_OR_RETURN(const IdentityFile file, ParseIdentityFile(text, identity_file_));
  MNEMO_RETURN_IF_ERROR(book_.ApplyFile(file));
  applied_ = std::move(text);
  has_applied_ = true;
  MutexLock lock(mutex_);
  ++generation_;
  return absl::OkStatus();
}

absl::Status CredentialFiles::ReloadTls() {
  if (tls_ == nullptr) return absl::OkStatus();
  const uint64_t before = tls_->generation();
  MNEMO_RETURN_IF_ERROR(tls_->Reload());
  if (tls_->generation() == before) return absl::OkStatus();
  MutexLock lock(mutex_);
  ++generation_;
  return absl::OkStatus();
}

absl::Status CredentialFiles::Reload() {
  MutexLock reload(reload_);
  // One that is bad does not keep the other from being read.
  const absl::Status identity = ReloadIdentity();
  const absl::Status tls = ReloadTls();
  const absl::Status status = identity.ok() ? tls : identity;
  MutexLock lock(mutex_);
  last_ = status;
  return status;
}

absl::Status CredentialFiles::last() const {
  MutexLock lock(mutex_);
  return last_;
}

uint64_t CredentialFiles::generation() const {
  MutexLock lock(mutex_);
  return generation_;
}

}  // namespace mnemo
