// A socket that accepts TCP connections.
#pragma once

#include <mpg/net/tcp_stream.hpp>

#include <optional>
#include <string_view>

namespace mpg::net {

/// How to listen. The defaults are those of Go.
struct listen_options {
    int backlog = 0;         // connections that the kernel holds until they are accepted; 0: net.core.somaxconn
    bool reuse_addr = true;  // bind although old connections of that port still linger in TIME_WAIT
    bool reuse_port = false; // several listeners on one port, among which the kernel spreads the connections
    bool v6_only = false;    // an IPv6 listener does not take IPv4 connections as well
};

/// Listens on one address; owns its descriptor. Any strand may call anything at any time, but for moving and destroying.
class tcp_listener {
  public:
    tcp_listener() noexcept = default;

    /// "127.0.0.1:0" (port 0: the system picks one), "[::1]:80", "localhost:80", ":8080" (any address: IPv6 and IPv4,
    /// or IPv4 alone where the system has no IPv6). May suspend to look up a name.
    static result<tcp_listener> bind(std::string_view address, listen_options options = {});
    static result<tcp_listener> bind(const endpoint& address, listen_options options = {});

    /// Waits for a connection. What the system reports (EMFILE, ENFILE, ENOBUFS, ENOMEM) is returned at once, and the next call
    /// tries again: pause between them. A connection that its peer has dropped meanwhile is passed over.
    result<tcp_stream> accept();
    result<tcp_stream> accept(const context& ctx);

    /// As it was bound, also after close().
    endpoint local_endpoint() const { return local_; }
    /// Pending and later accepts fail with errc::closed. Does not wait. May be called again.
    void close() noexcept;
    bool is_open() const noexcept;
    /// -1 when closed.
    int native_handle() const noexcept;
    /// For accept; see stream_socket.
    std::error_code set_deadline(std::optional<time_point> when);

  private:
    tcp_listener(io::descriptor_ptr fd, const endpoint& local) noexcept : fd_(std::move(fd)), local_(local) {}
    result<tcp_stream> accept_one(sched::cancel_source* cancel);

    io::descriptor_ptr fd_;
    endpoint local_;
};

} // namespace mpg::net
