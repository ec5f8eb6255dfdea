// What every object with a descriptor of its own offers beside its operations: closing and deadlines.
#pragma once

#include <mpg/base/clock.hpp>
#include <mpg/io/descriptor.hpp>

#include <optional>
#include <system_error>
#include <utility>

namespace mpg::io {

/// The base of streams, listeners, message sockets and files. Move-only; an empty or moved-from one fails with
/// errc::closed. Any strand may call anything at any time, but for moving and destroying.
class descriptor_owner {
  public:
    /// Pending and later operations fail with errc::closed; the descriptor itself is closed when the last
    /// pending one has left. Does not wait. May be called again.
    void close() noexcept {
        if (fd_) fd_->close();
    }
    bool is_open() const noexcept { return fd_ && fd_->is_open(); }
    /// -1 when closed. It stays ours: do not close it, and do not use it after close().
    int native_handle() const noexcept { return fd_ ? fd_->number() : -1; }

    /// From that time on, reads and writes fail with errc::deadline_exceeded, also when data is there, until
    /// the deadline is moved or cleared (std::nullopt). Pending operations are affected too. About 10 ns.
    std::error_code set_deadline(std::optional<time_point> when) noexcept {
        const std::error_code e = set_read_deadline(when);
        return e ? e : set_write_deadline(when);
    }
    std::error_code set_read_deadline(std::optional<time_point> when) noexcept {
        return fd_ ? fd_->set_deadline(direction::read, when) : make_error_code(errc::closed);
    }
    std::error_code set_write_deadline(std::optional<time_point> when) noexcept {
        return fd_ ? fd_->set_deadline(direction::write, when) : make_error_code(errc::closed);
    }

  protected:
    descriptor_owner() noexcept = default;
    explicit descriptor_owner(descriptor_ptr fd) noexcept
        : fd_(std::move(fd)) {}
    descriptor_owner(descriptor_owner&&) noexcept = default;
    descriptor_owner& operator=(descriptor_owner&&) noexcept = default;
    ~descriptor_owner() = default;

    descriptor_ptr fd_;
};

} // namespace mpg::io
