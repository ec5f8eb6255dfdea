// URLs of the client.
#pragma once

#include <mpg/http/field.hpp>
#include <mpg/http/url.hpp>
#include <mpg/io/result.hpp>
#include <mpg/net/address.hpp>

#include <cstddef>
#include <string>
#include <string_view>
#include <system_error>

namespace mpg::http::detail {

/// "http[s]://host[:port][/path][?query]", taken apart.
struct client_url {
    std::string authority; // "host" or "host:port", in lower case: the Host field
    std::string target;    // "/path?query"
    bool secure = false;   // https

    /// What to connect to: always with a port.
    std::string address() const {
        const bool has_port = host_without_port(authority).size() != authority.size();
        return has_port ? authority : authority + (secure ? ":443" : ":80");
    }
    std::string origin() const { return (secure ? "https://" : "http://") + authority; }
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
            if (static_cast<unsigned char>(c) <= 0x20 || c == 0x7f) return bad(std::errc::invalid_argument);
        const std::size_t colon = url.find("://");
        if (colon == std::string_view::npos) return bad(std::errc::invalid_argument);
        client_url u;
        u.secure = equal_fold(url.substr(0, colon), "https");
        if (!u.secure && !equal_fold(url.substr(0, colon), "http"))
            return bad(std::errc::protocol_not_supported);
        const auto parts = split_target(url, "GET");
        if (!parts || !is_host(parts->authority)) return bad(std::errc::invalid_argument);
        for (char c : parts->authority) u.authority += lower(c);
        const std::string_view host = host_without_port(u.authority);
        if (host.empty()) return bad(std::errc::invalid_argument);
        if (!net::split_host_port(u.address())) return bad(std::errc::invalid_argument); // port, brackets
        u.target = parts->path;
        if (parts->query.data()) (u.target += '?') += parts->query;
        return u;
    }

    /// Where a Location leads from here.
    result<client_url> resolve(std::string_view location) const {
        location = location.substr(0, location.find('#'));
        const std::size_t colon = location.find(':');
        if (colon != std::string_view::npos && location.find_first_of("/?") > colon) return parse(location);
        if (location.substr(0, 2) == "//")
            return parse((secure ? "https:" : "http:") + std::string(location));
        std::string path = target.substr(0, target.find('?'));
        if (location.empty()) return parse(origin() + target);
        if (location.front() == '?') return parse((origin() + path).append(location));
        const std::size_t question = location.find('?');
        std::string to(location.substr(0, question));
        if (to.front() != '/') to = path.substr(0, path.rfind('/') + 1) + to;
        to = without_dot_segments(to);
        if (question != std::string_view::npos) to += location.substr(question);
        return parse(origin() + to);
    }
};

} // namespace mpg::http::detail
