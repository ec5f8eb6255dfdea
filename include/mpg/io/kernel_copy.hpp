// Copying from descriptor to descriptor inside the kernel: copy_file_range, sendfile, splice.
#pragma once

#include <mpg/io/file.hpp>
#include <mpg/io/turn.hpp>
#include <mpg/io/unique_fd.hpp>
#include <mpg/sched/blocking.hpp>
#include <mpg/sched/cancel.hpp>

#include <cstddef>
#include <cstdint>
#include <fcntl.h>
#include <string_view>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

namespace mpg::io {

/// How bytes were moved.
enum class copy_method : std::uint8_t {
    none, // there were none
    splice,
    sendfile,
    copy_file_range,
    buffer, // read and written
};
constexpr std::string_view to_string(copy_method m) noexcept {
    constexpr std::string_view names[] = {"none", "splice", "sendfile", "copy_file_range", "buffer"};
    return names[static_cast<unsigned>(m)];
}

/// What copy did.
struct copy_info {
    copy_method method = copy_method::none; // the last one, where the system refused to go on with another
    std::uint64_t bytes = 0;                // written
};

namespace sys {

MPG_NOINLINE inline outcome splice(int from, int to, std::size_t n) noexcept {
    for (;;) {
        const ::ssize_t r = os::splice(from, nullptr, to, nullptr, n, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
        if (r >= 0) return r;
        if (errno != EINTR) return -errno;
    }
}
/// Where `to` may be broken: EPIPE without its signal.
MPG_NOINLINE inline outcome splice_to(int from, int to, std::size_t n) noexcept {
    return without_sigpipe(n, [=]() noexcept { return splice(from, to, n); });
}
MPG_NOINLINE inline outcome send_file(int from, int to, std::size_t n) noexcept {
    return without_sigpipe(n, [=]() noexcept -> outcome {
        for (;;) {
            const ::ssize_t r = os::sendfile(to, from, nullptr, n);
            if (r >= 0) return r;
            if (errno != EINTR) return -errno;
        }
    });
}
MPG_NOINLINE inline outcome copy_file_range(int from, int to, std::size_t n) noexcept {
    for (;;) {
        const ::ssize_t r = os::copy_file_range(from, nullptr, to, nullptr, n, 0);
        if (r >= 0) return r;
        if (errno != EINTR) return -errno;
    }
}
MPG_NOINLINE inline void widen_pipe(int fd, int bytes) noexcept { os::fcntl(fd, F_SETPIPE_SZ, bytes); }

} // namespace sys

/// One copy. Holds the turn of both sides for its whole time.
class kernel_copy {
  public:
    kernel_copy(descriptor& to, descriptor& from, sched::cancel_source* cancel) noexcept
        : in_(from, direction::read, sched::wait_reason::io_read, cancel)
        , out_(to, direction::write, sched::wait_reason::io_write, cancel) {}
    kernel_copy(const kernel_copy&) = delete;
    kernel_copy& operator=(const kernel_copy&) = delete;
    ~kernel_copy() {
        if (!began_) return;
        in_.target().end_nonblocking();
        out_.target().end_nonblocking();
    }

    /// 0: the reader's end. Or an error. not_supported: the system does not copy between these, or not further;
    /// rest gets what was read and not written.
    outcome run(copy_info& info, std::vector<std::byte>& rest);
    static constexpr outcome not_supported = -EINVAL;

  private:
    static constexpr std::size_t piece = 1 << 20;       // of a pipe
    static constexpr std::size_t file_piece = 16 << 20; // between looks for reasons to stop

    static ::mode_t type_of(int fd) noexcept {
        struct ::stat s {};
        return sys::stat(fd, &s) < 0 ? 0 : s.st_mode & S_IFMT;
    }
    static bool on_disk(::mode_t type) noexcept { return type == S_IFREG || type == S_IFBLK; }
    static bool refused(outcome e) noexcept {
        return e == -EINVAL || e == -EXDEV || e == -ENOSYS || e == -EOPNOTSUPP || e == -EBADF;
    }

    /// Both ends are on disks.
    outcome by_range(copy_info& info);
    /// From a disk to what can be waited for.
    outcome by_sendfile(copy_info& info);
    /// Through a pipe that is emptied before it is filled again: thus it is always clear which side is not
    /// ready.
    outcome by_splice(copy_info& info, std::vector<std::byte>& rest);
    /// One splice between the pipe and t's descriptor, waiting for t as long as nothing can be moved.
    template <class Splice> outcome move(turn& t, ::mode_t type, Splice splice);

    turn in_, out_;
    ::mode_t from_ = 0, to_ = 0;
    bool began_ = false;
};

inline outcome kernel_copy::run(copy_info& info, std::vector<std::byte>& rest) {
    if (const outcome e = in_.begin(); e < 0) return e;
    if (const outcome e = out_.begin(); e < 0) return e;
    from_ = type_of(in_.fd());
    to_ = type_of(out_.fd());
    // Sockets do not heed SPLICE_F_NONBLOCK, and sendfile has no flag.
    in_.target().begin_nonblocking();
    out_.target().begin_nonblocking();
    began_ = true;
    outcome e = not_supported;
    if (from_ == S_IFREG && to_ == S_IFREG) e = by_range(info);
    if (e == not_supported && on_disk(from_) && !on_disk(to_)) e = by_sendfile(info);
    return e == not_supported ? by_splice(info, rest) : e;
}

inline outcome kernel_copy::by_range(copy_info& info) {
    for (;;) {
        sched::suspension_point();
        if (const outcome e = in_.reason(); e < 0) return e;
        if (const outcome e = out_.reason(); e < 0) return e;
        const outcome n =
            blocking([this] { return sys::copy_file_range(in_.fd(), out_.fd(), file_piece); });
        // Some file systems (of /proc) say that nothing is there.
        if (refused(n) || (n == 0 && info.bytes == 0)) return not_supported;
        if (n <= 0) return n;
        info.method = copy_method::copy_file_range;
        info.bytes += static_cast<std::uint64_t>(n);
    }
}

inline outcome kernel_copy::by_sendfile(copy_info& info) {
    for (;;) {
        sched::suspension_point();
        if (const outcome e = in_.reason(); e < 0) return e;
        out_.worth_a_try();
        const outcome n = blocking([this] { return sys::send_file(in_.fd(), out_.fd(), file_piece); });
        if (n == try_again) {
            out_.used_up(true);
            if (const outcome w = out_.wait(op_code::ready); w != try_again) return w;
            continue;
        }
        if (refused(n)) return not_supported;
        if (n <= 0) return n;
        info.method = copy_method::sendfile;
        info.bytes += static_cast<std::uint64_t>(n);
        if (const outcome e = out_.reason(); e < 0) return e;
    }
}

template <class Splice> outcome kernel_copy::move(turn& t, ::mode_t type, Splice splice) {
    if (on_disk(type)) {
        sched::suspension_point();
        return blocking(splice);
    }
    for (;;) {
        t.worth_a_try();
        const outcome r = splice();
        if (r != try_again) return r;
        t.used_up(true);
        const outcome w = t.wait(op_code::ready);
        if (w != try_again) return w;
    }
}

inline outcome kernel_copy::by_splice(copy_info& info, std::vector<std::byte>& rest) {
    int ends[2];
    if (const outcome e = sys::pipe(ends); e < 0) return e;
    const unique_fd source(ends[0]), sink(ends[1]);
    sys::widen_pipe(sink.get(), piece);
    for (;;) {
        const outcome got = move(in_, from_, [&] { return sys::splice(in_.fd(), sink.get(), piece); });
        if (got <= 0) return got;
        for (outcome left = got; left != 0;) {
            const auto n = move(out_, to_, [&, size = static_cast<std::size_t>(left)] {
                return sys::splice_to(source.get(), out_.fd(), size);
            });
            if (n == not_supported) {
                rest.resize(static_cast<std::size_t>(left));
                for (std::size_t at = 0; at != rest.size();) {
                    const outcome r = sys::read(source.get(), rest.data() + at, rest.size() - at);
                    if (r <= 0) return r < 0 ? r : -EIO;
                    at += static_cast<std::size_t>(r);
                }
            }
            if (n < 0) return n;
            left -= n;
            info.method = copy_method::splice;
            info.bytes += static_cast<std::uint64_t>(n);
        }
        // What need not wait does not notice: a source and a sink that are always ready.
        if (const outcome e = in_.reason(); e < 0) return e;
        if (const outcome e = out_.reason(); e < 0) return e;
    }
}

} // namespace mpg::io
