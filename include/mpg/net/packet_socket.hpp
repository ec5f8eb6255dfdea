// What UDP and Unix sockets that keep messages whole have in common.
#pragma once

#include <mpg/io/descriptor_owner.hpp>
#include <mpg/io/result.hpp>
#include <mpg/net/message.hpp>
#include <mpg/net/socket.hpp>
#include <mpg/sched/cancel.hpp>

#include <cstddef>
#include <span>
#include <system_error>
#include <utility>

namespace mpg::net {

/// Sends and receives messages, each whole. For contexts see stream_socket.
class packet_socket : public io::descriptor_owner {
  public:
    packet_socket() noexcept = default;

    /// One message to the peer of a connected socket. Suspends only while there is no room for it.
    result<std::size_t> send(std::span<const std::byte> data) { return put(data, nullptr, 0, nullptr); }
    result<std::size_t> send(std::span<const std::byte> data, const context& ctx) {
        return put(data, nullptr, 0, sched::source_of(ctx));
    }
    /// Waits for a message; what does not fit into the buffer is lost. A message may be empty: then 0.
    result<std::size_t> recv(std::span<std::byte> buffer) { return get(buffer, nullptr, nullptr); }
    result<std::size_t> recv(std::span<std::byte> buffer, const context& ctx) {
        return get(buffer, nullptr, sched::source_of(ctx));
    }

    /// Empty when closed, or without a name.
    endpoint local_endpoint() const noexcept { return fd_ ? detail::local_name(*fd_) : endpoint(); }
    /// Empty when closed or not connected.
    endpoint remote_endpoint() const noexcept { return fd_ ? detail::peer_name(*fd_) : endpoint(); }
  protected:
    explicit packet_socket(io::descriptor_ptr fd) noexcept
        : descriptor_owner(std::move(fd)) {}
    ~packet_socket() = default;
    packet_socket(packet_socket&&) noexcept = default;
    packet_socket& operator=(packet_socket&&) noexcept = default;

    /// to: null for the peer.
    result<std::size_t> put(std::span<const std::byte> data, const ::sockaddr* to, ::socklen_t to_size,
                            sched::cancel_source* cancel) {
        if (!fd_) return unexpected(make_error_code(errc::closed));
        io::turn t(*fd_, io::direction::write, sched::wait_reason::io_write, cancel);
        if (const io::outcome e = t.begin(); e < 0) return unexpected(io::error_of(e));
        ::iovec piece{const_cast<std::byte*>(data.data()), data.size()};
        ::msghdr m{};
        m.msg_iov = &piece;
        m.msg_iovlen = 1;
        m.msg_name = const_cast<::sockaddr*>(to);
        m.msg_namelen = to_size;
        const io::outcome n = detail::send_message(t, m);
        if (n < 0) return unexpected(io::error_of(n));
        return static_cast<std::size_t>(n);
    }
    result<std::size_t> get(std::span<std::byte> buffer, endpoint* from, sched::cancel_source* cancel) {
        if (!fd_) return unexpected(make_error_code(errc::closed));
        io::turn t(*fd_, io::direction::read, sched::wait_reason::io_read, cancel);
        if (const io::outcome e = t.begin(); e < 0) return unexpected(io::error_of(e));
        ::iovec piece{buffer.data(), buffer.size()};
        ::sockaddr_storage sender{};
        ::msghdr m{};
        m.msg_iov = &piece;
        m.msg_iovlen = 1;
        m.msg_name = &sender;
        m.msg_namelen = sizeof sender;
        const io::outcome n = detail::receive_message(t, m, 0);
        if (n < 0) return unexpected(io::error_of(n));
        if (from) *from = endpoint(reinterpret_cast<const ::sockaddr*>(&sender), m.msg_namelen);
        return static_cast<std::size_t>(n);
    }
};

} // namespace mpg::net
