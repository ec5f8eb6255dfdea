// Unix stream sockets.
#pragma once

#include <mpg/io/unique_fd.hpp>
#include <mpg/net/endpoint.hpp>
#include <mpg/net/message.hpp>
#include <mpg/net/socket.hpp>
#include <mpg/net/stream_socket.hpp>
#include <mpg/sched/blocking.hpp>

#include <climits>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unistd.h>
#include <utility>

namespace mpg::net {
namespace detail {

/// A connected socket of that type. Suspends.
result<io::descriptor_ptr> connected_to_path(std::string_view path, int type, sched::cancel_source* cancel);

/// Nothing for an abstract name, and for none.
inline void remove_path(const endpoint& at) noexcept {
    if (at.empty()) return;
    const std::string path = at.to_string();
    if (path.front() != '@') ::unlink(path.c_str());
}

/// Listens on a path; see tcp_listener.
class path_listener : public io::descriptor_owner {
  public:
    /// As it was bound, also after close().
    endpoint local_endpoint() const noexcept { return local_; }
    /// Pending and later accepts fail with errc::closed, and the path is removed. Does not wait. May be
    /// called again.
    void close() noexcept {
        if (fd_ && fd_->close()) remove_path(local_);
    }

  protected:
    path_listener() noexcept = default;
    path_listener(path_listener&&) noexcept = default;
    path_listener& operator=(path_listener&& other) noexcept {
        close();
        fd_ = std::move(other.fd_);
        local_ = other.local_;
        return *this;
    }
    ~path_listener() { close(); }

    /// 0 or an error.
    io::outcome listen_at(std::string_view path, int type, int backlog);
    /// A number, or an error. Suspends.
    io::outcome accepted(sched::cancel_source* cancel) {
        if (!fd_) return io::outcome_of(errc::closed);
        ::sockaddr_un from{};
        ::socklen_t size = sizeof from;
        return detail::accepted(*fd_, reinterpret_cast<::sockaddr*>(&from), &size, cancel);
    }

  private:
    endpoint local_;
};

/// What Self, a listener for sockets of that type, has.
template <class Self, class Socket, int Type> class listener_for : public path_listener {
  public:
    /// A path, or "@name" for one in the abstract name space. A path must not exist; close() removes it, as
    /// in Go.
    static result<Self> bind(std::string_view path, int backlog = 0) {
        Self made;
        if (const io::outcome e = made.listen_at(path, Type, backlog); e < 0)
            return unexpected(io::error_of(e));
        return made;
    }
    result<Socket> accept() { return accept_one(nullptr); }
    result<Socket> accept(const context& ctx) { return accept_one(sched::source_of(ctx)); }

  private:
    result<Socket> accept_one(sched::cancel_source* cancel) {
        const io::outcome n = accepted(cancel);
        if (n < 0) return unexpected(io::error_of(n));
        return Socket(io::descriptor_ptr(static_cast<int>(n)));
    }
};

} // namespace detail

/// See stream_socket for reading, writing, deadlines and closing.
class unix_stream : public stream_socket {
  public:
    unix_stream() noexcept = default;

    /// A path, or "@name" for one in the abstract name space.
    static result<unix_stream> connect(std::string_view path) { return connect_to(path, nullptr); }
    static result<unix_stream> connect(std::string_view path, const context& ctx) {
        return connect_to(path, sched::source_of(ctx));
    }

    /// Of a connected stream socket that came from elsewhere; closed when it is none.
    static result<unix_stream> adopt(io::unique_fd fd) {
        auto d = detail::adopted(std::move(fd), SOCK_STREAM, false, {AF_UNIX});
        if (!d) return unexpected(d.error());
        return unix_stream(std::move(*d));
    }
    static result<std::pair<unix_stream, unix_stream>> pair();

    /// Writes all of `data`, and descriptors (SCM_RIGHTS) that arrive with its first byte; they stay open
    /// here. Fails for empty data with descriptors, which a stream cannot carry, and beyond most_fds.
    result<std::size_t> send_message(std::span<const std::byte> data, std::span<const int> fds) {
        return send_both(data, fds, nullptr);
    }
    result<std::size_t> send_message(std::span<const std::byte> data, std::span<const int> fds,
                                     const context& ctx) {
        return send_both(data, fds, sched::source_of(ctx));
    }
    /// As read, and takes the descriptors that come with these bytes (read drops them). One call never
    /// crosses from one sender's descriptors to the next ones'.
    result<received_message> recv_message(std::span<std::byte> buffer) { return recv_both(buffer, nullptr); }
    result<received_message> recv_message(std::span<std::byte> buffer, const context& ctx) {
        return recv_both(buffer, sched::source_of(ctx));
    }

    /// Empty when closed, and for a side that was not bound to a path (mostly the client).
    endpoint local_endpoint() const noexcept { return fd_ ? detail::local_name(*fd_) : endpoint(); }
    endpoint remote_endpoint() const noexcept { return fd_ ? detail::peer_name(*fd_) : endpoint(); }

  private:
    template <class, class, int> friend class detail::listener_for;
    explicit unix_stream(io::descriptor_ptr fd) noexcept
        : stream_socket(std::move(fd)) {
        fd_->stops_at_borders = true;
    }
    static result<unix_stream> connect_to(std::string_view path, sched::cancel_source* cancel) {
        auto fd = detail::connected_to_path(path, SOCK_STREAM, cancel);
        if (!fd) return unexpected(fd.error());
        return unix_stream(std::move(*fd));
    }
    result<std::size_t> send_both(std::span<const std::byte> data, std::span<const int> fds,
                                  sched::cancel_source* cancel);
    result<received_message> recv_both(std::span<std::byte> buffer, sched::cancel_source* cancel);
};

/// Listens on a path.
class unix_listener : public detail::listener_for<unix_listener, unix_stream, SOCK_STREAM> {};

namespace detail {

/// Two connected sockets.
template <class S, class Make> result<std::pair<S, S>> socket_pair(int type, Make make) {
    int ends[2];
    const io::outcome e = io::sys::socket_pair(AF_UNIX, type, ends);
    if (e < 0) return unexpected(io::error_of(e));
    io::unique_fd second(ends[1]); // should there be no memory for the first
    S a = make(io::descriptor_ptr(ends[0]));
    return std::pair<S, S>(std::move(a), make(io::descriptor_ptr(second.release())));
}

} // namespace detail

inline result<std::pair<unix_stream, unix_stream>> unix_stream::pair() {
    return detail::socket_pair<unix_stream>(SOCK_STREAM,
                                            [](io::descriptor_ptr fd) { return unix_stream(std::move(fd)); });
}

inline io::outcome detail::path_listener::listen_at(std::string_view path, int type, int backlog) {
    const auto at = endpoint::from_path(path);
    if (!at) return io::outcome_of(at.error());
    const io::outcome s = io::sys::socket(AF_UNIX, type | SOCK_NONBLOCK, 0);
    if (s < 0) return s;
    const int fd = static_cast<int>(s);
    io::descriptor_ptr owner(fd);
    if (const io::outcome e = io::sys::bind(fd, at->data(), at->size()); e < 0) return e;
    fd_ = std::move(owner); // from here on the path is removed when it goes
    local_ = *at;
    return io::sys::listen(fd, backlog > 0 ? backlog : INT_MAX);
}

inline result<io::descriptor_ptr> detail::connected_to_path(std::string_view path, int type,
                                                            sched::cancel_source* cancel) {
    const auto to = endpoint::from_path(path);
    if (!to) return unexpected(to.error());
    // When the listener's backlog is full, nothing but a connect() that blocks can wait for a place. Let it
    // look up from time to time, to see whether the caller is still interested.
    const io::outcome s = io::sys::socket(AF_UNIX, type, 0);
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
    return owner;
}

inline result<std::size_t> unix_stream::send_both(std::span<const std::byte> data, std::span<const int> fds,
                                                  sched::cancel_source* cancel) {
    if (!fd_) return unexpected(make_error_code(errc::closed));
    if (data.empty() && !fds.empty()) return unexpected(std::make_error_code(std::errc::invalid_argument));
    io::turn t(*fd_, io::direction::write, sched::wait_reason::io_write, cancel);
    if (const io::outcome e = t.begin(); e < 0) return unexpected(io::error_of(e));
    if (data.empty()) return std::size_t{0};
    const auto first = detail::send_with_fds(t, data.first(io::clamp(data.size())), fds);
    if (!first) return first;
    const auto rest = data.subspan(*first);
    if (const io::outcome n = io::send_all(t, rest.data(), rest.size()); n < 0)
        return unexpected(io::error_of(n));
    return data.size();
}

inline result<received_message> unix_stream::recv_both(std::span<std::byte> buffer,
                                                       sched::cancel_source* cancel) {
    if (!fd_) return unexpected(make_error_code(errc::closed));
    io::turn t(*fd_, io::direction::read, sched::wait_reason::io_read, cancel);
    if (const io::outcome e = t.begin(); e < 0) return unexpected(io::error_of(e));
    return detail::receive_with_fds(t, buffer.first(io::clamp(buffer.size())));
}

} // namespace mpg::net
