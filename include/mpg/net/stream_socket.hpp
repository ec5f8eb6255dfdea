// What TCP and Unix streams have in common: reading and writing.
#pragma once

#include <mpg/io/descriptor_owner.hpp>
#include <mpg/io/result.hpp>
#include <mpg/io/transfer.hpp>
#include <mpg/sched/cancel.hpp>

#include <cstddef>
#include <span>
#include <system_error>

#include <sys/uio.h>

namespace mpg::net {

/// A connected stream of bytes.
///
/// Any strand may call anything at any time, as with Go's net.Conn: one reader and one writer work at once,
/// further ones wait for their turn, so that what one write() sends stays together. But moving and destroying
/// the object need that nobody else uses it. Every operation that waits may suspend (on a plain thread it
/// blocks the thread), takes an optional context as its last argument, and fails with errc::cancelled or
/// errc::deadline_exceeded when that is done first, with errc::closed when close() was called. When it
/// returns, the kernel holds no reference to the buffer.
class stream_socket : public io::descriptor_owner {
  public:
    stream_socket() noexcept = default;

    /// Reads what is there, at least one byte, waiting for it. 0: the peer has closed (or the buffer is
    /// empty).
    result<std::size_t> read(std::span<std::byte> buffer) { return read_some(buffer, nullptr); }
    result<std::size_t> read(std::span<std::byte> buffer, const context& ctx) {
        return read_some(buffer, sched::source_of(ctx));
    }
    /// The same into several buffers, in order: one is filled before the next one is used.
    result<std::size_t> readv(std::span<const ::iovec> pieces) { return receive_pieces(pieces, nullptr); }
    result<std::size_t> readv(std::span<const ::iovec> pieces, const context& ctx) {
        return receive_pieces(pieces, sched::source_of(ctx));
    }
    /// Writes all of it, or fails; after a failure some of it may have been sent.
    result<std::size_t> write(std::span<const std::byte> data) { return send(data, nullptr, io::send_all); }
    result<std::size_t> write(std::span<const std::byte> data, const context& ctx) {
        return send(data, sched::source_of(ctx), io::send_all);
    }
    /// Writes at least one byte (of non-empty data) and returns how many.
    result<std::size_t> write_some(std::span<const std::byte> data) {
        return send(data, nullptr, io::send_some);
    }
    result<std::size_t> write_some(std::span<const std::byte> data, const context& ctx) {
        return send(data, sched::source_of(ctx), io::send_some);
    }
    /// Writes all of the pieces, in order, or fails. Any number of pieces; they are not changed.
    result<std::size_t> writev(std::span<const ::iovec> pieces) { return send_pieces(pieces, nullptr); }
    result<std::size_t> writev(std::span<const ::iovec> pieces, const context& ctx) {
        return send_pieces(pieces, sched::source_of(ctx));
    }

    /// Sends what is left, then the end: the peer's read returns 0, and reading here goes on. Does not wait.
    std::error_code shutdown_write() noexcept {
        if (!fd_) return errc::closed;
        const io::outcome e = fd_->use([](int fd) noexcept { return io::sys::shutdown(fd, SHUT_WR); });
        return e < 0 ? io::error_of(e) : std::error_code{};
    }
  protected:
    explicit stream_socket(io::descriptor_ptr fd) noexcept
        : descriptor_owner(std::move(fd)) {}

  private:
    friend struct io::descriptor_access;
    static result<std::size_t> sized(io::outcome n) {
        if (n < 0) return unexpected(io::error_of(n));
        return static_cast<std::size_t>(n);
    }
    result<std::size_t> read_some(std::span<std::byte> buffer, sched::cancel_source* cancel) {
        if (!fd_) return unexpected(make_error_code(errc::closed));
        io::turn t(*fd_, io::direction::read, sched::wait_reason::io_read, cancel);
        if (const io::outcome e = t.begin(); e < 0) return sized(e);
        return sized(io::receive(t, buffer.data(), buffer.size()));
    }
    result<std::size_t> receive_pieces(std::span<const ::iovec> pieces, sched::cancel_source* cancel) {
        if (!fd_) return unexpected(make_error_code(errc::closed));
        io::turn t(*fd_, io::direction::read, sched::wait_reason::io_read, cancel);
        if (const io::outcome e = t.begin(); e < 0) return sized(e);
        return sized(io::receive_pieces(t, pieces));
    }
    result<std::size_t> send(std::span<const std::byte> data, sched::cancel_source* cancel,
                             io::outcome (*how)(io::turn&, const void*, std::size_t)) {
        if (!fd_) return unexpected(make_error_code(errc::closed));
        io::turn t(*fd_, io::direction::write, sched::wait_reason::io_write, cancel);
        if (const io::outcome e = t.begin(); e < 0) return sized(e);
        return sized(how(t, data.data(), data.size()));
    }
    result<std::size_t> send_pieces(std::span<const ::iovec> pieces, sched::cancel_source* cancel) {
        if (!fd_) return unexpected(make_error_code(errc::closed));
        io::turn t(*fd_, io::direction::write, sched::wait_reason::io_write, cancel);
        if (const io::outcome e = t.begin(); e < 0) return sized(e);
        return sized(io::send_pieces(t, pieces));
    }
};

} // namespace mpg::net
