// A bare descriptor that closes itself: one that came from elsewhere and is nobody's object yet.
#pragma once

#include <mpg/io/syscall.hpp>

#include <utility>

namespace mpg::io {

/// Owns a number, or nothing (-1). Move-only. Nothing here waits.
class unique_fd {
  public:
    unique_fd() noexcept = default;
    /// Takes the number over.
    explicit unique_fd(int fd) noexcept
        : fd_(fd) {}
    unique_fd(unique_fd&& other) noexcept
        : fd_(other.release()) {}
    unique_fd& operator=(unique_fd&& other) noexcept {
        if (this != &other) reset(other.release());
        return *this;
    }
    ~unique_fd() { reset(); }

    /// -1: none. It stays ours.
    int get() const noexcept { return fd_; }
    explicit operator bool() const noexcept { return fd_ >= 0; }
    /// The number is the caller's from now on.
    [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }
    void reset(int fd = -1) noexcept {
        if (const int old = std::exchange(fd_, fd); old >= 0) sys::close(old);
    }

  private:
    int fd_ = -1;
};

} // namespace mpg::io
