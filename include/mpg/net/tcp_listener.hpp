// A socket that accepts TCP connections.
#pragma once

#include <mpg/net/tcp_stream.hpp>

#include <algorithm>
#include <climits>
#include <optional>
#include <string_view>

namespace mpg::net {

/// How to listen. The defaults are those of Go.
struct listen_options {
    int backlog = 0; // connections that the kernel holds until they are accepted; 0: net.core.somaxconn
    bool reuse_addr = true;  // bind although old connections of that port still linger in TIME_WAIT
    bool reuse_port = false; // several listeners on one port, among which the kernel spreads the connections
    bool v6_only = false;    // an IPv6 listener does not take IPv4 connections as well
    std::optional<net::keepalive> keepalive = net::keepalive{}; // of accepted connections; nullopt: none
};

/// Listens on one address. Deadlines are for accept; that of writing affects nothing.
class tcp_listener : public io::descriptor_owner {
  public:
    tcp_listener() noexcept = default;

    /// "127.0.0.1:0" (port 0: the system picks one), "[::1]:80", "localhost:80", ":8080" (any address: IPv6
    /// and IPv4, or IPv4 alone where the system has no IPv6). May suspend to look up a name.
    static result<tcp_listener> bind(std::string_view address, listen_options options = {});
    static result<tcp_listener> bind(const endpoint& address, listen_options options = {});

    /// Of a listening TCP socket that came from elsewhere (a supervisor, an older process of the same service);
    /// closed when it is none. It is made non-blocking, also for others who share it.
    static result<tcp_listener> adopt(io::unique_fd fd) {
        auto d = detail::adopted(std::move(fd), SOCK_STREAM, true, {AF_INET, AF_INET6});
        if (!d) return unexpected(d.error());
        const endpoint local = detail::local_name(**d);
        return tcp_listener(std::move(*d), local);
    }

    /// Waits for a connection. What the system reports (EMFILE, ENFILE, ENOBUFS, ENOMEM) is returned at once,
    /// and the next call tries again: pause between them. A connection that its peer has dropped meanwhile is
    /// passed over.
    result<tcp_stream> accept() { return accept_one(nullptr); }
    result<tcp_stream> accept(const context& ctx) { return accept_one(sched::source_of(ctx)); }

    /// As it was bound, also after close().
    endpoint local_endpoint() const noexcept { return local_; }

  private:
    tcp_listener(io::descriptor_ptr fd, const endpoint& local) noexcept
        : descriptor_owner(std::move(fd))
        , local_(local) {}
    result<tcp_stream> accept_one(sched::cancel_source* cancel);

    endpoint local_;
};

inline result<tcp_listener> tcp_listener::bind(const endpoint& address, listen_options options) {
    if (address.family() != AF_INET && address.family() != AF_INET6)
        return unexpected(std::make_error_code(std::errc::address_family_not_supported));
    io::outcome e = io::sys::socket(address.family(), SOCK_STREAM | SOCK_NONBLOCK, IPPROTO_TCP);
    if (e < 0) return unexpected(io::error_of(e));
    const int fd = static_cast<int>(e);
    io::descriptor_ptr owner(fd);
    auto set = [&](int level, int name, bool on) {
        if (e >= 0) e = io::sys::set_option(fd, level, name, on);
    };
    set(SOL_SOCKET, SO_REUSEADDR, options.reuse_addr);
    if (options.reuse_port) set(SOL_SOCKET, SO_REUSEPORT, true);
    if (address.family() == AF_INET6) set(IPPROTO_IPV6, IPV6_V6ONLY, options.v6_only);
    set(IPPROTO_TCP, TCP_NODELAY, true); // what is accepted inherits it, and the probes
    if (e >= 0) e = detail::set_keepalive(fd, options.keepalive);
    if (e >= 0) e = io::sys::bind(fd, address.data(), address.size());
    // The system cuts a backlog down to its limit.
    if (e >= 0) e = io::sys::listen(fd, options.backlog > 0 ? options.backlog : INT_MAX);
    if (e < 0) return unexpected(io::error_of(e));
    const endpoint local = detail::local_name(*owner);
    return tcp_listener(std::move(owner), local);
}

inline result<tcp_listener> tcp_listener::bind(std::string_view address, listen_options options) {
    return detail::bind_text(
        address, [&options](const endpoint& at) { return bind(at, options); }, options.v6_only);
}

inline result<tcp_stream> tcp_listener::accept_one(sched::cancel_source* cancel) {
    if (!fd_) return unexpected(make_error_code(errc::closed));
    ::sockaddr_in6 from{};
    ::socklen_t size = sizeof from;
    auto* name = reinterpret_cast<::sockaddr*>(&from);
    const io::outcome n = detail::accepted(*fd_, name, &size, cancel);
    if (n < 0) return unexpected(io::error_of(n));
    return tcp_stream(io::descriptor_ptr(static_cast<int>(n)),
                      endpoint(name, std::min<::socklen_t>(size, sizeof from)));
}

} // namespace mpg::net
