// A TCP connection.
#pragma once

#include <mpg/net/endpoint.hpp>
#include <mpg/net/stream_socket.hpp>

#include <string_view>

namespace mpg::net {

/// See stream_socket for reading, writing, deadlines and closing. TCP_NODELAY is on.
class tcp_stream : public stream_socket {
  public:
    tcp_stream() noexcept = default;

    /// "host:port" with a name, an IPv4 address or an IPv6 address in brackets; an empty host is this machine.
    /// Names are looked up (which may take seconds), and each address is tried in turn: the last error is returned.
    static result<tcp_stream> connect(std::string_view address);
    static result<tcp_stream> connect(std::string_view address, const context& ctx);
    /// To one address, without a look-up.
    static result<tcp_stream> connect(const endpoint& to);
    static result<tcp_stream> connect(const endpoint& to, const context& ctx);

    /// Empty when closed.
    endpoint local_endpoint() const;
    /// As it was when the connection was made; also after close().
    endpoint remote_endpoint() const;

  private:
    friend class tcp_listener;
    tcp_stream(io::descriptor_ptr fd, const endpoint& peer) noexcept;
    static result<tcp_stream> connect_to(const endpoint& to, sched::cancel_source* cancel);
    static result<tcp_stream> connect_to(std::string_view address, sched::cancel_source* cancel);

    ::sockaddr_in6 peer_{}; // large enough for IPv4, and much smaller than an endpoint
};

} // namespace mpg::net
