// A TCP connection.
#pragma once

#include <mpg/net/address.hpp>
#include <mpg/net/endpoint.hpp>
#include <mpg/net/resolve.hpp>
#include <mpg/net/socket.hpp>
#include <mpg/net/stream_socket.hpp>

#include <cstring>
#include <netinet/tcp.h>
#include <string_view>

namespace mpg::net {

/// See stream_socket for reading, writing, deadlines and closing. TCP_NODELAY is on.
class tcp_stream : public stream_socket {
  public:
    tcp_stream() noexcept = default;

    /// "host:port" with a name, an IPv4 address or an IPv6 address in brackets; an empty host is this
    /// machine. Names are looked up (which may take seconds), and each address is tried in turn: the last
    /// error is returned.
    static result<tcp_stream> connect(std::string_view address) { return connect_to(address, nullptr); }
    static result<tcp_stream> connect(std::string_view address, const context& ctx) {
        return connect_to(address, sched::source_of(ctx));
    }
    /// To one address, without a look-up.
    static result<tcp_stream> connect(const endpoint& to) { return connect_to(to, nullptr); }
    static result<tcp_stream> connect(const endpoint& to, const context& ctx) {
        return connect_to(to, sched::source_of(ctx));
    }

    /// Empty when closed.
    endpoint local_endpoint() const noexcept { return fd_ ? detail::local_name(*fd_) : endpoint(); }
    /// As it was when the connection was made; also after close().
    endpoint remote_endpoint() const noexcept {
        return endpoint(reinterpret_cast<const ::sockaddr*>(&peer_), sizeof peer_);
    }

  private:
    friend class tcp_listener;
    /// peer: IPv4 or IPv6.
    tcp_stream(io::descriptor_ptr fd, const endpoint& peer) noexcept
        : stream_socket(std::move(fd)) {
        std::memcpy(&peer_, peer.data(), std::min<std::size_t>(peer.size(), sizeof peer_));
    }
    static result<tcp_stream> connect_to(const endpoint& to, sched::cancel_source* cancel);
    static result<tcp_stream> connect_to(std::string_view address, sched::cancel_source* cancel);

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
        (*fd)->use([](int n) noexcept { return io::sys::set_option(n, IPPROTO_TCP, TCP_NODELAY, 1); });
        return tcp_stream(std::move(*fd), to);
    }
}

inline result<tcp_stream> tcp_stream::connect_to(std::string_view address, sched::cancel_source* cancel) {
    return detail::connect_text<tcp_stream>(address, cancel,
                                            [cancel](const endpoint& to) { return connect_to(to, cancel); });
}

} // namespace mpg::net
