// What can be set on a TCP connection.
#pragma once

#include <mpg/io/descriptor.hpp>
#include <mpg/io/result.hpp>
#include <mpg/net/socket.hpp>

#include <algorithm>
#include <chrono>
#include <climits>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <optional>
#include <system_error>

namespace mpg::net {

/// Probes of a connection on which nothing comes: the first one after `idle`, further ones every `interval`;
/// `count` of them without an answer end it with ETIMEDOUT. The defaults are Go's. Seconds at least: the
/// system knows no less.
struct keepalive {
    std::chrono::seconds idle{15};
    std::chrono::seconds interval{15};
    int count = 9;
};

namespace detail {

/// 0 or -errno.
inline io::outcome set_keepalive(int fd, const std::optional<keepalive>& k) noexcept {
    io::outcome e = io::sys::set_option(fd, SOL_SOCKET, SO_KEEPALIVE, k.has_value());
    auto set = [&](int name, long long value) {
        if (e >= 0)
            e = io::sys::set_option(fd, IPPROTO_TCP, name, static_cast<int>(std::clamp(value, 1LL, 32767LL)));
    };
    if (!k) return e;
    set(TCP_KEEPIDLE, k->idle.count());
    set(TCP_KEEPINTVL, k->interval.count());
    if (e >= 0) e = io::sys::set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, std::clamp(k->count, 1, 127));
    return e;
}

} // namespace detail
} // namespace mpg::net
