// From a reader to a writer until the reader's end, without touching the bytes where the system can do that.
//
// Between two descriptors the bytes go by splice(2) through a pipe: they stay in the kernel.
// Whatever the system will not splice (terminals, files opened for appending, ...), and whatever is no
// descriptor at all, goes through a buffer.
#pragma once

#include <mpg/io/file.hpp>
#include <mpg/io/result.hpp>
#include <mpg/io/turn.hpp>
#include <mpg/sched/blocking.hpp>
#include <mpg/sched/cancel.hpp>

#include <concepts>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <fcntl.h>
#include <memory>
#include <span>
#include <sys/stat.h>
#include <vector>

namespace mpg::io {

/// What splice can be tried with: it lets copy see its descriptor.
template <class T>
concept spliceable = requires(T& t) {
    { descriptor_access::of(t) } -> std::same_as<descriptor*>;
};

namespace sys {

/// EPIPE without its signal; see write_to_pipe.
MPG_NOINLINE inline outcome splice(int from, int to, std::size_t n) noexcept {
    ::sigset_t broken, before, pending;
    ::sigemptyset(&broken);
    ::sigaddset(&broken, SIGPIPE);
    ::pthread_sigmask(SIG_BLOCK, &broken, &before);
    ::sigpending(&pending);
    outcome r;
    do {
        r = ::splice(from, nullptr, to, nullptr, n, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
        if (r < 0) r = -errno;
    } while (r == -EINTR);
    if (r == -EPIPE && !::sigismember(&pending, SIGPIPE)) {
        const ::timespec now{};
        while (::sigtimedwait(&broken, nullptr, &now) < 0 && errno == EINTR) {
        }
    }
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return r;
}
MPG_NOINLINE inline void widen_pipe(int fd, int bytes) noexcept { ::fcntl(fd, F_SETPIPE_SZ, bytes); }

} // namespace sys

/// One copy between descriptors, through a pipe that is emptied before it is filled again: thus it is always
/// clear which side is not ready. Holds the turn of both sides for its whole time.
class splicer {
  public:
    splicer(descriptor& to, descriptor& from, sched::cancel_source* cancel) noexcept
        : in_(from, direction::read, sched::wait_reason::io_read, cancel)
        , out_(to, direction::write, sched::wait_reason::io_write, cancel) {}
    splicer(const splicer&) = delete;
    splicer& operator=(const splicer&) = delete;
    ~splicer() {
        if (running_) {
            in_.target().end_nonblocking();
            out_.target().end_nonblocking();
        }
        for (int fd : pipe_)
            if (fd >= 0) sys::close(fd);
    }

    /// 0: the reader's end. Or an error. not_supported: the system does not splice these; rest gets what was
    /// read and not written.
    outcome run(std::uint64_t& total, std::vector<std::byte>& rest);
    static constexpr outcome not_supported = -EINVAL;

  private:
    static constexpr std::size_t chunk = 1 << 20;

    static ::mode_t type_of(int fd) noexcept {
        struct ::stat s {};
        return sys::stat(fd, &s) < 0 ? 0 : s.st_mode & S_IFMT;
    }
    static bool on_disk(::mode_t type) noexcept { return type == S_IFREG || type == S_IFBLK; }
    /// One splice between the pipe and t's descriptor, waiting for t as long as nothing can be moved.
    outcome move(turn& t, ::mode_t type, int from, int to, std::size_t n);

    turn in_, out_;
    int pipe_[2] = {-1, -1};
    bool running_ = false;
};

inline outcome splicer::move(turn& t, ::mode_t type, int from, int to, std::size_t n) {
    if (on_disk(type)) {
        sched::suspension_point();
        return blocking([&] { return sys::splice(from, to, n); });
    }
    for (;;) {
        t.worth_a_try();
        const outcome r = sys::splice(from, to, n);
        if (r != try_again) return r;
        t.used_up(true);
        const outcome w = t.wait(op_code::ready);
        if (w != try_again) return w;
    }
}

inline outcome splicer::run(std::uint64_t& total, std::vector<std::byte>& rest) {
    if (const outcome e = in_.begin(); e < 0) return e;
    if (const outcome e = out_.begin(); e < 0) return e;
    if (const outcome e = sys::pipe(pipe_); e < 0) return e;
    sys::widen_pipe(pipe_[1], chunk);
    const ::mode_t from = type_of(in_.fd()), to = type_of(out_.fd());
    // Sockets do not heed SPLICE_F_NONBLOCK.
    in_.target().begin_nonblocking();
    out_.target().begin_nonblocking();
    running_ = true;
    for (;;) {
        const outcome got = move(in_, from, in_.fd(), pipe_[1], chunk);
        if (got <= 0) return got;
        for (outcome left = got; left != 0;) {
            const outcome n = move(out_, to, pipe_[0], out_.fd(), static_cast<std::size_t>(left));
            if (n == not_supported) {
                rest.resize(static_cast<std::size_t>(left));
                for (std::size_t at = 0; at != rest.size();)
                    at += static_cast<std::size_t>(sys::read(pipe_[0], rest.data() + at, rest.size() - at));
            }
            if (n < 0) return n;
            left -= n;
            total += static_cast<std::uint64_t>(n);
        }
    }
}

/// Reads, with the context where there is one. One that cannot be told of it is at least not begun when it is
/// done.
template <class T> result<std::size_t> read_with(T& t, std::span<std::byte> to, const context* ctx) {
    if constexpr (requires { t.read(to, *ctx); }) {
        if (ctx) return t.read(to, *ctx);
    } else if (auto* source = ctx ? sched::source_of(*ctx) : nullptr; source && source->is_done()) {
        return mpg::unexpected(source->err());
    }
    return t.read(to);
}
/// The same for writing.
template <class T> result<std::size_t> write_with(T& t, std::span<const std::byte> from, const context* ctx) {
    if constexpr (requires { t.write(from, *ctx); }) {
        if (ctx) return t.write(from, *ctx);
    } else if (auto* source = ctx ? sched::source_of(*ctx) : nullptr; source && source->is_done()) {
        return mpg::unexpected(source->err());
    }
    return t.write(from);
}

template <class Writer, class Reader>
result<std::uint64_t> copy_all(Writer& dst, Reader& src, const context* ctx) {
    std::uint64_t total = 0;
    if constexpr (spliceable<Writer> && spliceable<Reader>) {
        descriptor *to = descriptor_access::of(dst), *from = descriptor_access::of(src);
        if (!to || !from) return mpg::unexpected(make_error_code(errc::closed));
        std::vector<std::byte> rest;
        outcome e;
        {
            splicer s(*to, *from, ctx ? sched::source_of(*ctx) : nullptr);
            e = s.run(total, rest);
        }
        if (e == 0) return total;
        if (e != splicer::not_supported) return mpg::unexpected(error_of(e));
        if (!rest.empty()) {
            if (auto n = write_with(dst, std::span<const std::byte>(rest), ctx); !n)
                return mpg::unexpected(n.error());
            total += rest.size();
        }
    }
    constexpr std::size_t size = 64 << 10;
    const auto buffer = std::make_unique_for_overwrite<std::byte[]>(size);
    for (;;) {
        const auto n = read_with(src, std::span<std::byte>(buffer.get(), size), ctx);
        if (!n) return mpg::unexpected(n.error());
        if (*n == 0) return total;
        if (auto w = write_with(dst, std::span<const std::byte>(buffer.get(), *n), ctx); !w)
            return mpg::unexpected(w.error());
        total += *n;
    }
}

} // namespace mpg::io

namespace mpg {

/// Copies from src until its end (a read of 0), and returns how many bytes; or the first error of a side,
/// with an unknown part copied. Reader: read(std::span<std::byte>) -> result<std::size_t>, 0 at the end.
/// Writer: write(std::span<const std::byte>) -> result<std::size_t>, all of it or an error. Between sockets,
/// pipes and files the bytes stay in the kernel. Suspends. After Go's io.Copy.
template <class Writer, class Reader> result<std::uint64_t> copy(Writer& dst, Reader& src) {
    return io::copy_all(dst, src, nullptr);
}
/// With a context, which is given to each read and write.
template <class Writer, class Reader>
result<std::uint64_t> copy(Writer& dst, Reader& src, const context& ctx) {
    return io::copy_all(dst, src, &ctx);
}

} // namespace mpg
