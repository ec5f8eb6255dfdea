// Bytes to and from stream sockets.
//
// Sending is tried first: the socket's buffer mostly has room. But when other operations stand in the ring
// already, one more there costs half a microsecond less than a system call of its own. Receiving is tried
// only where something says that it will give data; in request and reply it mostly would not, and a ring does
// it together with the waiting.
#pragma once

#include <mpg/io/turn.hpp>

#include <algorithm>
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

/// All of the pieces.
inline outcome send_pieces(turn& t, std::span<const ::iovec> pieces) {
    constexpr std::size_t window = 64;
    ::iovec part[window];
    std::size_t done = 0, skip = 0; // skip: bytes of the first piece that are sent
    for (;;) {
        while (!pieces.empty() && pieces.front().iov_len == skip) {
            pieces = pieces.subspan(1);
            skip = 0;
        }
        if (pieces.empty()) return static_cast<outcome>(done);
        ::msghdr m{};
        m.msg_iov = part;
        std::size_t asked = 0;
        for (const ::iovec& piece : pieces.first(std::min(window, pieces.size()))) {
            const std::size_t from = m.msg_iovlen == 0 ? skip : 0, n = clamp(piece.iov_len - from);
            if (n > max_transfer - asked) break;
            part[m.msg_iovlen++] = {static_cast<char*>(piece.iov_base) + from, n};
            asked += n;
            if (n != piece.iov_len - from) break;
        }
        t.worth_a_try();
        outcome n = sys::sendmsg(t.fd(), &m, MSG_DONTWAIT);
        if (n == try_again) {
            t.used_up(true);
            n = t.wait(op_code::ready);
            if (n != try_again) return n;
            continue;
        }
        if (n < 0) return n;
        done += static_cast<std::size_t>(n);
        for (auto left = static_cast<std::size_t>(n); left != 0;) {
            const std::size_t here = std::min(left, pieces.front().iov_len - skip);
            left -= here;
            skip += here;
            if (skip == pieces.front().iov_len) {
                pieces = pieces.subspan(1);
                skip = 0;
            }
        }
    }
}

} // namespace mpg::io
