// Which requests of the client go through a proxy.
#pragma once

#include <mpg/http/client_url.hpp>
#include <mpg/http/field.hpp>
#include <mpg/http/url.hpp>
#include <mpg/net/address.hpp>

#include <charconv>
#include <cstddef>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mpg::http::detail {

/// Base64 with padding (RFC 4648), for Basic credentials.
inline std::string base64(std::string_view bytes) {
    constexpr char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string text;
    for (std::size_t i = 0; i < bytes.size(); i += 3) {
        unsigned word = 0;
        for (std::size_t k = 0; k < 3; ++k)
            word = word << 8 | (i + k < bytes.size() ? static_cast<unsigned char>(bytes[i + k]) : 0u);
        for (std::size_t k = 0; k < 4; ++k)
            text += i + k > bytes.size() ? '=' : digits[word >> (18 - 6 * k) & 63];
    }
    return text;
}

/// The proxy for URLs of one scheme, and who is reached without it: the meaning that curl and Go give to
/// http_proxy and no_proxy.
struct client_proxy {
    std::string address;       // "host:port"; empty: there is none
    std::string authorization; // of the Proxy-Authorization field; may be empty
    bool local_too = false;    // also for this machine's own names and addresses
    bool unusable = false;     // one was named, but not of a kind that we have: who goes through it gets nowhere

    /// "http://[user:password@]host[:port]", the scheme may be left out. no_proxy: names (with all below
    /// them), addresses, address ranges, each with a port if that matters; "*" for all.
    static client_proxy parse(std::string_view proxy, std::string_view no_proxy) {
        client_proxy p;
        p.unusable = !trim(proxy).empty(); // until it is taken apart
        for_each_element(no_proxy, [&](std::string_view e) { p.direct_.emplace_back(e); });
        if (const std::size_t scheme = proxy.find("://"); scheme != proxy.npos) {
            if (!equal_fold(proxy.substr(0, scheme), "http")) return p;
            proxy.remove_prefix(scheme + 3);
        }
        proxy = proxy.substr(0, proxy.find_first_of("/?#"));
        if (const std::size_t at = proxy.rfind('@'); at != proxy.npos) {
            std::string user;
            if (valid_escapes(proxy.substr(0, at))) decode_to(user, proxy.substr(0, at));
            p.authorization = "Basic " + base64(user);
            proxy.remove_prefix(at + 1);
        }
        if (proxy.empty() || !is_host(proxy)) return p;
        p.address = proxy;
        if (host_without_port(proxy).size() == proxy.size()) p.address += ":80";
        p.unusable = false;
        return p;
    }
    /// Of http_proxy (or HTTP_PROXY, but not in a CGI program, where a client's Proxy field sets that) or,
    /// for https, https_proxy and HTTPS_PROXY; and no_proxy.
    static client_proxy from_environment(bool secure) {
        auto get = [](const char* lower, const char* upper) -> std::string_view {
            if (const char* v = std::getenv(lower); v && *v) return v;
            const char* v = upper ? std::getenv(upper) : nullptr;
            return v ? v : "";
        };
        const bool cgi = std::getenv("REQUEST_METHOD") != nullptr;
        return parse(secure ? get("https_proxy", "HTTPS_PROXY")
                            : get("http_proxy", cgi ? nullptr : "HTTP_PROXY"),
                     get("no_proxy", "NO_PROXY"));
    }

    bool serves(const client_url& url) const {
        if (address.empty() && !unusable) return false;
        const std::string full = url.address();
        std::string_view host = host_without_port(full);
        const std::string_view port = std::string_view(full).substr(host.size() + 1);
        if (host.size() > 1 && host.front() == '[') host = host.substr(1, host.size() - 2);
        net::endpoint number;
        const bool is_number = net::detail::parse_host(host, 0, number);
        if (!local_too && (host == "localhost" || (is_number && is_loopback(number))))
            return false; // as in Go
        for (const std::string& d : direct_)
            if (matches(d, host, port, is_number ? &number : nullptr)) return false;
        return true;
    }

  private:
    static bool is_loopback(const net::endpoint& e) {
        if (e.family() == AF_INET)
            return reinterpret_cast<const unsigned char*>(
                       &reinterpret_cast<const ::sockaddr_in*>(e.data())->sin_addr)[0] == 127;
        return IN6_IS_ADDR_LOOPBACK(&reinterpret_cast<const ::sockaddr_in6*>(e.data())->sin6_addr);
    }
    static std::string_view bytes_of(const net::endpoint& e) {
        if (e.family() == AF_INET)
            return {
                reinterpret_cast<const char*>(&reinterpret_cast<const ::sockaddr_in*>(e.data())->sin_addr),
                4};
        return {reinterpret_cast<const char*>(&reinterpret_cast<const ::sockaddr_in6*>(e.data())->sin6_addr),
                16};
    }
    static bool in_range(const net::endpoint& e, std::string_view range) {
        const std::size_t slash = range.find('/');
        net::endpoint base;
        unsigned bits = 0;
        const std::string_view digits = range.substr(slash + 1);
        if (!net::detail::parse_host(range.substr(0, slash), 0, base) || base.family() != e.family())
            return false;
        const auto [end, failed] = std::from_chars(digits.data(), digits.data() + digits.size(), bits);
        const std::string_view a = bytes_of(e), b = bytes_of(base);
        if (failed != std::errc{} || end != digits.data() + digits.size() || bits > 8 * a.size())
            return false;
        for (std::size_t i = 0; i < bits; ++i)
            if ((a[i / 8] ^ b[i / 8]) >> (7 - i % 8) & 1) return false;
        return true;
    }
    static bool matches(std::string_view rule, std::string_view host, std::string_view port,
                        const net::endpoint* number) {
        if (rule == "*") return true;
        if (rule.find('/') != rule.npos) return number && in_range(*number, rule);
        net::endpoint exact;
        if (!net::detail::parse_host(rule, 0, exact)) { // not a bare IPv6 address, whose colons are no port's
            const std::string_view name = host_without_port(rule);
            if (name.size() != rule.size() && rule.substr(name.size() + 1) != port) return false;
            rule = name;
            if (rule.size() > 1 && rule.front() == '[') rule = rule.substr(1, rule.size() - 2);
        }
        if (net::detail::parse_host(rule, 0, exact)) return number && *number == exact;
        if (rule.substr(0, 2) == "*.") rule.remove_prefix(1);
        const bool below_only = !rule.empty() && rule.front() == '.';
        if (below_only) rule.remove_prefix(1);
        if (rule.empty()) return false;
        if (equal_fold(host, rule)) return !below_only;
        return host.size() > rule.size() && host[host.size() - rule.size() - 1] == '.' &&
               equal_fold(host.substr(host.size() - rule.size()), rule);
    }

    std::vector<std::string> direct_;
};

} // namespace mpg::http::detail
