// Bytes to and from stream sockets.
//
// Sending is tried first: the socket's buffer mostly has room. But when other operations stand in the ring
// already, one more there costs half a microsecond less than a system call of its own. Receiving is tried
// only where something says that it will give data; in request and reply it mostly would not, and a ring does
// it together with the waiting.
#pragma once

#include <mpg/io/pieces.hpp>
#include <mpg/io/turn.hpp>

#include <span>

namespace mpg::io {

/// At least one byte into `to`, or 0 at the end of the stream.
inline outcome receive(turn& t, void* to, std::size_t size) {
    if (size == 0) return 0;
    bool attempt = t.worth_a_try() || t.target().holds_more;
    for (;;) {
        if (attempt) {
            const outcome n = sys::recv(t.fd(), to, size, MSG_DONTWAIT);
            const bool filled = n == static_cast<outcome>(clamp(size));
            t.target().holds_more = filled;
            if (n == try_again || (!filled && !t.target().stops_at_borders)) t.used_up(n == try_again);
            if (n != try_again) return n;
        }
        const outcome n = t.wait(op_code::recv, to, size);
        if (n != try_again) {
            t.target().holds_more = t.more();
            return n;
        }
        t.worth_a_try();
        attempt = true;
    }
}

/// At least one byte of `from`. flags: MSG_WAITALL lets a driver that completes go on until the end or an
/// error.
inline outcome send_with(turn& t, const void* from, std::size_t size, int flags) {
    if (size == 0) return 0;
    for (;;) {
        outcome n;
        if (!t.joins_batch()) {
            t.worth_a_try();
            n = sys::send(t.fd(), from, size, MSG_DONTWAIT);
            if (n != try_again) return n;
            t.used_up(true);
        }
        n = t.wait(op_code::send, const_cast<void*>(from), size, static_cast<unsigned>(flags | MSG_NOSIGNAL));
        if (n != try_again) return n;
    }
}

/// At least one byte of `from`.
inline outcome send_some(turn& t, const void* from, std::size_t size) { return send_with(t, from, size, 0); }

/// All of `from`.
inline outcome send_all(turn& t, const void* from, std::size_t size) {
    const auto* at = static_cast<const char*>(from);
    for (std::size_t done = 0; done != size;) {
        const outcome n = send_with(t, at + done, size - done, MSG_WAITALL);
        if (n < 0) return n;
        done += static_cast<std::size_t>(n);
    }
    return static_cast<outcome>(size);
}

/// At least one byte into the pieces, in order, or 0 at the end of the stream. One call takes the first 64 that have room.
inline outcome receive_pieces(turn& t, std::span<const ::iovec> pieces) {
    pieces_left left(pieces);
    const std::span<::iovec> part = left.window();
    if (part.empty()) return 0;
    for (;;) {
        ::msghdr m{};
        m.msg_iov = part.data();
        m.msg_iovlen = part.size();
        t.worth_a_try();
        const outcome n = sys::recvmsg(t.fd(), &m, MSG_DONTWAIT);
        const bool filled = n == static_cast<outcome>(left.asked());
        t.target().holds_more = filled;
        if (n == try_again || (!filled && !t.target().stops_at_borders)) t.used_up(n == try_again);
        if (n != try_again) return n;
        if (const outcome e = t.wait(op_code::ready); e != try_again) return e;
    }
}

/// All of the pieces.
inline outcome send_pieces(turn& t, std::span<const ::iovec> pieces) {
    pieces_left left(pieces);
    for (;;) {
        const std::span<::iovec> part = left.window();
        if (part.empty()) return static_cast<outcome>(left.done());
        ::msghdr m{};
        m.msg_iov = part.data();
        m.msg_iovlen = part.size();
        t.worth_a_try();
        outcome n = sys::sendmsg(t.fd(), &m, MSG_DONTWAIT);
        if (n == try_again) {
            t.used_up(true);
            n = t.wait(op_code::ready);
            if (n != try_again) return n;
            continue;
        }
        if (n < 0) return n;
        left.advance(static_cast<std::size_t>(n));
    }
}

} // namespace mpg::io
