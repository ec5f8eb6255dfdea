// What sockets of all families share: names, connecting, accepting.
#pragma once

#include <mpg/io/transfer.hpp>
#include <mpg/io/unique_fd.hpp>
#include <mpg/net/endpoint.hpp>

#include <algorithm>
#include <initializer_list>
#include <system_error>
#include <utility>

namespace mpg::net::detail {

/// Calls f(number) -> outcome, which must not wait, while it cannot be closed. Also for null: errc::closed.
template <class F> std::error_code with_number(const io::descriptor_ptr& fd, F f) noexcept {
    if (!fd) return errc::closed;
    const io::outcome e = fd->use(f);
    return e < 0 ? io::error_of(e) : std::error_code{};
}

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

/// A socket that came from elsewhere, of these families and that type, as the streams (or listeners) want it.
/// Closed when it is none: then std::errc::invalid_argument, std::errc::not_a_socket, ...
inline result<io::descriptor_ptr> adopted(io::unique_fd fd, int type, bool listens,
                                          std::initializer_list<int> families) {
    const io::outcome t = io::sys::get_option(fd.get(), SOL_SOCKET, SO_TYPE);
    const io::outcome f = io::sys::get_option(fd.get(), SOL_SOCKET, SO_DOMAIN);
    const io::outcome l = io::sys::get_option(fd.get(), SOL_SOCKET, SO_ACCEPTCONN);
    for (const io::outcome e : {t, f, l})
        if (e < 0) return unexpected(io::error_of(e));
    if (t != type || l != listens || std::find(families.begin(), families.end(), f) == families.end())
        return unexpected(std::make_error_code(std::errc::invalid_argument));
    if (const io::outcome e = io::sys::set_nonblocking(fd.get(), listens); e < 0)
        return unexpected(io::error_of(e));
    return io::descriptor_ptr(fd.release());
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
