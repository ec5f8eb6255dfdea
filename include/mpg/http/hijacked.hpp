// A connection that a handler has taken over.
#pragma once

#include <mpg/cancel/context.hpp>
#include <mpg/io/result.hpp>
#include <mpg/net/tcp.hpp>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <system_error>

#include <sys/uio.h>

namespace mpg::http {

/// The TCP stream, and what its client had sent already behind the request. Used as a stream it gives those
/// bytes first; whoever uses `stream` itself looks at `buffered` before. See net::tcp_stream for the
/// operations.
struct hijacked {
    net::tcp_stream stream;
    std::string buffered; // comes before whatever is read from stream

    result<std::size_t> read(std::span<std::byte> to) {
        return buffered.empty() ? stream.read(to) : take(to);
    }
    result<std::size_t> read(std::span<std::byte> to, const context& ctx) {
        return buffered.empty() ? stream.read(to, ctx) : take(to);
    }
    result<std::size_t> write(std::span<const std::byte> data) { return stream.write(data); }
    result<std::size_t> write(std::span<const std::byte> data, const context& ctx) {
        return stream.write(data, ctx);
    }
    result<std::size_t> write_some(std::span<const std::byte> data) { return stream.write_some(data); }
    result<std::size_t> write_some(std::span<const std::byte> data, const context& ctx) {
        return stream.write_some(data, ctx);
    }
    result<std::size_t> writev(std::span<const ::iovec> pieces) { return stream.writev(pieces); }
    result<std::size_t> writev(std::span<const ::iovec> pieces, const context& ctx) {
        return stream.writev(pieces, ctx);
    }
    std::error_code shutdown_write() noexcept { return stream.shutdown_write(); }
    void close() noexcept { stream.close(); }
    bool is_open() const noexcept { return stream.is_open(); }
    int native_handle() const noexcept { return stream.native_handle(); }
    net::endpoint local_endpoint() const noexcept { return stream.local_endpoint(); }
    net::endpoint remote_endpoint() const noexcept { return stream.remote_endpoint(); }
    std::error_code set_deadline(std::optional<time_point> when) noexcept {
        return stream.set_deadline(when);
    }
    std::error_code set_read_deadline(std::optional<time_point> when) noexcept {
        return stream.set_read_deadline(when);
    }
    std::error_code set_write_deadline(std::optional<time_point> when) noexcept {
        return stream.set_write_deadline(when);
    }

  private:
    std::size_t take(std::span<std::byte> to) {
        const std::size_t n = std::min(to.size(), buffered.size());
        std::memcpy(to.data(), buffered.data(), n);
        buffered.erase(0, n);
        return n;
    }
};

} // namespace mpg::http
