// One message out of or into a socket: sendmsg and recvmsg, with waiting, and descriptors beside the bytes.
#pragma once

#include <mpg/io/result.hpp>
#include <mpg/io/turn.hpp>
#include <mpg/io/unique_fd.hpp>
#include <mpg/net/endpoint.hpp>

#include <array>
#include <cstddef>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include <sys/socket.h>

namespace mpg::net {

/// How many descriptors one message can carry; the kernel's limit (SCM_MAX_FD).
inline constexpr std::size_t most_fds = 253;

/// What one message has brought.
struct received_message {
    std::size_t size = 0;   // bytes in the buffer
    bool truncated = false; // the message was longer than the buffer: its rest is lost
    /// The sender's descriptors, new numbers here (close-on-exec), closed with this object.
    std::vector<io::unique_fd> fds;
    /// The sender gave more descriptors than could be made here: mostly this process had no number left. The
    /// kernel has dropped these.
    bool fds_lost = false;
};

namespace detail {

/// sendmsg until it does not say "try again". Suspends.
inline io::outcome send_message(io::turn& t, const ::msghdr& m) {
    for (;;) {
        t.worth_a_try();
        const io::outcome n = io::sys::sendmsg(t.fd(), &m, MSG_DONTWAIT);
        if (n != io::try_again) return n;
        t.used_up(true);
        if (const io::outcome e = t.wait(io::op_code::ready); e != io::try_again) return e;
    }
}

/// recvmsg until it does not say "try again". Suspends. m is as given at each try.
inline io::outcome receive_message(io::turn& t, ::msghdr& m, int flags) {
    for (const ::msghdr fresh = m;; m = fresh) {
        t.worth_a_try();
        const io::outcome n = io::sys::recvmsg(t.fd(), &m, flags | MSG_DONTWAIT);
        if (n != io::try_again) return n;
        t.used_up(true);
        if (const io::outcome e = t.wait(io::op_code::ready); e != io::try_again) return e;
    }
}

/// Room for the descriptors of one message.
struct fd_control {
    /// A little more room than CMSG_LEN says would let the kernel put one descriptor more into the padding.
    static constexpr std::size_t room = CMSG_LEN(most_fds * sizeof(int));
    alignas(::cmsghdr) std::array<std::byte, CMSG_SPACE(most_fds * sizeof(int))> bytes;

    /// Makes m carry them. Precondition: at most most_fds.
    void put(::msghdr& m, std::span<const int> fds) noexcept {
        if (fds.empty()) return;
        m.msg_control = bytes.data();
        m.msg_controllen = CMSG_SPACE(fds.size_bytes());
        std::memset(bytes.data(), 0, m.msg_controllen);
        ::cmsghdr* c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(fds.size_bytes());
        std::memcpy(CMSG_DATA(c), fds.data(), fds.size_bytes());
    }
    void expect(::msghdr& m) noexcept {
        m.msg_control = bytes.data();
        m.msg_controllen = room;
    }
    /// Takes what has come. When memory runs out none is left open.
    static std::vector<io::unique_fd> take(::msghdr& m) {
        std::array<io::unique_fd, most_fds> held;
        std::size_t n = 0;
        for (::cmsghdr* c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
            if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
            const std::size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
            for (std::size_t i = 0; i != count && n != held.size(); ++i) {
                int fd;
                std::memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
                held[n++].reset(fd);
            }
        }
        std::vector<io::unique_fd> all;
        all.reserve(n);
        for (std::size_t i = 0; i != n; ++i) all.push_back(std::move(held[i]));
        return all;
    }
};

/// For sockets of the Unix family: bytes and descriptors.
inline result<std::size_t> send_with_fds(io::turn& t, std::span<const std::byte> data,
                                         std::span<const int> fds) {
    if (fds.size() > most_fds) return unexpected(std::make_error_code(std::errc::invalid_argument));
    fd_control control;
    ::iovec piece{const_cast<std::byte*>(data.data()), data.size()};
    ::msghdr m{};
    m.msg_iov = &piece;
    m.msg_iovlen = 1;
    control.put(m, fds);
    const io::outcome n = send_message(t, m);
    if (n < 0) return unexpected(io::error_of(n));
    return static_cast<std::size_t>(n);
}

inline result<received_message> receive_with_fds(io::turn& t, std::span<std::byte> buffer,
                                                 endpoint* from = nullptr) {
    fd_control control;
    ::iovec piece{buffer.data(), buffer.size()};
    ::sockaddr_un sender{};
    ::msghdr m{};
    m.msg_iov = &piece;
    m.msg_iovlen = 1;
    if (from) {
        m.msg_name = &sender;
        m.msg_namelen = sizeof sender;
    }
    control.expect(m);
    const io::outcome n = receive_message(t, m, MSG_CMSG_CLOEXEC);
    if (n < 0) return unexpected(io::error_of(n));
    received_message got;
    got.fds = fd_control::take(m); // first: they are ours whatever comes
    got.size = static_cast<std::size_t>(n);
    got.truncated = m.msg_flags & MSG_TRUNC;
    got.fds_lost = m.msg_flags & MSG_CTRUNC;
    if (from) *from = endpoint(reinterpret_cast<const ::sockaddr*>(&sender), m.msg_namelen);
    return got;
}

} // namespace detail
} // namespace mpg::net
