// "host:port" as text: taken apart, and turned into endpoints.
#pragma once

#include <mpg/net/endpoint.hpp>

#include <charconv>
#include <string>
#include <string_view>

namespace mpg::net {

/// What can be wrong with the text of an address. Compares equal to std::errc::invalid_argument.
enum class address_errc { missing_port = 1, bad_port, bad_brackets, bad_host };

inline const std::error_category& address_category() noexcept {
    struct category final : std::error_category {
        const char* name() const noexcept override { return "mpg.address"; }
        std::string message(int value) const override {
            switch (static_cast<address_errc>(value)) {
            case address_errc::missing_port:
                return "missing port in address";
            case address_errc::bad_port:
                return "the port is no number from 0 to 65535";
            case address_errc::bad_brackets:
                return "an IPv6 address needs brackets around it, and nothing else does";
            case address_errc::bad_host:
                return "the host is no address";
            }
            return "bad address";
        }
        std::error_condition default_error_condition(int) const noexcept override {
            return std::errc::invalid_argument;
        }
    };
    static const category instance;
    return instance;
}
inline std::error_code make_error_code(address_errc e) noexcept {
    return {static_cast<int>(e), address_category()};
}

/// The two parts of "host:port", "[v6]:port" or ":port"; brackets removed. Views of the text.
struct host_port {
    std::string_view host; // may be empty
    std::uint16_t port = 0;
};

namespace detail {

/// Digits alone, at most 65535. Names of services are not looked up.
inline bool parse_port(std::string_view text, std::uint16_t& port) noexcept {
    if (text.empty() || text.size() > 5) return false;
    unsigned value = 0;
    const auto [end, e] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (e != std::errc{} || end != text.data() + text.size() || value > 65535) return false;
    port = static_cast<std::uint16_t>(value);
    return true;
}

/// A number, not a name. False: it is none.
inline bool parse_host(std::string_view host, std::uint16_t port, endpoint& to) noexcept {
    char text[INET6_ADDRSTRLEN + IF_NAMESIZE + 1];
    if (host.empty() || host.size() >= sizeof text || host.find('\0') != host.npos) return false;
    std::memcpy(text, host.data(), host.size());
    text[host.size()] = '\0';
    ::sockaddr_in v4{};
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
    if (::inet_pton(AF_INET, text, &v4.sin_addr) == 1) {
        to = endpoint(reinterpret_cast<const ::sockaddr*>(&v4), sizeof v4);
        return true;
    }
    ::sockaddr_in6 v6{};
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port);
    if (char* zone = std::strchr(text, '%')) {
        *zone++ = '\0';
        const auto length = static_cast<std::size_t>(text + host.size() - zone);
        const auto [end, e] = std::from_chars(zone, zone + length, v6.sin6_scope_id);
        if (e != std::errc{} || end != zone + length) v6.sin6_scope_id = ::if_nametoindex(zone);
        if (v6.sin6_scope_id == 0) return false;
    }
    if (::inet_pton(AF_INET6, text, &v6.sin6_addr) != 1) return false;
    to = endpoint(reinterpret_cast<const ::sockaddr*>(&v6), sizeof v6);
    return true;
}

} // namespace detail

/// Fails with an address_errc.
inline result<host_port> split_host_port(std::string_view text) {
    host_port parts;
    const std::size_t colon = text.rfind(':');
    if (colon == text.npos || text.ends_with(']'))
        return unexpected(make_error_code(address_errc::missing_port));
    if (!detail::parse_port(text.substr(colon + 1), parts.port))
        return unexpected(make_error_code(address_errc::bad_port));
    std::string_view host = text.substr(0, colon);
    if (host.starts_with('[') && host.ends_with(']')) {
        host = host.substr(1, host.size() - 2);
        if (host.find(':') == host.npos || host.find_first_of("[]") != host.npos)
            return unexpected(make_error_code(address_errc::bad_brackets));
    } else if (host.find_first_of(":[]") != host.npos) {
        return unexpected(make_error_code(address_errc::bad_brackets));
    }
    if (host.find('\0') != host.npos) return unexpected(make_error_code(address_errc::bad_host));
    parts.host = host;
    return parts;
}

inline result<endpoint> endpoint::parse(std::string_view text) {
    const auto parts = split_host_port(text);
    if (!parts) return unexpected(parts.error());
    endpoint e;
    if (!detail::parse_host(parts->host, parts->port, e))
        return unexpected(make_error_code(address_errc::bad_host));
    return e;
}

} // namespace mpg::net

template <> struct std::is_error_code_enum<mpg::net::address_errc> : std::true_type {};
