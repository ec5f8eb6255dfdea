// A connection that a handler has taken over.
#pragma once

#include <mpg/cancel/context.hpp>
#include <mpg/http/link.hpp>
#include <mpg/io/result.hpp>
#include <mpg/net/tcp.hpp>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <system_error>

#include <sys/uio.h>

namespace mpg::http {

/// The stream, and what its client had sent already behind the request. Used as a stream it gives those bytes
/// first; whoever uses `stream` itself looks at `buffered` before. See net::tcp_stream for the operations.
struct hijacked {
    net::tcp_stream stream;              // empty where the connection is no plain TCP
    std::string buffered;                // comes before whatever is read from the stream
    std::unique_ptr<detail::link> other; // the stream where it is no plain TCP

    result<std::size_t> read(std::span<std::byte> to) { return read(to, context::background()); }
    result<std::size_t> read(std::span<std::byte> to, const context& ctx) {
        if (!buffered.empty()) return take(to);
        return other ? other->read(to, ctx) : stream.read(to, ctx);
    }
    result<std::size_t> write(std::span<const std::byte> data) { return write(data, context::background()); }
    result<std::size_t> write(std::span<const std::byte> data, const context& ctx) {
        return other ? put(data, ctx) : stream.write(data, ctx);
    }
    result<std::size_t> write_some(std::span<const std::byte> data) {
        return write_some(data, context::background());
    }
    result<std::size_t> write_some(std::span<const std::byte> data, const context& ctx) {
        return other ? put(data, ctx) : stream.write_some(data, ctx);
    }
    result<std::size_t> writev(std::span<const ::iovec> pieces) {
        return writev(pieces, context::background());
    }
    result<std::size_t> writev(std::span<const ::iovec> pieces, const context& ctx) {
        return other ? other->writev(pieces, ctx) : stream.writev(pieces, ctx);
    }
    std::error_code shutdown_write() noexcept {
        if (!other) return stream.shutdown_write();
        other->shutdown_write();
        return {};
    }
    void close() noexcept { other ? other->close() : stream.close(); }
    bool is_open() const noexcept { return other ? other->is_open() : stream.is_open(); }
    int native_handle() const noexcept { return other ? -1 : stream.native_handle(); }
    /// Empty where the connection is no plain TCP.
    net::endpoint local_endpoint() const noexcept { return stream.local_endpoint(); }
    net::endpoint remote_endpoint() const {
        return other ? other->remote_endpoint() : stream.remote_endpoint();
    }
    std::error_code set_deadline(std::optional<time_point> when) {
        const std::error_code e = set_read_deadline(when);
        return e ? e : set_write_deadline(when);
    }
    std::error_code set_read_deadline(std::optional<time_point> when) {
        if (!other) return stream.set_read_deadline(when);
        other->set_read_deadline(when);
        return {};
    }
    std::error_code set_write_deadline(std::optional<time_point> when) {
        if (!other) return stream.set_write_deadline(when);
        other->set_write_deadline(when);
        return {};
    }

  private:
    std::size_t take(std::span<std::byte> to) {
        const std::size_t n = std::min(to.size(), buffered.size());
        std::memcpy(to.data(), buffered.data(), n);
        buffered.erase(0, n);
        return n;
    }
    result<std::size_t> put(std::span<const std::byte> data, const context& ctx) {
        const ::iovec piece{const_cast<std::byte*>(data.data()), data.size()};
        return other->writev({&piece, 1}, ctx);
    }
};

} // namespace mpg::http
