// Unix sockets that keep messages whole: datagrams, and connections of packets (SOCK_SEQPACKET).
#pragma once

#include <mpg/net/packet_socket.hpp>
#include <mpg/net/unix.hpp>

#include <cstddef>
#include <span>
#include <string_view>
#include <utility>

namespace mpg::net {

/// What both have beside send and recv: messages that carry descriptors.
class unix_packet_socket : public packet_socket {
  public:
    /// One message with descriptors (SCM_RIGHTS); they stay open here. std::errc::invalid_argument beyond
    /// most_fds; ETOOMANYREFS when this user has as many on the way as it may have open.
    result<std::size_t> send_message(std::span<const std::byte> data, std::span<const int> fds) {
        return send_both(data, fds, nullptr);
    }
    result<std::size_t> send_message(std::span<const std::byte> data, std::span<const int> fds,
                                     const context& ctx) {
        return send_both(data, fds, sched::source_of(ctx));
    }
    /// Waits for a message. (recv drops descriptors that come with one.)
    result<received_message> recv_message(std::span<std::byte> buffer) { return recv_both(buffer, nullptr); }
    result<received_message> recv_message(std::span<std::byte> buffer, const context& ctx) {
        return recv_both(buffer, sched::source_of(ctx));
    }

  protected:
    using packet_socket::packet_socket;

  private:
    result<std::size_t> send_both(std::span<const std::byte> data, std::span<const int> fds,
                                  sched::cancel_source* cancel) {
        if (!fd_) return unexpected(make_error_code(errc::closed));
        io::turn t(*fd_, io::direction::write, sched::wait_reason::io_write, cancel);
        if (const io::outcome e = t.begin(); e < 0) return unexpected(io::error_of(e));
        return detail::send_with_fds(t, data, fds);
    }
    result<received_message> recv_both(std::span<std::byte> buffer, sched::cancel_source* cancel) {
        if (!fd_) return unexpected(make_error_code(errc::closed));
        io::turn t(*fd_, io::direction::read, sched::wait_reason::io_read, cancel);
        if (const io::outcome e = t.begin(); e < 0) return unexpected(io::error_of(e));
        return detail::receive_with_fds(t, buffer);
    }
};

/// Unix datagrams: whole, in order and not lost; a sender waits while the receiver's queue is full.
class unix_datagram : public unix_packet_socket {
  public:
    unix_datagram() noexcept = default;
    unix_datagram(unix_datagram&&) noexcept = default;
    unix_datagram& operator=(unix_datagram&& other) noexcept {
        close();
        bound_ = std::exchange(other.bound_, endpoint());
        packet_socket::operator=(std::move(other));
        return *this;
    }
    ~unix_datagram() { close(); }

    /// Receives at a path, or "@name" in the abstract name space. A path must not exist; close() removes it.
    static result<unix_datagram> bind(std::string_view path);
    /// Sends to that path, with no name of its own. std::errc::connection_refused when nobody is bound to it.
    static result<unix_datagram> connect(std::string_view path);
    /// Two without names, connected to each other.
    static result<std::pair<unix_datagram, unix_datagram>> pair();
    /// A bound one sends to one peer from now on, and receives from it alone. Does not wait.
    std::error_code connect_to(std::string_view path) noexcept {
        const auto to = endpoint::from_path(path);
        if (!to) return to.error();
        return detail::with_number(
            fd_, [&to](int n) noexcept { return io::sys::connect(n, to->data(), to->size()); });
    }

    /// To whoever is bound there. While its queue is full this blocks a thread of the system, and notices
    /// contexts, deadlines and close a little later (20 ms): the system reports room to connected senders
    /// alone.
    result<std::size_t> send_to(std::span<const std::byte> data, const endpoint& to) {
        return send_unconnected(data, to, nullptr);
    }
    result<std::size_t> send_to(std::span<const std::byte> data, const endpoint& to, const context& ctx) {
        return send_unconnected(data, to, sched::source_of(ctx));
    }
    /// from: empty for a sender without a name.
    result<std::size_t> recv_from(std::span<std::byte> buffer, endpoint& from) {
        return get(buffer, &from, nullptr);
    }
    result<std::size_t> recv_from(std::span<std::byte> buffer, endpoint& from, const context& ctx) {
        return get(buffer, &from, sched::source_of(ctx));
    }

    void close() noexcept {
        if (fd_ && fd_->close()) detail::remove_path(bound_);
    }

  private:
    using unix_packet_socket::unix_packet_socket;
    static constexpr int look_up_every = 20; // ms
    result<std::size_t> send_unconnected(std::span<const std::byte> data, const endpoint& to,
                                         sched::cancel_source* cancel);

    endpoint bound_;
};

/// One end of a connection of packets.
class unix_seqpacket : public unix_packet_socket {
  public:
    unix_seqpacket() noexcept = default;
    static result<unix_seqpacket> connect(std::string_view path) { return connect_to(path, nullptr); }
    static result<unix_seqpacket> connect(std::string_view path, const context& ctx) {
        return connect_to(path, sched::source_of(ctx));
    }
    static result<std::pair<unix_seqpacket, unix_seqpacket>> pair();

    /// The peer's recv then gives 0, as for an empty packet; receiving here goes on. Does not wait.
    std::error_code shutdown_write() noexcept {
        return detail::with_number(fd_, [](int n) noexcept { return io::sys::shutdown(n, SHUT_WR); });
    }

  private:
    template <class, class, int> friend class detail::listener_for;
    using unix_packet_socket::unix_packet_socket;
    static result<unix_seqpacket> connect_to(std::string_view path, sched::cancel_source* cancel) {
        auto fd = detail::connected_to_path(path, SOCK_SEQPACKET, cancel);
        if (!fd) return unexpected(fd.error());
        return unix_seqpacket(std::move(*fd));
    }
};

/// Listens on a path.
class unix_seqpacket_listener
    : public detail::listener_for<unix_seqpacket_listener, unix_seqpacket, SOCK_SEQPACKET> {};

inline result<unix_datagram> unix_datagram::bind(std::string_view path) {
    const auto at = endpoint::from_path(path);
    if (!at) return unexpected(at.error());
    const io::outcome s = io::sys::socket(AF_UNIX, SOCK_DGRAM, 0);
    if (s < 0) return unexpected(io::error_of(s));
    const int fd = static_cast<int>(s);
    unix_datagram made{io::descriptor_ptr(fd)};
    io::outcome e = io::sys::bind(fd, at->data(), at->size());
    if (e >= 0) {
        made.bound_ = *at; // from here on the path is removed when it goes
        e = io::sys::set_send_timeout(fd, look_up_every);
    }
    if (e < 0) return unexpected(io::error_of(e));
    return made;
}

inline result<unix_datagram> unix_datagram::connect(std::string_view path) {
    const io::outcome s = io::sys::socket(AF_UNIX, SOCK_DGRAM, 0);
    if (s < 0) return unexpected(io::error_of(s));
    unix_datagram made{io::descriptor_ptr(static_cast<int>(s))};
    io::sys::set_send_timeout(static_cast<int>(s), look_up_every);
    if (const std::error_code e = made.connect_to(path)) return unexpected(e);
    return made;
}

inline result<std::pair<unix_datagram, unix_datagram>> unix_datagram::pair() {
    return detail::socket_pair<unix_datagram>(
        SOCK_DGRAM, [](io::descriptor_ptr fd) { return unix_datagram(std::move(fd)); });
}

inline result<std::pair<unix_seqpacket, unix_seqpacket>> unix_seqpacket::pair() {
    return detail::socket_pair<unix_seqpacket>(
        SOCK_SEQPACKET, [](io::descriptor_ptr fd) { return unix_seqpacket(std::move(fd)); });
}

inline result<std::size_t> unix_datagram::send_unconnected(std::span<const std::byte> data,
                                                           const endpoint& to, sched::cancel_source* cancel) {
    if (!fd_) return unexpected(make_error_code(errc::closed));
    io::turn t(*fd_, io::direction::write, sched::wait_reason::io_write, cancel);
    if (const io::outcome e = t.begin(); e < 0) return unexpected(io::error_of(e));
    ::iovec piece{const_cast<std::byte*>(data.data()), data.size()};
    ::msghdr m{};
    m.msg_iov = &piece;
    m.msg_iovlen = 1;
    m.msg_name = const_cast<::sockaddr*>(to.data());
    m.msg_namelen = to.size();
    io::outcome n = io::sys::sendmsg(t.fd(), &m, MSG_DONTWAIT);
    while (n == io::try_again) {
        sched::suspension_point();
        if (const io::outcome e = t.reason(); e < 0) return unexpected(io::error_of(e));
        n = blocking([&] { return io::sys::sendmsg(t.fd(), &m, 0); }); // up to the socket's send timeout
    }
    if (n < 0) return unexpected(io::error_of(n));
    return static_cast<std::size_t>(n);
}

} // namespace mpg::net
