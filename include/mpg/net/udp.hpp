// UDP.
#pragma once

#include <mpg/net/address.hpp>
#include <mpg/net/resolve.hpp>
#include <mpg/net/socket.hpp>

#include <algorithm>
#include <cstddef>
#include <optional>
#include <span>
#include <string_view>

namespace mpg::net {

/// Sends and receives datagrams, each whole; owns its descriptor. Move-only. Any strand may call anything at
/// any time, but for moving and destroying. For deadlines, contexts and close see stream_socket.
class udp_socket {
  public:
    udp_socket() noexcept = default;

    /// Receives at this address: "127.0.0.1:0", "[::1]:53", ":53" (any address, IPv6 and IPv4). May suspend
    /// to look up a name.
    static result<udp_socket> bind(std::string_view address);
    static result<udp_socket> bind(const endpoint& address);
    /// Exchanges datagrams with one peer: send and recv. Nothing is sent yet. May suspend to look up a name.
    static result<udp_socket> connect(std::string_view address) {
        return connect_to(address, context::background());
    }
    static result<udp_socket> connect(std::string_view address, const context& ctx) {
        return connect_to(address, ctx);
    }
    static result<udp_socket> connect(const endpoint& address);

    /// One datagram to `to`. Suspends only while the socket's buffer is full.
    result<std::size_t> send_to(std::span<const std::byte> data, const endpoint& to) {
        return put(data, &to, nullptr);
    }
    result<std::size_t> send_to(std::span<const std::byte> data, const endpoint& to, const context& ctx) {
        return put(data, &to, sched::source_of(ctx));
    }
    /// Waits for a datagram; what does not fit into the buffer is lost. May return 0: a datagram without
    /// data.
    result<std::size_t> recv_from(std::span<std::byte> buffer, endpoint& from) {
        return get(buffer, &from, nullptr);
    }
    result<std::size_t> recv_from(std::span<std::byte> buffer, endpoint& from, const context& ctx) {
        return get(buffer, &from, sched::source_of(ctx));
    }
    /// To and from the peer of a connected one.
    result<std::size_t> send(std::span<const std::byte> data) { return put(data, nullptr, nullptr); }
    result<std::size_t> send(std::span<const std::byte> data, const context& ctx) {
        return put(data, nullptr, sched::source_of(ctx));
    }
    result<std::size_t> recv(std::span<std::byte> buffer) { return get(buffer, nullptr, nullptr); }
    result<std::size_t> recv(std::span<std::byte> buffer, const context& ctx) {
        return get(buffer, nullptr, sched::source_of(ctx));
    }

    /// Empty when closed.
    endpoint local_endpoint() const noexcept { return fd_ ? detail::local_name(*fd_) : endpoint(); }
    /// Empty when closed or not connected.
    endpoint remote_endpoint() const noexcept { return fd_ ? detail::peer_name(*fd_) : endpoint(); }
    void close() noexcept {
        if (fd_) fd_->close();
    }
    bool is_open() const noexcept { return fd_ && fd_->is_open(); }
    /// -1 when closed.
    int native_handle() const noexcept { return fd_ ? fd_->number() : -1; }
    std::error_code set_deadline(std::optional<time_point> when) noexcept {
        const std::error_code e = set_read_deadline(when);
        return e ? e : set_write_deadline(when);
    }
    std::error_code set_read_deadline(std::optional<time_point> when) noexcept {
        return fd_ ? fd_->set_deadline(io::direction::read, when) : make_error_code(errc::closed);
    }
    std::error_code set_write_deadline(std::optional<time_point> when) noexcept {
        return fd_ ? fd_->set_deadline(io::direction::write, when) : make_error_code(errc::closed);
    }

  private:
    explicit udp_socket(io::descriptor_ptr fd) noexcept
        : fd_(std::move(fd)) {}
    static result<udp_socket> connect_to(std::string_view address, const context& ctx);
    result<std::size_t> put(std::span<const std::byte> data, const endpoint* to,
                            sched::cancel_source* cancel);
    result<std::size_t> get(std::span<std::byte> buffer, endpoint* from, sched::cancel_source* cancel);

    io::descriptor_ptr fd_;
    bool v6_ = false; // an IPv6 socket: IPv4 addresses must be mapped
};

inline result<udp_socket> udp_socket::bind(const endpoint& address) {
    if (address.family() != AF_INET && address.family() != AF_INET6)
        return unexpected(std::make_error_code(std::errc::address_family_not_supported));
    const io::outcome s = io::sys::socket(address.family(), SOCK_DGRAM, IPPROTO_UDP);
    if (s < 0) return unexpected(io::error_of(s));
    const int fd = static_cast<int>(s);
    udp_socket made{io::descriptor_ptr(fd)};
    made.v6_ = address.family() == AF_INET6;
    io::outcome e = 0;
    if (made.v6_) e = io::sys::set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
    if (e >= 0) e = io::sys::bind(fd, address.data(), address.size());
    if (e < 0) return unexpected(io::error_of(e));
    return made;
}

inline result<udp_socket> udp_socket::bind(std::string_view address) {
    return detail::bind_text(address, [](const endpoint& at) { return bind(at); });
}

inline result<udp_socket> udp_socket::connect(const endpoint& address) {
    const io::outcome s = io::sys::socket(address.family(), SOCK_DGRAM, IPPROTO_UDP);
    if (s < 0) return unexpected(io::error_of(s));
    const int fd = static_cast<int>(s);
    udp_socket made{io::descriptor_ptr(fd)};
    made.v6_ = address.family() == AF_INET6;
    const io::outcome e = io::sys::connect(fd, address.data(), address.size());
    if (e < 0) return unexpected(io::error_of(e));
    return made;
}

inline result<udp_socket> udp_socket::connect_to(std::string_view address, const context& ctx) {
    return detail::connect_text<udp_socket>(address, ctx, [](const endpoint& to) { return connect(to); });
}

inline result<std::size_t> udp_socket::put(std::span<const std::byte> data, const endpoint* to,
                                           sched::cancel_source* cancel) {
    if (!fd_) return unexpected(make_error_code(errc::closed));
    io::turn t(*fd_, io::direction::write, sched::wait_reason::io_write, cancel);
    if (const io::outcome e = t.begin(); e < 0) return unexpected(io::error_of(e));
    ::iovec piece{const_cast<std::byte*>(data.data()), data.size()};
    ::msghdr m{};
    m.msg_iov = &piece;
    m.msg_iovlen = 1;
    ::sockaddr_in6 mapped;
    if (to) {
        m.msg_name = const_cast<::sockaddr*>(to->data());
        m.msg_namelen = to->size();
        if (v6_ && to->family() == AF_INET) {
            mapped = to->mapped();
            m.msg_name = &mapped;
            m.msg_namelen = sizeof mapped;
        }
    }
    for (;;) {
        t.worth_a_try();
        io::outcome n = io::sys::sendmsg(t.fd(), &m, MSG_DONTWAIT);
        if (n == io::try_again) {
            t.used_up(true);
            n = t.wait(io::op_code::ready);
            if (n == io::try_again) continue;
        }
        if (n < 0) return unexpected(io::error_of(n));
        return static_cast<std::size_t>(n);
    }
}

inline result<std::size_t> udp_socket::get(std::span<std::byte> buffer, endpoint* from,
                                           sched::cancel_source* cancel) {
    if (!fd_) return unexpected(make_error_code(errc::closed));
    io::turn t(*fd_, io::direction::read, sched::wait_reason::io_read, cancel);
    if (const io::outcome e = t.begin(); e < 0) return unexpected(io::error_of(e));
    ::iovec piece{buffer.data(), buffer.size()};
    for (;;) {
        ::sockaddr_in6 sender{};
        ::msghdr m{};
        m.msg_iov = &piece;
        m.msg_iovlen = 1;
        m.msg_name = &sender;
        m.msg_namelen = sizeof sender;
        t.worth_a_try();
        io::outcome n = io::sys::recvmsg(t.fd(), &m, MSG_DONTWAIT);
        if (n == io::try_again) {
            t.used_up(true);
            n = t.wait(io::op_code::ready);
            if (n == io::try_again) continue;
        }
        if (n < 0) return unexpected(io::error_of(n));
        if (from)
            *from = endpoint(reinterpret_cast<const ::sockaddr*>(&sender),
                             std::min<::socklen_t>(m.msg_namelen, sizeof sender));
        return static_cast<std::size_t>(n);
    }
}

} // namespace mpg::net
