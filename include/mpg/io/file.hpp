// Files and pipes.
//
// What cannot be waited for (files on disks, directories) is read and written by the ring itself where the
// poller is io_uring, and by a blocking system call that holds no processor elsewhere. What can (pipes,
// terminals) is handled as sockets are.
#pragma once

#include <mpg/io/descriptor_owner.hpp>
#include <mpg/io/pieces.hpp>
#include <mpg/io/result.hpp>
#include <mpg/io/turn.hpp>
#include <mpg/io/unique_fd.hpp>
#include <mpg/sched/blocking.hpp>

#include <cstddef>
#include <cstdint>
#include <fcntl.h>
#include <span>
#include <string>
#include <string_view>
#include <sys/stat.h>
#include <system_error>
#include <utility>

namespace mpg {

/// An open file or an end of a pipe. Operations may suspend, take an optional context as their last
/// argument, and fail with errc::closed, errc::cancelled, errc::deadline_exceeded. A transfer from or to a
/// disk that has begun is not broken off by those: it ends first.
class file : public io::descriptor_owner {
  public:
    file() noexcept = default;

    /// flags: O_RDONLY, O_WRONLY|O_CREAT|O_TRUNC, ... (O_CLOEXEC is added); mode: for a file that is made.
    static result<file> open(std::string_view path, int flags = O_RDONLY, ::mode_t mode = 0666);

    /// Of a descriptor that came from elsewhere, which is closed when this fails. Where one can wait for it
    /// (pipes, terminals, sockets) it is made non-blocking, also for others who share it.
    static result<file> adopt(io::unique_fd fd);

    /// Reads what is there at the file's position, at least one byte. 0: the end (or the buffer is empty).
    result<std::size_t> read(std::span<std::byte> to) { return read_some(to, nullptr); }
    result<std::size_t> read(std::span<std::byte> to, const context& ctx) {
        return read_some(to, sched::source_of(ctx));
    }
    /// Writes all of it at the file's position (or its end: O_APPEND), or fails.
    result<std::size_t> write(std::span<const std::byte> from) { return write_all(from, nullptr); }
    result<std::size_t> write(std::span<const std::byte> from, const context& ctx) {
        return write_all(from, sched::source_of(ctx));
    }
    /// Fills the buffer from there, or up to the end of the file. Does not move the position; any number at
    /// once.
    result<std::size_t> read_at(std::span<std::byte> to, std::uint64_t offset) {
        return fill(to, offset, nullptr);
    }
    result<std::size_t> read_at(std::span<std::byte> to, std::uint64_t offset, const context& ctx) {
        return fill(to, offset, sched::source_of(ctx));
    }
    /// Writes all of it there, or fails. Does not move the position; any number at once.
    result<std::size_t> write_at(std::span<const std::byte> from, std::uint64_t offset) {
        return put(from, offset, nullptr);
    }
    result<std::size_t> write_at(std::span<const std::byte> from, std::uint64_t offset, const context& ctx) {
        return put(from, offset, sched::source_of(ctx));
    }
    /// The same with several buffers, in order.
    result<std::size_t> readv(std::span<const ::iovec> to) { return read_pieces(to, nullptr); }
    result<std::size_t> readv(std::span<const ::iovec> to, const context& ctx) { return read_pieces(to, sched::source_of(ctx)); }
    result<std::size_t> writev(std::span<const ::iovec> from) { return all_pieces(true, from, own_position, nullptr); }
    result<std::size_t> writev(std::span<const ::iovec> from, const context& ctx) {
        return all_pieces(true, from, own_position, sched::source_of(ctx));
    }
    result<std::size_t> readv_at(std::span<const ::iovec> to, std::uint64_t offset) { return all_pieces(false, to, offset, nullptr); }
    result<std::size_t> readv_at(std::span<const ::iovec> to, std::uint64_t offset, const context& ctx) {
        return all_pieces(false, to, offset, sched::source_of(ctx));
    }
    result<std::size_t> writev_at(std::span<const ::iovec> from, std::uint64_t offset) {
        return all_pieces(true, from, offset, nullptr);
    }
    result<std::size_t> writev_at(std::span<const ::iovec> from, std::uint64_t offset, const context& ctx) {
        return all_pieces(true, from, offset, sched::source_of(ctx));
    }
    /// What was written is on the disk when this returns.
    std::error_code sync() { return flush(nullptr); }
    std::error_code sync(const context& ctx) { return flush(sched::source_of(ctx)); }
    /// In bytes. Does not wait.
    result<std::uint64_t> size() const;

  private:
    friend struct io::descriptor_access;
    friend result<std::pair<file, file>> pipe();
    file(io::descriptor_ptr fd, bool waitable) noexcept
        : descriptor_owner(std::move(fd))
        , waitable_(waitable) {}

    static constexpr std::uint64_t own_position = ~std::uint64_t{0};

    static result<std::size_t> sized(io::outcome n) {
        if (n < 0) return unexpected(io::error_of(n));
        return static_cast<std::size_t>(n);
    }
    io::outcome transfer(io::turn& t, io::op_code code, void* address, std::size_t n, std::uint64_t offset, std::size_t bytes);
    io::outcome transfer(io::turn& t, io::op_code code, void* address, std::size_t n, std::uint64_t offset) {
        return transfer(t, code, address, n, offset, io::clamp(n));
    }
    result<std::size_t> read_some(std::span<std::byte> to, sched::cancel_source* cancel);
    result<std::size_t> write_all(std::span<const std::byte> from, sched::cancel_source* cancel);
    result<std::size_t> fill(std::span<std::byte> to, std::uint64_t offset, sched::cancel_source* cancel);
    result<std::size_t> put(std::span<const std::byte> from, std::uint64_t offset,
                            sched::cancel_source* cancel);
    result<std::size_t> read_pieces(std::span<const ::iovec> to, sched::cancel_source* cancel);
    result<std::size_t> all_pieces(bool writes, std::span<const ::iovec> pieces, std::uint64_t offset, sched::cancel_source* cancel);
    std::error_code flush(sched::cancel_source* cancel);

    bool waitable_ = false; // it is non-blocking, and a driver can tell when it is ready
};

namespace io::sys {

MPG_NOINLINE inline outcome open(const char* path, int flags, ::mode_t mode) noexcept {
    for (;;) {
        const int r = os::open(path, flags | O_CLOEXEC | O_NOCTTY, mode);
        if (r >= 0) return r;
        if (errno != EINTR) return -errno;
    }
}
/// One of read, write, readv, writev and sync; offset ~0: at the file's own position.
MPG_NOINLINE inline outcome transfer(op_code code, int fd, void* address, std::size_t n,
                                     std::uint64_t offset) noexcept {
    const bool own = offset == ~std::uint64_t{0};
    const auto at = static_cast<::off_t>(offset);
    for (;;) {
        ::ssize_t r;
        if (code == op_code::sync)
            r = os::fsync(fd);
        else if (code == op_code::read)
            r = own ? os::read(fd, address, clamp(n)) : os::pread(fd, address, clamp(n), at);
        else if (code == op_code::readv)
            r = own ? os::readv(fd, static_cast<::iovec*>(address), static_cast<int>(n))
                    : os::preadv(fd, static_cast<::iovec*>(address), static_cast<int>(n), at);
        else if (code == op_code::writev)
            r = own ? os::writev(fd, static_cast<::iovec*>(address), static_cast<int>(n))
                    : os::pwritev(fd, static_cast<::iovec*>(address), static_cast<int>(n), at);
        else
            r = own ? os::write(fd, address, clamp(n)) : os::pwrite(fd, address, clamp(n), at);
        if (r >= 0) return r;
        if (errno != EINTR) return -errno;
    }
}
/// A write (or writev) to a pipe without readers fails with EPIPE and leaves no signal. bytes: of what is to be written.
MPG_NOINLINE inline outcome write_to_pipe(op_code code, int fd, void* from, std::size_t n, std::size_t bytes) noexcept {
    return without_sigpipe(bytes, [=]() noexcept { return transfer(code, fd, from, n, ~std::uint64_t{0}); });
}
MPG_NOINLINE inline outcome pipe(int ends[2]) noexcept {
    return os::pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0 ? 0 : -errno;
}
MPG_NOINLINE inline outcome stat(int fd, struct ::stat* to) noexcept {
    return ::fstat(fd, to) == 0 ? 0 : -errno;
}

} // namespace io::sys

inline result<file> file::open(std::string_view path, int flags, ::mode_t mode) {
    if (path.find('\0') != path.npos) return unexpected(std::make_error_code(std::errc::invalid_argument));
    const std::string name(path);
    const io::outcome n = blocking([&] { return io::sys::open(name.c_str(), flags, mode); });
    if (n < 0) return unexpected(io::error_of(n));
    return adopt(io::unique_fd(static_cast<int>(n)));
}

inline result<file> file::adopt(io::unique_fd fd) {
    struct ::stat s {};
    if (const io::outcome e = io::sys::stat(fd.get(), &s); e < 0) return unexpected(io::error_of(e));
    const bool waitable = S_ISFIFO(s.st_mode) || S_ISCHR(s.st_mode) || S_ISSOCK(s.st_mode);
    if (waitable) io::sys::set_nonblocking(fd.get(), true);
    return file(io::descriptor_ptr(fd.release()), waitable);
}

/// The reading end and the writing end of a new pipe. Does not wait.
inline result<std::pair<file, file>> pipe() {
    int ends[2];
    const io::outcome e = io::sys::pipe(ends);
    if (e < 0) return unexpected(io::error_of(e));
    io::descriptor_ptr reader(ends[0]), writer(ends[1]);
    return std::pair(file(std::move(reader), true), file(std::move(writer), true));
}

/// One transfer of at most n bytes, or of n pieces that have so many bytes together; waits for it.
inline io::outcome file::transfer(io::turn& t, io::op_code code, void* address, std::size_t n,
                                  std::uint64_t offset, std::size_t bytes) {
    if (waitable_) {
        for (;;) {
            t.worth_a_try();
            const bool writes = (code == io::op_code::write || code == io::op_code::writev) && offset == own_position;
            const io::outcome r = writes ? io::sys::write_to_pipe(code, t.fd(), address, n, bytes)
                                         : io::sys::transfer(code, t.fd(), address, n, offset);
            if (r != io::try_again) return r;
            t.used_up(true);
            const io::outcome w = t.wait(io::op_code::ready);
            if (w != io::try_again) return w;
        }
    }
    if (io::turn::completes()) return t.wait(code, address, n, 0, offset);
    sched::suspension_point();
    return blocking([&] { return io::sys::transfer(code, t.fd(), address, n, offset); });
}

inline result<std::size_t> file::read_some(std::span<std::byte> to, sched::cancel_source* cancel) {
    if (!fd_) return unexpected(make_error_code(errc::closed));
    io::turn t(*fd_, io::direction::read, sched::wait_reason::io_file, cancel);
    if (const io::outcome e = t.begin(); e < 0) return sized(e);
    if (to.empty()) return std::size_t{0};
    return sized(transfer(t, io::op_code::read, to.data(), to.size(), own_position));
}

inline result<std::size_t> file::write_all(std::span<const std::byte> from, sched::cancel_source* cancel) {
    if (!fd_) return unexpected(make_error_code(errc::closed));
    io::turn t(*fd_, io::direction::write, sched::wait_reason::io_file, cancel);
    if (const io::outcome e = t.begin(); e < 0) return sized(e);
    for (std::size_t done = 0; done != from.size();) {
        auto* at = const_cast<std::byte*>(from.data()) + done;
        const io::outcome n = transfer(t, io::op_code::write, at, from.size() - done, own_position);
        if (n < 0) return sized(n);
        done += static_cast<std::size_t>(n);
    }
    return from.size();
}

inline result<std::size_t> file::fill(std::span<std::byte> to, std::uint64_t offset,
                                      sched::cancel_source* cancel) {
    if (!fd_) return unexpected(make_error_code(errc::closed));
    io::turn t(*fd_, io::direction::read, sched::wait_reason::io_file, cancel);
    if (const io::outcome e = t.begin_shared(); e < 0) return sized(e);
    std::size_t done = 0;
    while (done != to.size()) {
        const io::outcome n =
            transfer(t, io::op_code::read, to.data() + done, to.size() - done, offset + done);
        if (n < 0) return sized(n);
        if (n == 0) break;
        done += static_cast<std::size_t>(n);
    }
    return done;
}

inline result<std::size_t> file::put(std::span<const std::byte> from, std::uint64_t offset,
                                     sched::cancel_source* cancel) {
    if (!fd_) return unexpected(make_error_code(errc::closed));
    io::turn t(*fd_, io::direction::write, sched::wait_reason::io_file, cancel);
    if (const io::outcome e = t.begin_shared(); e < 0) return sized(e);
    for (std::size_t done = 0; done != from.size();) {
        auto* at = const_cast<std::byte*>(from.data()) + done;
        const io::outcome n = transfer(t, io::op_code::write, at, from.size() - done, offset + done);
        if (n < 0) return sized(n);
        done += static_cast<std::size_t>(n);
    }
    return from.size();
}

inline result<std::size_t> file::read_pieces(std::span<const ::iovec> to, sched::cancel_source* cancel) {
    if (!fd_) return unexpected(make_error_code(errc::closed));
    io::turn t(*fd_, io::direction::read, sched::wait_reason::io_file, cancel);
    if (const io::outcome e = t.begin(); e < 0) return sized(e);
    io::pieces_left left(to);
    const std::span<::iovec> part = left.window();
    if (part.empty()) return std::size_t{0};
    return sized(transfer(t, io::op_code::readv, part.data(), part.size(), own_position, left.asked()));
}

/// All of them, of those that are read up to the end of the file.
inline result<std::size_t> file::all_pieces(bool writes, std::span<const ::iovec> pieces, std::uint64_t offset,
                                            sched::cancel_source* cancel) {
    if (!fd_) return unexpected(make_error_code(errc::closed));
    io::turn t(*fd_, writes ? io::direction::write : io::direction::read, sched::wait_reason::io_file, cancel);
    if (const io::outcome e = offset == own_position ? t.begin() : t.begin_shared(); e < 0) return sized(e);
    for (io::pieces_left left(pieces);;) {
        const std::span<::iovec> part = left.window();
        if (part.empty()) return left.done();
        const std::uint64_t at = offset == own_position ? offset : offset + left.done();
        const io::outcome n =
            transfer(t, writes ? io::op_code::writev : io::op_code::readv, part.data(), part.size(), at, left.asked());
        if (n < 0) return sized(n);
        if (n == 0) return left.done();
        left.advance(static_cast<std::size_t>(n));
    }
}

inline std::error_code file::flush(sched::cancel_source* cancel) {
    if (!fd_) return errc::closed;
    io::turn t(*fd_, io::direction::write, sched::wait_reason::io_file, cancel);
    io::outcome e = t.begin_shared();
    if (e >= 0) e = transfer(t, io::op_code::sync, nullptr, 0, 0);
    return e < 0 ? io::error_of(e) : std::error_code{};
}

inline result<std::uint64_t> file::size() const {
    if (!fd_) return unexpected(make_error_code(errc::closed));
    struct ::stat s {};
    const io::outcome e = fd_->use([&s](int fd) noexcept { return io::sys::stat(fd, &s); });
    if (e < 0) return unexpected(io::error_of(e));
    return static_cast<std::uint64_t>(s.st_size);
}

} // namespace mpg
