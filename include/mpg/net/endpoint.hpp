// The address of one end of a connection.
#pragma once

#include <mpg/io/result.hpp>

#include <arpa/inet.h>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <net/if.h>
#include <netinet/in.h>
#include <string>
#include <string_view>
#include <sys/socket.h>
#include <sys/un.h>

namespace mpg::net {

/// An IPv4 or IPv6 address with a port, or the path of a Unix socket; a value of 112 bytes. A
/// default-constructed one is empty. An IPv4 peer of a dual-stack socket is shown as IPv4. Nothing here
/// suspends.
class endpoint {
  public:
    endpoint() noexcept
        : length_(0) {
        std::memset(&address_, 0, sizeof address_);
    }
    /// From what the system gives: a copy of `length` bytes; IPv4-mapped IPv6 becomes IPv4.
    endpoint(const ::sockaddr* address, ::socklen_t length) noexcept;

    /// "127.0.0.1:80", "[::1]:80", "[fe80::1%eth0]:80": numbers only, no name is looked up, and an empty host
    /// is refused. Fails with an address_errc, which compares equal to std::errc::invalid_argument. (In
    /// address.hpp.)
    static result<endpoint> parse(std::string_view text);

    /// Of a Unix socket: a path, or "@name" for one in the abstract name space. std::errc::filename_too_long
    /// beyond 107 bytes, std::errc::invalid_argument for an empty path or one with a zero byte.
    static result<endpoint> from_path(std::string_view path);

    /// The form that parse takes; the path of a Unix socket ("@name" for an abstract one); "" when empty.
    std::string to_string() const;
    /// 0 for Unix sockets and for an empty endpoint.
    std::uint16_t port() const noexcept;
    /// The same address with another port; unchanged where there is no port.
    endpoint with_port(std::uint16_t port) const noexcept;
    /// As an IPv6 socket wants it. Precondition: family() is AF_INET.
    ::sockaddr_in6 mapped() const noexcept;
    /// AF_INET, AF_INET6, AF_UNIX or AF_UNSPEC.
    int family() const noexcept { return length_ == 0 ? AF_UNSPEC : address_.any.sa_family; }
    bool empty() const noexcept { return length_ == 0; }
    const ::sockaddr* data() const noexcept { return &address_.any; }
    ::socklen_t size() const noexcept { return length_; }

    friend bool operator==(const endpoint& a, const endpoint& b) noexcept { return (a <=> b) == 0; }
    /// By family, then address, then port.
    friend std::strong_ordering operator<=>(const endpoint& a, const endpoint& b) noexcept;
    std::size_t hash() const noexcept { return std::hash<std::string_view>{}(key().view()); }

  private:
    /// What tells two endpoints apart, in the order of comparison: padding and flow label left out.
    struct key_bytes {
        char bytes[2 + sizeof(::sockaddr_un::sun_path)];
        std::size_t size;
        std::string_view view() const noexcept { return {bytes, size}; }
    };
    key_bytes key() const noexcept;

    union storage {
        ::sockaddr any;
        ::sockaddr_in v4;
        ::sockaddr_in6 v6;
        ::sockaddr_un un;
    } address_;
    ::socklen_t length_;
};

inline endpoint::endpoint(const ::sockaddr* address, ::socklen_t length) noexcept
    : endpoint() {
    if (length > sizeof address_) length = sizeof address_;
    if (length < sizeof(::sa_family_t)) return;
    std::memcpy(&address_, address, length);
    switch (address_.any.sa_family) {
    case AF_UNSPEC:
        return;
    case AF_INET:
        length_ = sizeof address_.v4;
        break;
    case AF_INET6:
        length_ = sizeof address_.v6;
        break;
    case AF_UNIX:
        if (length <= offsetof(::sockaddr_un, sun_path)) return; // a socket without a name
        [[fallthrough]];
    default:
        length_ = length;
    }
    if (family() == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&address_.v6.sin6_addr)) {
        ::sockaddr_in plain{};
        plain.sin_family = AF_INET;
        plain.sin_port = address_.v6.sin6_port;
        std::memcpy(&plain.sin_addr, address_.v6.sin6_addr.s6_addr + 12, 4);
        std::memset(&address_, 0, sizeof address_);
        address_.v4 = plain;
        length_ = sizeof plain;
    }
}

inline result<endpoint> endpoint::from_path(std::string_view path) {
    ::sockaddr_un un{};
    un.sun_family = AF_UNIX;
    if (path.empty() || path == "@" || path.find('\0') != path.npos)
        return unexpected(std::make_error_code(std::errc::invalid_argument));
    if (path.size() >= sizeof un.sun_path)
        return unexpected(std::make_error_code(std::errc::filename_too_long));
    std::memcpy(un.sun_path, path.data(), path.size());
    std::size_t length = offsetof(::sockaddr_un, sun_path) + path.size();
    if (path.front() == '@')
        un.sun_path[0] = '\0';
    else
        ++length; // the terminator belongs to a path
    return endpoint(reinterpret_cast<const ::sockaddr*>(&un), static_cast<::socklen_t>(length));
}

inline std::uint16_t endpoint::port() const noexcept {
    if (family() == AF_INET) return ntohs(address_.v4.sin_port);
    if (family() == AF_INET6) return ntohs(address_.v6.sin6_port);
    return 0;
}

inline endpoint endpoint::with_port(std::uint16_t port) const noexcept {
    endpoint other = *this;
    if (family() == AF_INET) other.address_.v4.sin_port = htons(port);
    if (family() == AF_INET6) other.address_.v6.sin6_port = htons(port);
    return other;
}

inline ::sockaddr_in6 endpoint::mapped() const noexcept {
    ::sockaddr_in6 m{};
    m.sin6_family = AF_INET6;
    m.sin6_port = address_.v4.sin_port;
    m.sin6_addr.s6_addr[10] = m.sin6_addr.s6_addr[11] = 0xff;
    std::memcpy(m.sin6_addr.s6_addr + 12, &address_.v4.sin_addr, 4);
    return m;
}

inline std::string endpoint::to_string() const {
    char text[INET6_ADDRSTRLEN];
    switch (family()) {
    case AF_INET:
        ::inet_ntop(AF_INET, &address_.v4.sin_addr, text, sizeof text);
        return std::string(text) + ":" + std::to_string(port());
    case AF_INET6: {
        ::inet_ntop(AF_INET6, &address_.v6.sin6_addr, text, sizeof text);
        std::string zone;
        if (unsigned scope = address_.v6.sin6_scope_id) {
            char name[IF_NAMESIZE];
            zone = ::if_indextoname(scope, name) ? "%" + std::string(name) : "%" + std::to_string(scope);
        }
        return "[" + std::string(text) + zone + "]:" + std::to_string(port());
    }
    case AF_UNIX: {
        std::size_t room = length_ - offsetof(::sockaddr_un, sun_path);
        const char* path = address_.un.sun_path;
        if (length_ <= offsetof(::sockaddr_un, sun_path)) return "";
        if (path[0] == '\0') return "@" + std::string(path + 1, room - 1);
        return std::string(path, ::strnlen(path, room));
    }
    default:
        return "";
    }
}

inline endpoint::key_bytes endpoint::key() const noexcept {
    key_bytes k;
    auto append = [&k](const void* from, std::size_t n) {
        std::memcpy(k.bytes + k.size, from, n);
        k.size += n;
    };
    k.size = 0;
    const char tag = static_cast<char>(family());
    append(&tag, 1);
    switch (family()) {
    case AF_INET:
        append(&address_.v4.sin_addr, 4);
        append(&address_.v4.sin_port, 2);
        break;
    case AF_INET6: {
        append(&address_.v6.sin6_addr, 16);
        const std::uint32_t scope = htonl(address_.v6.sin6_scope_id);
        append(&scope, 4);
        append(&address_.v6.sin6_port, 2);
        break;
    }
    case AF_UNIX:
        if (length_ > offsetof(::sockaddr_un, sun_path)) {
            std::size_t room = length_ - offsetof(::sockaddr_un, sun_path);
            const bool abstract = address_.un.sun_path[0] == '\0';
            append(address_.un.sun_path, abstract ? room : ::strnlen(address_.un.sun_path, room));
        }
        break;
    default:
        break;
    }
    return k;
}

inline std::strong_ordering operator<=>(const endpoint& a, const endpoint& b) noexcept {
    const auto x = a.key(), y = b.key();
    return x.view() <=> y.view();
}

} // namespace mpg::net

template <> struct std::hash<mpg::net::endpoint> {
    std::size_t operator()(const mpg::net::endpoint& e) const noexcept { return e.hash(); }
};
