// System calls as leaves: each returns its value or -errno, read in the same function.
//
// A task may go on on another thread after any wait, and compilers keep the address of errno over calls; a
// leaf that is not inlined into code that waits cannot be wrong about it.
//
// The leaves call the system as sys::os::NAME, which is ::NAME. A test that makes calls fail defines
// MPG_IO_SYSCALLS as the name of a header that says what os holds instead (tests/faults.hpp).
#pragma once

#include <mpg/base/config.hpp>
#include <mpg/base/error.hpp>

#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

namespace mpg::io {

/// Internal form of a result: a value >= 0, -errno, or the code of an errc below all errnos.
using outcome = std::int64_t;

inline constexpr outcome errc_base = -0x10000;
constexpr outcome outcome_of(errc e) noexcept { return errc_base - static_cast<int>(e); }
inline outcome outcome_of(std::error_code e) noexcept {
    if (!e) return 0;
    return e.category() == error_category() ? outcome_of(static_cast<errc>(e.value())) : -e.value();
}
/// Precondition: n < 0.
inline std::error_code error_of(outcome n) noexcept {
    if (n <= errc_base) return static_cast<errc>(errc_base - n);
    return {static_cast<int>(-n), std::system_category()};
}

/// As in Go: no transfer is larger than 1 GiB at once, so that lengths fit everywhere.
inline constexpr std::size_t max_transfer = std::size_t{1} << 30;
constexpr std::size_t clamp(std::size_t n) noexcept { return n < max_transfer ? n : max_transfer; }

} // namespace mpg::io

#if defined(MPG_IO_SYSCALLS)
#include MPG_IO_SYSCALLS
#else
namespace mpg::io::sys::os {

using ::accept4, ::bind, ::close, ::connect, ::copy_file_range, ::epoll_create1, ::epoll_ctl, ::epoll_pwait2,
    ::epoll_wait, ::eventfd, ::fcntl, ::fsync, ::getpeername, ::getsockname, ::getsockopt, ::ioctl, ::listen, ::open,
    ::pipe2, ::ppoll, ::pread, ::preadv, ::pwrite, ::pwritev, ::read, ::readv, ::recv, ::recvmmsg, ::recvmsg, ::send,
    ::sendfile, ::sendmmsg, ::sendmsg, ::setsockopt, ::shutdown, ::socket, ::socketpair, ::splice, ::write, ::writev;

/// How much of a transfer a ring is asked for, and what its completion says.
constexpr std::uint32_t ring_length(std::uint32_t n) noexcept { return n; }
constexpr int ring_result(int result) noexcept { return result; }

} // namespace mpg::io::sys::os
#endif

namespace mpg::io::sys {

MPG_NOINLINE inline outcome recv(int fd, void* to, std::size_t n, int flags) noexcept {
    for (;;) {
        ::ssize_t r = os::recv(fd, to, clamp(n), flags);
        if (r >= 0) return r;
        if (errno != EINTR) return -errno;
    }
}
MPG_NOINLINE inline outcome send(int fd, const void* from, std::size_t n, int flags) noexcept {
    for (;;) {
        ::ssize_t r = os::send(fd, from, clamp(n), flags | MSG_NOSIGNAL);
        if (r >= 0) return r;
        if (errno != EINTR) return -errno;
    }
}
MPG_NOINLINE inline outcome recvmsg(int fd, ::msghdr* m, int flags) noexcept {
    for (;;) {
        ::ssize_t r = os::recvmsg(fd, m, flags);
        if (r >= 0) return r;
        if (errno != EINTR) return -errno;
    }
}
MPG_NOINLINE inline outcome sendmsg(int fd, const ::msghdr* m, int flags) noexcept {
    for (;;) {
        ::ssize_t r = os::sendmsg(fd, m, flags | MSG_NOSIGNAL);
        if (r >= 0) return r;
        if (errno != EINTR) return -errno;
    }
}
/// As many messages as are there, at most n.
MPG_NOINLINE inline outcome recvmmsg(int fd, ::mmsghdr* m, unsigned n, int flags) noexcept {
    for (;;) {
        int r = os::recvmmsg(fd, m, n, flags, nullptr);
        if (r >= 0) return r;
        if (errno != EINTR) return -errno;
    }
}
MPG_NOINLINE inline outcome sendmmsg(int fd, ::mmsghdr* m, unsigned n, int flags) noexcept {
    for (;;) {
        int r = os::sendmmsg(fd, m, n, flags | MSG_NOSIGNAL);
        if (r >= 0) return r;
        if (errno != EINTR) return -errno;
    }
}
MPG_NOINLINE inline outcome read(int fd, void* to, std::size_t n) noexcept {
    for (;;) {
        ::ssize_t r = os::read(fd, to, clamp(n));
        if (r >= 0) return r;
        if (errno != EINTR) return -errno;
    }
}
MPG_NOINLINE inline outcome write(int fd, const void* from, std::size_t n) noexcept {
    for (;;) {
        ::ssize_t r = os::write(fd, from, clamp(n));
        if (r >= 0) return r;
        if (errno != EINTR) return -errno;
    }
}
/// The new descriptor blocks (what waits says so by itself) and does not survive exec.
MPG_NOINLINE inline outcome accept(int fd, ::sockaddr* from, ::socklen_t* size) noexcept {
    for (;;) {
        int r = os::accept4(fd, from, size, SOCK_CLOEXEC);
        if (r >= 0) return r;
        if (errno != EINTR) return -errno;
    }
}
MPG_NOINLINE inline outcome socket(int family, int type, int protocol) noexcept {
    int r = os::socket(family, type | SOCK_CLOEXEC, protocol);
    return r >= 0 ? r : -errno;
}
/// Two connected ones.
MPG_NOINLINE inline outcome socket_pair(int family, int type, int ends[2]) noexcept {
    return os::socketpair(family, type | SOCK_CLOEXEC, 0, ends) == 0 ? 0 : -errno;
}
MPG_NOINLINE inline outcome connect(int fd, const ::sockaddr* to, ::socklen_t size) noexcept {
    return os::connect(fd, to, size) == 0 ? 0 : -errno;
}
MPG_NOINLINE inline outcome bind(int fd, const ::sockaddr* to, ::socklen_t size) noexcept {
    return os::bind(fd, to, size) == 0 ? 0 : -errno;
}
MPG_NOINLINE inline outcome listen(int fd, int backlog) noexcept {
    return os::listen(fd, backlog) == 0 ? 0 : -errno;
}
MPG_NOINLINE inline outcome shutdown(int fd, int how) noexcept {
    return os::shutdown(fd, how) == 0 ? 0 : -errno;
}
MPG_NOINLINE inline outcome set_option(int fd, int level, int name, int value) noexcept {
    return os::setsockopt(fd, level, name, &value, sizeof value) == 0 ? 0 : -errno;
}
/// An option that is no int.
template <class T> MPG_NOINLINE outcome set_option_of(int fd, int level, int name, const T& value) noexcept {
    return os::setsockopt(fd, level, name, &value, sizeof value) == 0 ? 0 : -errno;
}
MPG_NOINLINE inline outcome get_option(int fd, int level, int name) noexcept {
    int value = 0;
    ::socklen_t size = sizeof value;
    return os::getsockopt(fd, level, name, &value, &size) == 0 ? value : -errno;
}
/// 0: none.
MPG_NOINLINE inline outcome set_send_timeout(int fd, int milliseconds) noexcept {
    const ::timeval t{milliseconds / 1000, milliseconds % 1000 * 1000};
    return os::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t) == 0 ? 0 : -errno;
}
MPG_NOINLINE inline outcome set_nonblocking(int fd, bool on) noexcept {
    int value = on;
    return os::ioctl(fd, FIONBIO, &value) == 0 ? 0 : -errno;
}
MPG_NOINLINE inline bool is_nonblocking(int fd) noexcept { return os::fcntl(fd, F_GETFL) & O_NONBLOCK; }
/// The error that the socket has kept, cleared by this: 0 or -errno.
MPG_NOINLINE inline outcome pending_error(int fd) noexcept {
    int e = 0;
    ::socklen_t size = sizeof e;
    return os::getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &size) == 0 ? -e : -errno;
}
MPG_NOINLINE inline outcome local_name(int fd, ::sockaddr* to, ::socklen_t* size) noexcept {
    return os::getsockname(fd, to, size) == 0 ? 0 : -errno;
}
MPG_NOINLINE inline outcome peer_name(int fd, ::sockaddr* to, ::socklen_t* size) noexcept {
    return os::getpeername(fd, to, size) == 0 ? 0 : -errno;
}
/// Runs a call that writes n bytes and has no flag against SIGPIPE: of this thread alone the signal is held
/// back meanwhile, and taken away when it came from here. (Also behind a part of the bytes: the call then tells of
/// these, and not of the error.) Only in leaves.
template <class Call> outcome without_sigpipe(std::size_t n, Call call) noexcept {
    ::sigset_t broken, before, pending;
    ::sigemptyset(&broken);
    ::sigaddset(&broken, SIGPIPE);
    ::pthread_sigmask(SIG_BLOCK, &broken, &before);
    ::sigpending(&pending);
    const outcome r = call();
    if (r != static_cast<outcome>(n) && !::sigismember(&pending, SIGPIPE)) {
        const ::timespec now{};
        while (::sigtimedwait(&broken, nullptr, &now) < 0 && errno == EINTR) {
        }
    }
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return r;
}
/// timeout: null waits for ever. -EINTR is passed on.
MPG_NOINLINE inline outcome poll(::pollfd* fds, unsigned n, const ::timespec* timeout) noexcept {
    int r = os::ppoll(fds, n, timeout, nullptr);
    return r >= 0 ? r : -errno;
}
inline void close(int fd) noexcept { os::close(fd); }

} // namespace mpg::io::sys
