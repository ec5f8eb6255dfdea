// UDP.
#pragma once

#include <mpg/net/address.hpp>
#include <mpg/net/packet_socket.hpp>
#include <mpg/net/resolve.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <netinet/udp.h>
#include <span>
#include <string_view>
#include <system_error>
#include <utility>

namespace mpg::net {

/// How to bind.
struct udp_options {
    bool reuse_port = false; // several sockets at one port, among which the kernel spreads the senders
    bool v6_only = false;    // an IPv6 socket does not take IPv4 datagrams as well
};

/// A place for a datagram; see recv_batch.
struct datagram {
    std::span<std::byte> buffer;
    std::size_t size = 0; // of what has come
    bool truncated = false;
    /// 0, or several datagrams stand in the buffer, each of this size but for the last; see set_gro.
    std::size_t segment = 0;
    endpoint from{};
};

/// See send_batch.
struct outgoing_datagram {
    std::span<const std::byte> data;
    endpoint to{}; // empty: the peer of a connected socket
    /// 0, or the kernel makes datagrams of this size of it, the last one shorter (UDP_SEGMENT, Linux 4.18; up
    /// to 64 KiB and 64 datagrams at once).
    std::uint16_t segment = 0;
};

/// UDP; see packet_socket. Broadcasts may be sent, as in Go.
class udp_socket : public packet_socket {
  public:
    udp_socket() noexcept = default;

    /// Receives at this address: "127.0.0.1:0", "[::1]:53", ":53" (any address, IPv6 and IPv4). May suspend
    /// to look up a name.
    static result<udp_socket> bind(std::string_view address, udp_options options = {});
    static result<udp_socket> bind(const endpoint& address, udp_options options = {});
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
        return put_to(data, to, nullptr);
    }
    result<std::size_t> send_to(std::span<const std::byte> data, const endpoint& to, const context& ctx) {
        return put_to(data, to, sched::source_of(ctx));
    }
    /// Waits for a datagram; what does not fit into the buffer is lost. May return 0: a datagram without
    /// data.
    result<std::size_t> recv_from(std::span<std::byte> buffer, endpoint& from) {
        return get(buffer, &from, nullptr);
    }
    result<std::size_t> recv_from(std::span<std::byte> buffer, endpoint& from, const context& ctx) {
        return get(buffer, &from, sched::source_of(ctx));
    }
    /// Several datagrams with few system calls (recvmmsg): waits for the first one, and takes as many more as
    /// are there. How many, at least 1 (0 for an empty span); what does not fit into a buffer is lost.
    result<std::size_t> recv_batch(std::span<datagram> to) { return take(to, nullptr); }
    result<std::size_t> recv_batch(std::span<datagram> to, const context& ctx) {
        return take(to, sched::source_of(ctx));
    }
    /// Several datagrams with few system calls (sendmmsg), in order. How many: all of them, or fewer when an
    /// error has stopped it behind that many; an error when the first could not be sent.
    result<std::size_t> send_batch(std::span<const outgoing_datagram> all) { return give(all, nullptr); }
    result<std::size_t> send_batch(std::span<const outgoing_datagram> all, const context& ctx) {
        return give(all, sched::source_of(ctx));
    }
    /// Lets the system put datagrams of one sender and size together (UDP_GRO): recv_batch then may give
    /// several in one buffer, with their size in datagram::segment. Make buffers 64 KiB large. Fails where the
    /// kernel does not know it (before Linux 5.0). Does not wait.
    std::error_code set_gro(bool on) noexcept {
        if (!fd_) return errc::closed;
        const io::outcome e =
            fd_->use([on](int n) noexcept { return io::sys::set_option(n, IPPROTO_UDP, UDP_GRO, on); });
        return e < 0 ? io::error_of(e) : std::error_code{};
    }

  private:
    explicit udp_socket(io::descriptor_ptr fd) noexcept
        : packet_socket(std::move(fd)) {}
    static result<udp_socket> connect_to(std::string_view address, const context& ctx);
    result<std::size_t> put_to(std::span<const std::byte> data, const endpoint& to,
                               sched::cancel_source* cancel) {
        if (!v6_ || to.family() != AF_INET) return put(data, to.data(), to.size(), cancel);
        const ::sockaddr_in6 mapped = to.mapped();
        return put(data, reinterpret_cast<const ::sockaddr*>(&mapped), sizeof mapped, cancel);
    }
    result<std::size_t> take(std::span<datagram> to, sched::cancel_source* cancel);
    result<std::size_t> give(std::span<const outgoing_datagram> all, sched::cancel_source* cancel);

    bool v6_ = false; // an IPv6 socket: IPv4 addresses must be mapped
};

inline result<udp_socket> udp_socket::bind(const endpoint& address, udp_options options) {
    if (address.family() != AF_INET && address.family() != AF_INET6)
        return unexpected(std::make_error_code(std::errc::address_family_not_supported));
    const io::outcome s = io::sys::socket(address.family(), SOCK_DGRAM, IPPROTO_UDP);
    if (s < 0) return unexpected(io::error_of(s));
    const int fd = static_cast<int>(s);
    udp_socket made{io::descriptor_ptr(fd)};
    made.v6_ = address.family() == AF_INET6;
    io::outcome e = io::sys::set_option(fd, SOL_SOCKET, SO_BROADCAST, 1);
    if (e >= 0 && made.v6_) e = io::sys::set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, options.v6_only);
    if (e >= 0 && options.reuse_port) e = io::sys::set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (e >= 0) e = io::sys::bind(fd, address.data(), address.size());
    if (e < 0) return unexpected(io::error_of(e));
    return made;
}

inline result<udp_socket> udp_socket::bind(std::string_view address, udp_options options) {
    return detail::bind_text(
        address, [&options](const endpoint& at) { return bind(at, options); }, options.v6_only);
}

inline result<udp_socket> udp_socket::connect(const endpoint& address) {
    const io::outcome s = io::sys::socket(address.family(), SOCK_DGRAM, IPPROTO_UDP);
    if (s < 0) return unexpected(io::error_of(s));
    const int fd = static_cast<int>(s);
    udp_socket made{io::descriptor_ptr(fd)};
    made.v6_ = address.family() == AF_INET6;
    io::outcome e = io::sys::set_option(fd, SOL_SOCKET, SO_BROADCAST, 1);
    if (e >= 0) e = io::sys::connect(fd, address.data(), address.size());
    if (e < 0) return unexpected(io::error_of(e));
    return made;
}

inline result<udp_socket> udp_socket::connect_to(std::string_view address, const context& ctx) {
    return detail::connect_text<udp_socket>(address, ctx, [](const endpoint& to) { return connect(to); });
}

namespace detail {

/// What recvmmsg and sendmmsg want for a number of datagrams: 4 KiB of stack.
struct mmsg_window {
    static constexpr std::size_t size = 32;
    static constexpr std::size_t control_size = CMSG_SPACE(sizeof(int));

    ::mmsghdr headers[size];
    ::iovec pieces[size];
    ::sockaddr_in6 names[size];
    alignas(::cmsghdr) std::byte controls[size][control_size];

    /// The i-th: n bytes at data, no name, no control.
    ::msghdr& set(std::size_t i, const void* data, std::size_t n) noexcept {
        pieces[i] = {const_cast<void*>(data), n};
        headers[i] = {};
        ::msghdr& m = headers[i].msg_hdr;
        m.msg_iov = &pieces[i];
        m.msg_iovlen = 1;
        return m;
    }
};

} // namespace detail

inline result<std::size_t> udp_socket::take(std::span<datagram> to, sched::cancel_source* cancel) {
    if (!fd_) return unexpected(make_error_code(errc::closed));
    io::turn t(*fd_, io::direction::read, sched::wait_reason::io_read, cancel);
    if (const io::outcome e = t.begin(); e < 0) return unexpected(io::error_of(e));
    detail::mmsg_window w;
    std::size_t done = 0;
    while (done != to.size()) {
        const auto window = to.subspan(done, std::min(w.size, to.size() - done));
        for (std::size_t i = 0; i != window.size(); ++i) {
            ::msghdr& m = w.set(i, window[i].buffer.data(), window[i].buffer.size());
            m.msg_name = &w.names[i];
            m.msg_namelen = sizeof w.names[i];
            m.msg_control = w.controls[i];
            m.msg_controllen = sizeof w.controls[i];
        }
        t.worth_a_try();
        io::outcome n = io::sys::recvmmsg(t.fd(), w.headers, static_cast<unsigned>(window.size()), MSG_DONTWAIT);
        if (n < 0 && done != 0) return done; // an error stays with the socket, or comes again
        if (n == io::try_again) {
            t.used_up(true);
            n = t.wait(io::op_code::ready);
            if (n == io::try_again) continue;
        }
        if (n < 0) return unexpected(io::error_of(n));
        const auto got = static_cast<std::size_t>(n);
        for (std::size_t i = 0; i != got; ++i) {
            ::msghdr& m = w.headers[i].msg_hdr;
            datagram& d = window[i];
            d.size = w.headers[i].msg_len;
            d.truncated = m.msg_flags & MSG_TRUNC;
            d.from = endpoint(reinterpret_cast<const ::sockaddr*>(&w.names[i]),
                              std::min<::socklen_t>(m.msg_namelen, sizeof w.names[i]));
            d.segment = 0;
            for (::cmsghdr* c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
                if (c->cmsg_level != IPPROTO_UDP || c->cmsg_type != UDP_GRO) continue;
                int size;
                std::memcpy(&size, CMSG_DATA(c), sizeof size);
                if (d.size > static_cast<std::size_t>(size)) d.segment = static_cast<std::size_t>(size);
            }
        }
        done += got;
        if (got != window.size()) break;
    }
    return done;
}

inline result<std::size_t> udp_socket::give(std::span<const outgoing_datagram> all,
                                            sched::cancel_source* cancel) {
    if (!fd_) return unexpected(make_error_code(errc::closed));
    io::turn t(*fd_, io::direction::write, sched::wait_reason::io_write, cancel);
    if (const io::outcome e = t.begin(); e < 0) return unexpected(io::error_of(e));
    detail::mmsg_window w;
    std::size_t done = 0;
    while (done != all.size()) {
        const auto window = all.subspan(done, std::min(w.size, all.size() - done));
        for (std::size_t i = 0; i != window.size(); ++i) {
            const outgoing_datagram& d = window[i];
            ::msghdr& m = w.set(i, d.data.data(), d.data.size());
            if (v6_ && d.to.family() == AF_INET) {
                w.names[i] = d.to.mapped();
                m.msg_name = &w.names[i];
                m.msg_namelen = sizeof w.names[i];
            } else if (!d.to.empty()) {
                m.msg_name = const_cast<::sockaddr*>(d.to.data());
                m.msg_namelen = d.to.size();
            }
            if (d.segment == 0) continue;
            std::memset(w.controls[i], 0, sizeof w.controls[i]);
            m.msg_control = w.controls[i];
            m.msg_controllen = CMSG_SPACE(sizeof d.segment);
            ::cmsghdr* c = CMSG_FIRSTHDR(&m);
            c->cmsg_level = IPPROTO_UDP;
            c->cmsg_type = UDP_SEGMENT;
            c->cmsg_len = CMSG_LEN(sizeof d.segment);
            std::memcpy(CMSG_DATA(c), &d.segment, sizeof d.segment);
        }
        t.worth_a_try();
        io::outcome n = io::sys::sendmmsg(t.fd(), w.headers, static_cast<unsigned>(window.size()), MSG_DONTWAIT);
        if (n == io::try_again) {
            t.used_up(true);
            n = t.wait(io::op_code::ready);
            if (n == io::try_again) continue;
        }
        if (n < 0) {
            if (done != 0) return done;
            return unexpected(io::error_of(n));
        }
        done += static_cast<std::size_t>(n);
    }
    return done;
}

} // namespace mpg::net
