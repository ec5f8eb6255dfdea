// System calls that fail when a test says so: the other side of the seam in io/syscall.hpp.
//
//   #define MPG_IO_SYSCALLS "faults.hpp"      // before anything else is included
//
//   fault f(call::accept4, EMFILE, 3);        // the next three calls, of whatever thread
//   fault g(call::recv, EINTR, 1, 5);         // the one after the next five
//   frequent h(call::send, EINTR, 2);         // every second one
//   fault i(call::send, EINTR, 0);            // none: calls are counted
//   short_transfers s(1);                     // none moves more than one byte
//   socket_layer                              // a part of the system that a test plays
#pragma once

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <fcntl.h>
#include <functional>
#include <liburing.h>
#include <limits>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>
#include <utility>

#define MPG_TEST_CALLS(X)                                                                                    \
    X(accept4) X(bind) X(close) X(connect) X(copy_file_range) X(epoll_create1) X(epoll_ctl) X(epoll_pwait2)        \
    X(epoll_wait) X(eventfd) X(fcntl) X(fsync) X(getpeername) X(getsockname) X(getsockopt) X(io_uring_enter2)      \
    X(ioctl) X(listen) X(open) X(pipe2) X(ppoll) X(pread) X(preadv) X(pwrite) X(pwritev) X(read) X(readv) X(recv)  \
    X(recvmmsg) X(recvmsg) X(send) X(sendfile) X(sendmmsg) X(sendmsg) X(setsockopt) X(shutdown) X(socket)          \
    X(socketpair) X(splice) X(write) X(writev)

namespace mpg::test {

enum class call {
#define MPG_TEST_CALL(name) name,
    MPG_TEST_CALLS(MPG_TEST_CALL)
#undef MPG_TEST_CALL
        ring_completion, // of an operation: its result is replaced
    count
};

namespace detail {

struct rule {
    std::atomic<int> error{0};
    std::atomic<long> skip{0}, times{0}, every{0}, seen{0}, hits{0};
};
inline rule rules[static_cast<std::size_t>(call::count)];
inline std::atomic<std::size_t> longest{std::numeric_limits<std::size_t>::max()};

/// The error that this call is to have, or 0.
inline int injected(call c) noexcept {
    rule& r = rules[static_cast<std::size_t>(c)];
    const int error = r.error.load();
    if (error == 0) return 0;
    const long n = r.seen.fetch_add(1), every = r.every.load();
    const bool hit = every != 0 ? n % every == every - 1 : n >= r.skip.load() && n < r.skip.load() + r.times.load();
    if (!hit) return 0;
    r.hits.fetch_add(1);
    return error;
}
inline std::size_t cut(std::size_t n) noexcept {
    const std::size_t most = longest.load();
    return n < most ? n : most;
}
/// A message of no more than that: its first piece alone, when something is to be cut.
template <class F> ::ssize_t with_cut(const ::msghdr* m, F f) noexcept {
    ::msghdr copy = *m;
    ::iovec first{};
    if (longest.load() != std::numeric_limits<std::size_t>::max() && m->msg_iovlen != 0) {
        first = m->msg_iov[0];
        first.iov_len = cut(first.iov_len);
        copy.msg_iov = &first;
        copy.msg_iovlen = 1;
    }
    return f(&copy);
}

} // namespace detail

/// Stands between the library and the system while it lives: what a kernel would do that has more than this one.
struct socket_layer {
    socket_layer() noexcept { current() = this; }
    socket_layer(const socket_layer&) = delete;
    socket_layer& operator=(const socket_layer&) = delete;
    virtual ~socket_layer() { current() = nullptr; }
    virtual int setsockopt(int fd, int level, int name, const void* value, ::socklen_t n) noexcept {
        return ::setsockopt(fd, level, name, value, n);
    }
    virtual ::ssize_t send(int fd, const void* from, std::size_t n, int flags) noexcept { return ::send(fd, from, n, flags); }
    virtual ::ssize_t recv(int fd, void* to, std::size_t n, int flags) noexcept { return ::recv(fd, to, n, flags); }
    virtual ::ssize_t sendmsg(int fd, const ::msghdr* m, int flags) noexcept { return ::sendmsg(fd, m, flags); }
    virtual ::ssize_t sendfile(int to, int from, ::off_t* at, std::size_t n) noexcept { return ::sendfile(to, from, at, n); }
    static std::atomic<socket_layer*>& current() noexcept {
        static std::atomic<socket_layer*> one{nullptr};
        return one;
    }
};

/// The next recv meets a close(), as if another strand had called it in that moment; the number, if it is free then, is
/// another descriptor's at once.
class closed_in_recv final : public socket_layer {
  public:
    closed_in_recv(std::function<void()> close, int other)
        : close_(std::move(close))
        , other_(other) {}
    int number() const noexcept { return number_; }
    ::ssize_t recv(int fd, void* to, std::size_t n, int flags) noexcept override {
        if (const auto close = std::exchange(close_, nullptr)) {
            close();
            number_ = fd;
            if (::fcntl(fd, F_GETFD) < 0) ::dup2(other_, fd);
        }
        return ::recv(fd, to, n, flags);
    }

  private:
    std::function<void()> close_;
    const int other_;
    int number_ = -1;
};

class fault {
  public:
    fault(call c, int error, long times = 1, long skip = 0) noexcept
        : fault(c) {
        rule_.skip = skip;
        rule_.times = times;
        rule_.error = error; // last: from here on it works
    }
    fault(const fault&) = delete;
    fault& operator=(const fault&) = delete;
    ~fault() { rule_.error = 0; }
    /// How many calls have failed.
    long hits() const noexcept { return rule_.hits.load(); }
    /// How many there were, failed or not.
    long calls() const noexcept { return rule_.seen.load(); }

  protected:
    explicit fault(call c) noexcept
        : rule_(detail::rules[static_cast<std::size_t>(c)]) {
        rule_.seen = rule_.hits = rule_.every = 0;
    }
    detail::rule& rule_;
};

struct frequent : fault {
    frequent(call c, int error, long every) noexcept
        : fault(c) {
        rule_.every = every;
        rule_.error = error;
    }
};

struct short_transfers {
    explicit short_transfers(std::size_t most) noexcept { detail::longest = most; }
    short_transfers(const short_transfers&) = delete;
    short_transfers& operator=(const short_transfers&) = delete;
    ~short_transfers() { detail::longest = std::numeric_limits<std::size_t>::max(); }
};

} // namespace mpg::test

namespace mpg::io::sys::os {

/// liburing's wrapper returns -errno, all others -1 with errno.
inline int io_uring_enter2(unsigned fd, unsigned submit, unsigned wait, unsigned flags, ::sigset_t* sig, std::size_t n) {
    if (const int e = test::detail::injected(test::call::io_uring_enter2)) return -e;
    return ::io_uring_enter2(fd, submit, wait, flags, sig, n);
}

#define MPG_TEST_CALL(name)                                                                                  \
    template <class... A> auto name(A... a) noexcept->decltype(::name(a...)) {                               \
        if (const int e = test::detail::injected(test::call::name)) return errno = e, -1;                    \
        return ::name(a...);                                                                                 \
    }
MPG_TEST_CALL(accept4)
MPG_TEST_CALL(bind)
MPG_TEST_CALL(close)
MPG_TEST_CALL(epoll_create1)
MPG_TEST_CALL(epoll_ctl)
MPG_TEST_CALL(epoll_pwait2)
MPG_TEST_CALL(epoll_wait)
MPG_TEST_CALL(fcntl)
MPG_TEST_CALL(fsync)
MPG_TEST_CALL(getpeername)
MPG_TEST_CALL(getsockname)
MPG_TEST_CALL(getsockopt)
MPG_TEST_CALL(listen)
MPG_TEST_CALL(open)
MPG_TEST_CALL(pipe2)
MPG_TEST_CALL(ppoll)
MPG_TEST_CALL(recvmmsg)
MPG_TEST_CALL(sendmmsg)
MPG_TEST_CALL(shutdown)
MPG_TEST_CALL(socket)
MPG_TEST_CALL(socketpair)
#undef MPG_TEST_CALL

// Transfers, which can be short as well: the length is the argument in front of `after`.
#define MPG_TEST_TRANSFER(name, parameters, before, after)                                                   \
    inline ::ssize_t name parameters noexcept {                                                              \
        if (const int e = test::detail::injected(test::call::name)) return errno = e, -1;                    \
        return ::name(before, test::detail::cut(n) after);                                                   \
    }
#define MPG_TEST_LIST(...) __VA_ARGS__
MPG_TEST_TRANSFER(read, (int fd, void* to, std::size_t n), MPG_TEST_LIST(fd, to), )
MPG_TEST_TRANSFER(write, (int fd, const void* from, std::size_t n), MPG_TEST_LIST(fd, from), )
MPG_TEST_TRANSFER(pread, (int fd, void* to, std::size_t n, ::off_t at), MPG_TEST_LIST(fd, to), MPG_TEST_LIST(, at))
MPG_TEST_TRANSFER(pwrite, (int fd, const void* from, std::size_t n, ::off_t at), MPG_TEST_LIST(fd, from),
                  MPG_TEST_LIST(, at))
MPG_TEST_TRANSFER(splice, (int from, ::off64_t* a, int to, ::off64_t* b, std::size_t n, unsigned flags),
                  MPG_TEST_LIST(from, a, to, b), MPG_TEST_LIST(, flags))
MPG_TEST_TRANSFER(copy_file_range, (int from, ::off64_t* a, int to, ::off64_t* b, std::size_t n, unsigned flags),
                  MPG_TEST_LIST(from, a, to, b), MPG_TEST_LIST(, flags))
#undef MPG_TEST_TRANSFER
#undef MPG_TEST_LIST

// Of many pieces the first one alone, when something is to be cut.
#define MPG_TEST_PIECES(name, parameters, after)                                                             \
    inline ::ssize_t name parameters noexcept {                                                              \
        if (const int e = test::detail::injected(test::call::name)) return errno = e, -1;                    \
        ::msghdr m{};                                                                                        \
        m.msg_iov = const_cast<::iovec*>(pieces);                                                            \
        m.msg_iovlen = static_cast<std::size_t>(n);                                                          \
        return test::detail::with_cut(                                                                       \
            &m, [=](const ::msghdr* c) { return ::name(fd, c->msg_iov, static_cast<int>(c->msg_iovlen) after); }); \
    }
MPG_TEST_PIECES(readv, (int fd, const ::iovec* pieces, int n), )
MPG_TEST_PIECES(writev, (int fd, const ::iovec* pieces, int n), )
#define MPG_TEST_AT , at
MPG_TEST_PIECES(preadv, (int fd, const ::iovec* pieces, int n, ::off_t at), MPG_TEST_AT)
MPG_TEST_PIECES(pwritev, (int fd, const ::iovec* pieces, int n, ::off_t at), MPG_TEST_AT)
#undef MPG_TEST_AT
#undef MPG_TEST_PIECES

/// One that is interrupted goes on without the caller.
inline int connect(int fd, const ::sockaddr* to, ::socklen_t size) noexcept {
    const int e = test::detail::injected(test::call::connect);
    if (e == 0) return ::connect(fd, to, size);
    if (e == EINTR && ::connect(fd, to, size) < 0 && errno != EINPROGRESS) return -1;
    return errno = e, -1;
}
inline int eventfd(unsigned value, int flags) noexcept {
    if (const int e = test::detail::injected(test::call::eventfd)) return errno = e, -1;
    return ::eventfd(value, flags);
}
inline int ioctl(int fd, unsigned long what, int* value) noexcept {
    if (const int e = test::detail::injected(test::call::ioctl)) return errno = e, -1;
    return ::ioctl(fd, what, value);
}
inline int setsockopt(int fd, int level, int name, const void* value, std::size_t n) noexcept {
    if (const int e = test::detail::injected(test::call::setsockopt)) return errno = e, -1;
    if (auto* layer = test::socket_layer::current().load()) return layer->setsockopt(fd, level, name, value, static_cast<::socklen_t>(n));
    return ::setsockopt(fd, level, name, value, static_cast<::socklen_t>(n));
}
inline ::ssize_t send(int fd, const void* from, std::size_t n, int flags) noexcept {
    if (const int e = test::detail::injected(test::call::send)) return errno = e, -1;
    if (auto* layer = test::socket_layer::current().load()) return layer->send(fd, from, test::detail::cut(n), flags);
    return ::send(fd, from, test::detail::cut(n), flags);
}
inline ::ssize_t sendfile(int to, int from, ::off_t* at, std::size_t n) noexcept {
    if (const int e = test::detail::injected(test::call::sendfile)) return errno = e, -1;
    if (auto* layer = test::socket_layer::current().load()) return layer->sendfile(to, from, at, test::detail::cut(n));
    return ::sendfile(to, from, at, test::detail::cut(n));
}
/// Not cut: from a socket, less than was asked for means that no more is there.
inline ::ssize_t recv(int fd, void* to, std::size_t n, int flags) noexcept {
    if (const int e = test::detail::injected(test::call::recv)) return errno = e, -1;
    if (auto* layer = test::socket_layer::current().load()) return layer->recv(fd, to, n, flags);
    return ::recv(fd, to, n, flags);
}
inline ::ssize_t recvmsg(int fd, ::msghdr* m, int flags) noexcept {
    if (const int e = test::detail::injected(test::call::recvmsg)) return errno = e, -1;
    return ::recvmsg(fd, m, flags);
}
inline ::ssize_t sendmsg(int fd, const ::msghdr* m, int flags) noexcept {
    if (const int e = test::detail::injected(test::call::sendmsg)) return errno = e, -1;
    if (auto* layer = test::socket_layer::current().load()) return layer->sendmsg(fd, m, flags);
    return test::detail::with_cut(m, [=](const ::msghdr* shorter) { return ::sendmsg(fd, shorter, flags); });
}

inline std::uint32_t ring_length(std::uint32_t n) noexcept {
    return static_cast<std::uint32_t>(test::detail::cut(n));
}
inline int ring_result(int result) noexcept {
    const int e = result > 0 ? test::detail::injected(test::call::ring_completion) : 0;
    return e != 0 ? -e : result;
}

} // namespace mpg::io::sys::os
