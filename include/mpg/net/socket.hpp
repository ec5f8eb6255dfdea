// What sockets of all families share: names, connecting, accepting.
#pragma once

#include <mpg/io/transfer.hpp>
#include <mpg/net/endpoint.hpp>

namespace mpg::net::detail {

/// Empty when it is closed or has no name.
inline endpoint local_name(io::descriptor& d) noexcept {
    endpoint name;
    d.use([&name](int fd) noexcept {
        ::sockaddr_storage s{};
        ::socklen_t size = sizeof s;
        const io::outcome e = io::sys::local_name(fd, reinterpret_cast<::sockaddr*>(&s), &size);
        if (e >= 0) name = endpoint(reinterpret_cast<const ::sockaddr*>(&s), size);
        return e;
    });
    return name;
}

/// Empty when it is closed, not connected, or the other side has no name.
inline endpoint peer_name(io::descriptor& d) noexcept {
    endpoint name;
    d.use([&name](int fd) noexcept {
        ::sockaddr_storage s{};
        ::socklen_t size = sizeof s;
        const io::outcome e = io::sys::peer_name(fd, reinterpret_cast<::sockaddr*>(&s), &size);
        if (e >= 0) name = endpoint(reinterpret_cast<const ::sockaddr*>(&s), size);
        return e;
    });
    return name;
}

/// A connected stream socket. Suspends.
inline result<io::descriptor_ptr> connected(const endpoint& to, int protocol, sched::cancel_source* cancel) {
    // connect() has no flag that says "do not wait": the socket must not block until it is connected.
    const io::outcome s = io::sys::socket(to.family(), SOCK_STREAM | SOCK_NONBLOCK, protocol);
    if (s < 0) return unexpected(io::error_of(s));
    io::descriptor_ptr fd(static_cast<int>(s));
    {
        io::turn t(*fd, io::direction::write, sched::wait_reason::io_connect, cancel);
        io::outcome e = t.begin();
        if (e >= 0) e = io::sys::connect(t.fd(), to.data(), to.size());
        while (e == -EINPROGRESS || e == -EINTR) {
            t.worth_a_try();
            ::sockaddr_storage peer;
            ::socklen_t size = sizeof peer;
            e = io::sys::pending_error(t.fd());
            if (e == 0) e = io::sys::peer_name(t.fd(), reinterpret_cast<::sockaddr*>(&peer), &size);
            if (e != -ENOTCONN) break;
            t.used_up(true);
            e = t.wait(io::op_code::ready);
            if (e == io::try_again) e = -EINPROGRESS;
        }
        if (e >= 0) e = io::sys::set_nonblocking(t.fd(), false);
        if (e < 0) return unexpected(io::error_of(e));
    }
    return fd;
}

/// The number of a new connection's descriptor, or an error. Suspends. size: in and out, as for accept(2).
inline io::outcome accepted(io::descriptor& listener, ::sockaddr* from, ::socklen_t* size,
                            sched::cancel_source* cancel) {
    io::turn t(listener, io::direction::read, sched::wait_reason::io_accept, cancel);
    if (const io::outcome e = t.begin(); e < 0) return e;
    for (const ::socklen_t room = *size;; *size = room) {
        t.worth_a_try();
        const io::outcome n = io::sys::accept(t.fd(), from, size);
        if (n == -ECONNABORTED || n == -EPROTO) continue; // this one is gone; there may be others
        if (n != io::try_again) return n;
        t.used_up(true);
        if (const io::outcome e = t.wait(io::op_code::ready); e != io::try_again) return e;
    }
}

} // namespace mpg::net::detail
