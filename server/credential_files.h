// The files that say who may call, read again while the daemon runs.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "server/identity/identity_book.h"
#include "server/identity/tls_material.h"
#include "storage/base/file_system.h"
#include "storage/base/mutex.h"

namespace mnemo {

// Thread-safe. What it is made of outlives it.
class CredentialFiles {
 public:
  // `identity_file` may be empty, and `tls` null: none.
  CredentialFiles(std::string identity_file, FileSystem& files, IdentityBook& book,
                  TlsMaterial* tls = nullptr)
      : identity_file_(std::move(identity_file)), files_(files), book_(book), tls_(tls) {}

  // Reads the files and takes over what changed since they were last good: the
  // identity file as a whole or nothing of it, and so those of TLS together; what
  // was in force stays. Errors, the first there is: those of reading, of
  // ParseIdentityFile, of IdentityBook::ApplyFile and of TlsMaterial::Reload.
  absl::Status Reload();
  // What the last Reload answered.
  absl::Status last() const;
  // How often a changed file was taken over.
  uint64_t generation() const;

 private:
  absl::Status ReloadTls() ABSL_EXCLUSIVE_LOCKS_REQUIRED(reload_);
  absl::Status ReloadIdentity() ABSL_EXCLUSIVE_LOCKS_REQUIRED(reload_);

  const std::string identity_file_;
  FileSystem& files_;
  IdentityBook& book_;
  TlsMaterial* const tls_;
  // Serialises reloads, and is held across files and book: taken before mutex_.
  Mutex reload_;
  std::string applied_ ABSL_GUARDED_BY(reload_);
  bool has_applied_ ABSL_GUARDED_BY(reload_) = false;
  mutable Mutex mutex_ ABSL_ACQUIRED_AFTER(reload_);
  absl::Status last_ ABSL_GUARDED_BY(mutex_);
  uint64_t generation_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace mnemo
