// A TCP connection.
#pragma once

#include <mpg/cancel/context.hpp>
#include <mpg/net/address.hpp>
#include <mpg/net/dial.hpp>
#include <mpg/net/endpoint.hpp>
#include <mpg/net/resolve.hpp>
#include <mpg/net/socket.hpp>
#include <mpg/net/stream_socket.hpp>
#include <mpg/net/tcp_options.hpp>

#include <algorithm>
#include <chrono>
#include <climits>
#include <cstring>
#include <netinet/tcp.h>
#include <optional>
#include <string_view>
#include <system_error>

namespace mpg::net {

/// See stream_socket for reading, writing, deadlines and closing. TCP_NODELAY and keep-alive probes are on,
/// as in Go.
class tcp_stream : public stream_socket {
  public:
    tcp_stream() noexcept = default;

    /// "host:port" with a name, an IPv4 address or an IPv6 address in brackets; an empty host is this
    /// machine. Names are looked up (which may take seconds). Several addresses race, a quarter of a second
    /// apart (RFC 8305); when all fail, the first one's error is returned. On a plain thread they are tried
    /// in turn.
    static result<tcp_stream> connect(std::string_view address) {
        return connect(address, context::background());
    }
    static result<tcp_stream> connect(std::string_view address, const context& ctx) {
        return connect_to(address, ctx);
    }
    /// To one address, without a look-up.
    static result<tcp_stream> connect(const endpoint& to) { return connect_to(to, nullptr); }
    static result<tcp_stream> connect(const endpoint& to, const context& ctx) {
        return connect_to(to, sched::source_of(ctx));
    }

    /// Of a connected TCP socket that came from elsewhere; closed when it is none. Its options stay.
    static result<tcp_stream> adopt(io::unique_fd fd) {
        auto d = detail::adopted(std::move(fd), SOCK_STREAM, false, {AF_INET, AF_INET6});
        if (!d) return unexpected(d.error());
        const endpoint peer = detail::peer_name(**d);
        if (peer.empty()) return unexpected(std::make_error_code(std::errc::not_connected));
        return tcp_stream(std::move(*d), peer);
    }

    /// Empty when closed.
    endpoint local_endpoint() const noexcept { return fd_ ? detail::local_name(*fd_) : endpoint(); }
    /// As it was when the connection was made; also after close().
    endpoint remote_endpoint() const noexcept {
        return endpoint(reinterpret_cast<const ::sockaddr*>(&peer_), sizeof peer_);
    }

    // Options; none of these calls waits. errc::closed, or the system's error.

    /// Send small pieces at once instead of waiting for company. On from the start.
    std::error_code set_nodelay(bool on) noexcept { return option(IPPROTO_TCP, TCP_NODELAY, on); }
    /// nullopt: no probes. On from the start, with the defaults of `keepalive`.
    std::error_code set_keepalive(std::optional<keepalive> k) noexcept {
        return detail::with_number(fd_, [&k](int n) noexcept { return detail::set_keepalive(n, k); });
    }
    /// How long close() leaves the system to deliver what is not delivered yet: nullopt: as long as it takes,
    /// and close() does not wait (the default); 0: not at all, the peer gets a reset. Between: close() blocks
    /// its thread so long.
    std::error_code set_linger(std::optional<std::chrono::seconds> limit) noexcept {
        const ::linger l{limit.has_value(), limit ? static_cast<int>(limit->count()) : 0};
        return detail::with_number(
            fd_, [&l](int n) noexcept { return io::sys::set_option_of(n, SOL_SOCKET, SO_LINGER, l); });
    }
    /// How long data may stay unacknowledged before the connection fails with ETIMEDOUT (TCP_USER_TIMEOUT);
    /// 0: the system decides.
    std::error_code set_user_timeout(std::chrono::milliseconds limit) noexcept {
        return option(IPPROTO_TCP, TCP_USER_TIMEOUT,
                      static_cast<int>(std::clamp<long long>(limit.count(), 0, INT_MAX)));
    }
    /// Sizes of the system's buffers; it doubles them and cuts them down to its limits.
    std::error_code set_read_buffer(int bytes) noexcept { return option(SOL_SOCKET, SO_RCVBUF, bytes); }
    std::error_code set_write_buffer(int bytes) noexcept { return option(SOL_SOCKET, SO_SNDBUF, bytes); }

  private:
    friend class tcp_listener;
    std::error_code option(int level, int name, int value) noexcept {
        return detail::with_number(
            fd_, [=](int n) noexcept { return io::sys::set_option(n, level, name, value); });
    }
    /// peer: IPv4 or IPv6.
    tcp_stream(io::descriptor_ptr fd, const endpoint& peer) noexcept
        : stream_socket(std::move(fd)) {
        std::memcpy(&peer_, peer.data(), std::min<std::size_t>(peer.size(), sizeof peer_));
    }
    static result<tcp_stream> connect_to(const endpoint& to, sched::cancel_source* cancel);
    static result<tcp_stream> connect_to(std::string_view address, const context& ctx);

    ::sockaddr_in6 peer_{}; // large enough for IPv4, and much smaller than an endpoint
};

inline result<tcp_stream> tcp_stream::connect_to(const endpoint& to, sched::cancel_source* cancel) {
    for (int attempt = 0;; ++attempt) {
        auto fd = detail::connected(to, IPPROTO_TCP, cancel);
        if (!fd) return unexpected(fd.error());
        // A connect to a free port of this machine may be given that very port as its own, and so meet
        // itself.
        if (detail::local_name(**fd) == to) {
            if (attempt < 2) continue;
            return unexpected(std::make_error_code(std::errc::connection_refused));
        }
        (*fd)->use([](int n) noexcept {
            io::sys::set_option(n, IPPROTO_TCP, TCP_NODELAY, 1);
            return detail::set_keepalive(n, keepalive{});
        });
        return tcp_stream(std::move(*fd), to);
    }
}

inline result<tcp_stream> tcp_stream::connect_to(std::string_view address, const context& ctx) {
    sched::cancel_source* const cancel = sched::source_of(ctx);
    const sched::task* self = sched::current();
    if (self->is_thread() || self->blocking != 0)
        return detail::connect_text<tcp_stream>(
            address, ctx, [cancel](const endpoint& to) { return connect_to(to, cancel); });
    auto candidates = detail::candidates_of(address, ctx);
    if (!candidates) return unexpected(candidates.error());
    if (candidates->size() == 1) return connect_to(candidates->front(), cancel);
    return detail::race<tcp_stream>(
        std::move(*candidates), ctx,
        [](const endpoint& to, sched::cancel_source* stop) { return connect_to(to, stop); });
}

} // namespace mpg::net
