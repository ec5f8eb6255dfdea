// Unix stream sockets.
#pragma once

#include <mpg/net/endpoint.hpp>
#include <mpg/net/socket.hpp>
#include <mpg/net/stream_socket.hpp>
#include <mpg/sched/blocking.hpp>

#include <climits>
#include <optional>
#include <string>
#include <string_view>
#include <unistd.h>

namespace mpg::net {

/// See stream_socket for reading, writing, deadlines and closing.
class unix_stream : public stream_socket {
  public:
    unix_stream() noexcept = default;

    /// A path, or "@name" for one in the abstract name space.
    static result<unix_stream> connect(std::string_view path) { return connect_to(path, nullptr); }
    static result<unix_stream> connect(std::string_view path, const context& ctx) {
        return connect_to(path, sched::source_of(ctx));
    }

    /// Empty when closed, and for a side that was not bound to a path (mostly the client).
    endpoint local_endpoint() const noexcept { return fd_ ? detail::local_name(*fd_) : endpoint(); }
    endpoint remote_endpoint() const noexcept { return fd_ ? detail::peer_name(*fd_) : endpoint(); }

  private:
    friend class unix_listener;
    using stream_socket::stream_socket;
    static result<unix_stream> connect_to(std::string_view path, sched::cancel_source* cancel);
};

/// Listens on a path; see tcp_listener.
class unix_listener {
  public:
    unix_listener() noexcept = default;
    unix_listener(unix_listener&&) noexcept = default;
    unix_listener& operator=(unix_listener&& other) noexcept {
        close();
        fd_ = std::move(other.fd_);
        local_ = other.local_;
        return *this;
    }
    ~unix_listener() { close(); }

    /// A path, or "@name" for one in the abstract name space. A path must not exist; close() removes it, as
    /// in Go.
    static result<unix_listener> bind(std::string_view path, int backlog = 0);

    result<unix_stream> accept() { return accept_one(nullptr); }
    result<unix_stream> accept(const context& ctx) { return accept_one(sched::source_of(ctx)); }

    endpoint local_endpoint() const noexcept { return local_; }
    /// Pending and later accepts fail with errc::closed, and the path is removed. Does not wait. May be
    /// called again.
    void close() noexcept {
        if (fd_ && fd_->close() && local_.to_string().front() != '@') ::unlink(local_.to_string().c_str());
    }
    bool is_open() const noexcept { return fd_ && fd_->is_open(); }
    /// -1 when closed.
    int native_handle() const noexcept { return fd_ ? fd_->number() : -1; }
    std::error_code set_deadline(std::optional<time_point> when) noexcept { return set_read_deadline(when); }
    std::error_code set_read_deadline(std::optional<time_point> when) noexcept {
        return fd_ ? fd_->set_deadline(io::direction::read, when) : make_error_code(errc::closed);
    }
    std::error_code set_write_deadline(std::optional<time_point> when) noexcept {
        return fd_ ? fd_->set_deadline(io::direction::write, when) : make_error_code(errc::closed);
    }

  private:
    unix_listener(io::descriptor_ptr fd, const endpoint& local) noexcept
        : fd_(std::move(fd))
        , local_(local) {}
    result<unix_stream> accept_one(sched::cancel_source* cancel) {
        if (!fd_) return unexpected(make_error_code(errc::closed));
        ::sockaddr_un from{};
        ::socklen_t size = sizeof from;
        const io::outcome n = detail::accepted(*fd_, reinterpret_cast<::sockaddr*>(&from), &size, cancel);
        if (n < 0) return unexpected(io::error_of(n));
        return unix_stream(io::descriptor_ptr(static_cast<int>(n)));
    }

    io::descriptor_ptr fd_;
    endpoint local_;
};

inline result<unix_listener> unix_listener::bind(std::string_view path, int backlog) {
    const auto at = endpoint::from_path(path);
    if (!at) return unexpected(at.error());
    const io::outcome s = io::sys::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (s < 0) return unexpected(io::error_of(s));
    const int fd = static_cast<int>(s);
    io::descriptor_ptr owner(fd);
    io::outcome e = io::sys::bind(fd, at->data(), at->size());
    if (e < 0) return unexpected(io::error_of(e));
    unix_listener made(std::move(owner), *at); // from here on the path is removed when it goes
    e = io::sys::listen(fd, backlog > 0 ? backlog : INT_MAX);
    if (e < 0) return unexpected(io::error_of(e));
    return made;
}

inline result<unix_stream> unix_stream::connect_to(std::string_view path, sched::cancel_source* cancel) {
    const auto to = endpoint::from_path(path);
    if (!to) return unexpected(to.error());
    // When the listener's backlog is full, nothing but a connect() that blocks can wait for a place. Let it
    // look up from time to time, to see whether the caller is still interested.
    const io::outcome s = io::sys::socket(AF_UNIX, SOCK_STREAM, 0);
    if (s < 0) return unexpected(io::error_of(s));
    const int fd = static_cast<int>(s);
    io::descriptor_ptr owner(fd);
    io::outcome e = io::sys::set_nonblocking(fd, true);
    if (e >= 0) e = io::sys::connect(fd, to->data(), to->size());
    if (e == -EAGAIN) {
        e = io::sys::set_nonblocking(fd, false);
        if (e >= 0) e = io::sys::set_send_timeout(fd, 20);
        for (e = e < 0 ? e : -EAGAIN; e == -EAGAIN || e == -EINTR;) {
            sched::suspension_point();
            if (cancel && cancel->is_done()) return unexpected(cancel->err());
            e = blocking([&] { return io::sys::connect(fd, to->data(), to->size()); });
        }
        if (e >= 0) e = io::sys::set_send_timeout(fd, 0);
    } else if (e >= 0) {
        e = io::sys::set_nonblocking(fd, false);
    }
    if (e < 0) return unexpected(io::error_of(e));
    return unix_stream(std::move(owner));
}

} // namespace mpg::net
