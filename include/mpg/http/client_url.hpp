// URLs of the client.
#pragma once

#include <mpg/http/field.hpp>
#include <mpg/http/url.hpp>
#include <mpg/io/result.hpp>
#include <mpg/net/address.hpp>

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <system_error>

namespace mpg::http::detail {

/// "http[s]://[user[:password]@]host[:port][/path][?query][#fragment]", taken apart.
struct client_url {
    std::string authority;   // "host" or "host:port", in lower case: the Host field
    std::string zone;        // of an IPv6 address, unescaped: what "eth0" is in "[fe80::1%25eth0]" (RFC 6874). Means
                             // something on this machine only, and so is never sent
    std::string target;      // "/path?query", with everything escaped that cannot stand in a request line
    std::string credentials; // "user:password", unescaped; empty: none
    bool secure = false;     // https

    /// Always with a port: what a proxy is asked to connect to.
    std::string host_and_port() const {
        const bool has_port = host_without_port(authority).size() != authority.size();
        return has_port ? authority : authority + (secure ? ":443" : ":80");
    }
    /// What to connect to: the same with the zone.
    std::string address() const {
        std::string full = host_and_port();
        if (!zone.empty()) full.insert(full.find(']'), '%' + zone);
        return full;
    }
    std::string origin() const {
        std::string full = authority;
        if (!zone.empty()) {
            std::string escaped = "%25";
            encode_to(escaped, zone, is_unreserved); // RFC 6874: nothing else may stand there
            full.insert(full.find(']'), escaped);
        }
        return (secure ? "https://" : "http://") + full;
    }
    std::string text() const { return origin() + target; }
    /// Without port and brackets.
    std::string host() const {
        const std::string_view h = host_without_port(authority);
        return std::string(h.front() == '[' ? h.substr(1, h.size() - 2) : h);
    }

    /// std::errc::invalid_argument; std::errc::protocol_not_supported for another scheme.
    static result<client_url> parse(std::string_view url) {
        const auto bad = [](std::errc e) { return unexpected(std::make_error_code(e)); };
        for (char c : url)
            if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) return bad(std::errc::invalid_argument);
        const std::size_t colon = url.find("://");
        if (colon == std::string_view::npos) return bad(std::errc::invalid_argument);
        client_url u;
        u.secure = equal_fold(url.substr(0, colon), "https");
        if (!u.secure && !equal_fold(url.substr(0, colon), "http"))
            return bad(std::errc::protocol_not_supported);
        const std::size_t begin = colon + 3, end = std::min(url.find_first_of("/?#", begin), url.size());
        std::string without_user;
        if (const std::size_t at = url.substr(0, end).rfind('@'); at != url.npos && at >= begin) {
            const std::string_view user = url.substr(begin, at - begin);
            if (!valid_escapes(user) || !is_userinfo(user)) return bad(std::errc::invalid_argument);
            decode_to(u.credentials, user);
            if (user.find(':') == user.npos) u.credentials += ':';
            (without_user = url.substr(0, begin)) += url.substr(at + 1);
            url = without_user;
        }
        const auto parts = split_target(url, "GET");
        if (!parts || !is_host(parts->authority)) return bad(std::errc::invalid_argument);
        if (!u.take_zone(parts->authority)) return bad(std::errc::invalid_argument);
        if (u.authority.back() == ':') u.authority.pop_back(); // the port is the usual one
        const std::string_view host = host_without_port(u.authority);
        if (host.empty()) return bad(std::errc::invalid_argument);
        if (!net::split_host_port(u.address())) return bad(std::errc::invalid_argument); // port, brackets
        escape_to(u.target, parts->path);
        if (parts->query.data()) escape_to(u.target += '?', parts->query);
        return u;
    }

    /// Where a Location leads from here; on this host, with the same credentials.
    result<client_url> resolve(std::string_view location) const {
        location = location.substr(0, location.find('#'));
        const std::size_t colon = location.find(':');
        if (colon != std::string_view::npos && location.find_first_of("/?") > colon) return parse(location);
        if (location.substr(0, 2) == "//")
            return parse((secure ? "https:" : "http:") + std::string(location));
        auto here = parse(origin() + relative(location));
        if (here) here->credentials = credentials;
        return here;
    }

  private:
    /// Sets authority and zone. False: the zone is none.
    bool take_zone(std::string_view given) {
        std::size_t begin = given.size(), end = begin; // of "%25eth0"
        if (given.starts_with('[') && given.find('%') != given.npos) {
            begin = given.find('%');
            end = given.find(']', begin);
            if (end == given.npos) return false;
        }
        for (char c : given.substr(0, begin)) authority += lower(c);
        for (char c : given.substr(end)) authority += lower(c);
        if (begin == end) return true;
        const std::string_view escaped = given.substr(begin, end - begin);
        if (!escaped.starts_with("%25") || !valid_escapes(escaped)) return false;
        decode_to(zone, escaped.substr(3));
        return !zone.empty() && std::all_of(zone.begin(), zone.end(), [](char c) {
            return static_cast<unsigned char>(c) > ' ' && c != 0x7f && std::string_view("%/@[]").find(c) == std::string_view::npos;
        });
    }
    /// The target that a relative reference means.
    std::string relative(std::string_view location) const {
        std::string path = target.substr(0, target.find('?'));
        if (location.empty()) return target;
        if (location.front() == '?') return path.append(location);
        const std::size_t question = location.find('?');
        std::string to(location.substr(0, question));
        if (to.front() != '/') to = path.substr(0, path.rfind('/') + 1) + to;
        to = without_dot_segments(to);
        if (question != std::string_view::npos) to += location.substr(question);
        return to;
    }
    /// RFC 3986, 3.2.1, and '@': what else stands before the host is rather a trick to hide it.
    static bool is_userinfo(std::string_view s) {
        return std::all_of(s.begin(), s.end(), [](char c) {
            return is_unreserved(c) || std::string_view("!$&'()*+,;=:%@").find(c) != std::string_view::npos;
        });
    }
    /// Appends s; what people and servers write although it must be escaped (RFC 3986) is.
    static void escape_to(std::string& out, std::string_view s) {
        encode_to(out, s, [](char c) { return c > ' ' && c < 0x7f; }); // what is beyond ASCII is negative, or above
    }
};

} // namespace mpg::http::detail
