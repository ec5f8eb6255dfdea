// A connection with TLS.
#pragma once

#include <mpg/base/clock.hpp>
#include <mpg/cancel/context.hpp>
#include <mpg/io/result.hpp>
#include <mpg/net/tcp.hpp>
#include <mpg/tls/config.hpp>
#include <mpg/tls/connection.hpp>
#include <mpg/tls/state.hpp>
#include <mpg/tls/transport.hpp>

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <sys/uio.h>

namespace mpg::tls {

/// A stream of bytes over TLS; to be used as net::tcp_stream, which see. Move-only; an empty or moved-from
/// one fails with errc::closed.
///
/// Any strand may call anything at any time, as with Go's tls.Conn, but for moving and destroying. Operations
/// may suspend, take an optional context as their last argument, and fail with errc::cancelled,
/// errc::deadline_exceeded, errc::closed, the errors of the stream below, and those of <mpg/tls/error.hpp>.
/// The first read or write makes the handshake. One that was cancelled can be called again: the handshake
/// goes on, and what was encrypted but not sent (32 KiB at most) goes out first.
class stream {
  public:
    stream() noexcept = default;
    /// Over an open stream, which it owns from now on; client or server as the configuration says. Does not
    /// wait. server_name: of a client; empty: the configuration's.
    template <byte_stream S>
    stream(S below, const config& c, std::string_view server_name = {})
        : connection_(make(std::make_unique<detail::transport_over<S>>(std::move(below)), c, server_name)) {}

    /// Connects to "host:port" by TCP and makes the handshake. The host is the server's name unless the
    /// configuration has another one.
    static result<stream> connect(std::string_view address, const config& c,
                                  const context& ctx = context::background()) {
        const auto parts = net::split_host_port(address);
        if (!parts) return unexpected(parts.error());
        auto below = net::tcp_stream::connect(address, ctx);
        if (!below) return unexpected(below.error());
        stream s(std::move(*below), c, c.state()->server_name.empty() ? parts->host : std::string_view());
        if (const std::error_code e = s.handshake(ctx)) return unexpected(e);
        return s;
    }

    /// Makes the handshake unless that is done. A failure of TLS itself is for good, and the peer is told.
    std::error_code handshake(const context& ctx = context::background()) {
        return connection_ ? connection_->handshake(ctx) : make_error_code(mpg::errc::closed);
    }
    /// What was agreed on; null before the handshake is through. Valid as long as the stream.
    const connection_state* state() const noexcept { return connection_ ? connection_->state() : nullptr; }

    /// Reads what is there, at least one byte, waiting for it. 0: the peer has said that nothing more comes
    /// (or the buffer is empty). A stream that ends without that: errc::truncated.
    result<std::size_t> read(std::span<std::byte> to, const context& ctx = context::background()) {
        if (!connection_) return unexpected(make_error_code(mpg::errc::closed));
        return connection_->read(to, ctx);
    }
    /// Writes all of it, or fails; after a failure some of it may have been sent, or may be with a later
    /// write.
    result<std::size_t> write(std::span<const std::byte> from, const context& ctx = context::background()) {
        if (!connection_) return unexpected(make_error_code(mpg::errc::closed));
        return connection_->write(from, ctx, true);
    }
    /// Writes at least one byte (of non-empty data) and returns how many.
    result<std::size_t> write_some(std::span<const std::byte> from,
                                   const context& ctx = context::background()) {
        if (!connection_) return unexpected(make_error_code(mpg::errc::closed));
        return connection_->write(from, ctx, false);
    }
    /// Writes all of the pieces, in order, or fails; small ones share a record.
    result<std::size_t> writev(std::span<const ::iovec> pieces, const context& ctx = context::background()) {
        if (!connection_) return unexpected(make_error_code(mpg::errc::closed));
        return connection_->writev(pieces, ctx);
    }

    /// Says that nothing more comes (close_notify): the peer's read returns 0, and reading here goes on.
    /// Later writes fail with std::errc::broken_pipe. May suspend, until the stream below takes it.
    std::error_code close_write(const context& ctx = context::background()) {
        return connection_ ? connection_->close_write(ctx) : make_error_code(mpg::errc::closed);
    }
    /// The same under the name that other streams have.
    std::error_code shutdown_write() { return close_write(); }
    /// Pending and later operations fail with errc::closed. Does not wait: the close_notify is sent if nobody
    /// writes and the stream below takes it at once, so close_write() first where the peer must not take the
    /// end for an attack. May be called again; the destructor does.
    void close() noexcept {
        if (connection_) connection_->close();
    }
    bool is_open() const noexcept { return connection_ && connection_->is_open(); }

    /// See net::stream_socket. The handshake heeds both.
    std::error_code set_deadline(std::optional<time_point> when) noexcept {
        const std::error_code e = set_read_deadline(when);
        return e ? e : set_write_deadline(when);
    }
    std::error_code set_read_deadline(std::optional<time_point> when) noexcept {
        return connection_ ? connection_->set_read_deadline(when) : make_error_code(mpg::errc::closed);
    }
    std::error_code set_write_deadline(std::optional<time_point> when) noexcept {
        return connection_ ? connection_->set_write_deadline(when) : make_error_code(mpg::errc::closed);
    }

    /// Of the stream below; empty where that has none.
    net::endpoint local_endpoint() const {
        return connection_ ? connection_->below().local_endpoint() : net::endpoint();
    }
    net::endpoint remote_endpoint() const {
        return connection_ ? connection_->below().remote_endpoint() : net::endpoint();
    }
    /// Of the stream below, to set options; -1 when closed or where that has none. What goes through it by
    /// other ways than this breaks the connection.
    int native_handle() const noexcept { return connection_ ? connection_->below().native_handle() : -1; }

  private:
    friend struct stream_access;
    friend struct io::descriptor_access;
    template <class F> result<io::outcome> lend_descriptor(const context* ctx, F f) {
        if (!connection_) return unexpected(make_error_code(mpg::errc::closed));
        return connection_->lend_descriptor(ctx ? *ctx : context::background(), f);
    }
    static std::unique_ptr<detail::connection> make(std::unique_ptr<detail::transport> below, const config& c,
                                                    std::string_view server_name) {
        const detail::config_state& s = *c.state();
        std::string name, key;
        if (!s.server) {
            name = server_name.empty() ? s.server_name : std::string(server_name);
            if (name.ends_with('.')) name.pop_back();
            if (s.kept.keeps_any()) key = name.empty() ? below->remote_endpoint().to_string() : name;
        }
        return std::make_unique<detail::connection>(c.state(), std::move(name), std::move(key),
                                                    std::move(below));
    }
    std::unique_ptr<detail::connection> connection_;
};

/// For the rooms of this library that need more than the stream.
struct stream_access {
    static detail::connection* of(stream& s) noexcept { return s.connection_.get(); }
};

} // namespace mpg::tls
