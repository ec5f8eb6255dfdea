// Request targets: their parts, percent-decoding, clean paths, query parameters.
#pragma once

#include <mpg/http/field.hpp>

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mpg::http::detail {

constexpr int hex_digit(char c) noexcept {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/// Whether each '%' is followed by two hex digits.
constexpr bool valid_escapes(std::string_view s) noexcept {
    for (std::size_t i = s.find('%'); i != std::string_view::npos; i = s.find('%', i + 3))
        if (s.size() - i < 3 || hex_digit(s[i + 1]) < 0 || hex_digit(s[i + 2]) < 0) return false;
    return true;
}

/// Appends s with its escapes replaced; with plus_is_space as in forms. Precondition: valid_escapes(s).
inline void decode_to(std::string& out, std::string_view s, bool plus_is_space = false) {
    for (std::size_t i = 0; i < s.size(); ++i) {
        if (s[i] == '%') {
            out += static_cast<char>(hex_digit(s[i + 1]) << 4 | hex_digit(s[i + 2]));
            i += 2;
        } else {
            out += s[i] == '+' && plus_is_space ? ' ' : s[i];
        }
    }
}

/// What stands for itself in every part of a URL (RFC 3986, 2.3).
constexpr bool is_unreserved(char c) noexcept {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("-._~").find(c) != std::string_view::npos;
}

/// Appends s with every character escaped for which keep is false.
template <class Keep> void encode_to(std::string& out, std::string_view s, Keep keep) {
    constexpr std::string_view hex = "0123456789ABCDEF";
    for (char c : s) {
        if (keep(c)) {
            out += c;
        } else {
            out += '%';
            out += hex[static_cast<unsigned char>(c) >> 4];
            out += hex[static_cast<unsigned char>(c) & 15];
        }
    }
}

/// Appends s with everything escaped that may not stand in a path; of what is_escaped already, what should have been.
inline void encode_path_to(std::string& out, std::string_view s, bool is_escaped = false) {
    encode_to(out, s, [is_escaped](char c) {
        return is_unreserved(c) || std::string_view("/!$&'()*+,;=:@").find(c) != std::string_view::npos ||
               (c == '%' && is_escaped);
    });
}

/// Without the port: "[::1]:80" is "[::1]".
constexpr std::string_view host_without_port(std::string_view host) noexcept {
    const std::size_t bracket = host.rfind(']');
    const std::size_t colon = host.rfind(':');
    if (colon == std::string_view::npos || (bracket != std::string_view::npos && colon < bracket))
        return host;
    return host.substr(0, colon);
}

/// The text behind a host's colon: 1 to 65535.
constexpr bool is_port(std::string_view s) noexcept {
    unsigned n = 0;
    for (char c : s) {
        if (c < '0' || c > '9' || n > 6553) return false;
        n = 10 * n + static_cast<unsigned>(c - '0');
    }
    return n > 0 && n <= 65535;
}

/// The parts of a request target (RFC 9112, 3.2). Views into it.
struct target_parts {
    std::string_view authority; // of the absolute and the authority form; else empty
    std::string_view path;      // as sent: escaped; "*" for the asterisk form, "" for the authority form
    std::string_view query;     // without the '?'; a fragment is cut off
};

/// nullopt: the target has none of the four forms, or a bad escape in its path.
constexpr std::optional<target_parts> split_target(std::string_view target,
                                                   std::string_view method) noexcept {
    target_parts parts;
    if (method == "CONNECT") {
        const std::string_view host = host_without_port(target);
        if (host.empty() || host.size() == target.size() || !is_port(target.substr(host.size() + 1)) ||
            target.find_first_of("/?#@") != std::string_view::npos)
            return std::nullopt;
        parts.authority = target;
        return parts;
    }
    if (target == "*") {
        if (method != "OPTIONS") return std::nullopt;
        parts.path = target;
        return parts;
    }
    std::string_view rest = target.substr(0, target.find('#'));
    if (rest.empty()) return std::nullopt;
    if (rest.front() != '/') {
        const std::size_t colon = rest.find("://");
        if (colon == 0 || colon == std::string_view::npos) return std::nullopt;
        for (char c : rest.substr(0, colon)) {
            const char l = static_cast<char>(c | 0x20);
            if (!((l >= 'a' && l <= 'z') || (c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.'))
                return std::nullopt;
        }
        rest.remove_prefix(colon + 3);
        const std::size_t end = rest.find_first_of("/?");
        parts.authority = rest.substr(0, end);
        if (parts.authority.empty() || parts.authority.find('@') != std::string_view::npos)
            return std::nullopt;
        rest = end == std::string_view::npos ? std::string_view() : rest.substr(end);
    }
    const std::size_t question = rest.find('?');
    parts.path = rest.substr(0, question);
    if (question != std::string_view::npos) parts.query = rest.substr(question + 1);
    if (parts.path.empty()) parts.path = "/";
    if (!valid_escapes(parts.path)) return std::nullopt;
    return parts;
}

/// A Host header or authority: uri-host [ ":" port ], loosely: nothing that could be taken for another part
/// of a URL.
constexpr bool is_host(std::string_view s) noexcept {
    for (char c : s)
        if (!(char_classes[static_cast<unsigned char>(c)] & 4)) return false;
    return true;
}

/// Whether a path (decoded) begins with '/' and has no empty, "." or ".." segment; a '/' at its end is fine.
constexpr bool is_clean_path(std::string_view path) noexcept {
    if (path.empty() || path.front() != '/') return false;
    std::size_t begin = 1;
    while (true) {
        const std::size_t end = path.find('/', begin);
        const std::string_view segment =
            path.substr(begin, end == std::string_view::npos ? end : end - begin);
        if (segment == "." || segment == "..") return false;
        if (end == std::string_view::npos) return true;
        if (segment.empty()) return false;
        begin = end + 1;
    }
}

/// Whether a segment, as sent, is "." (1) or ".." (2), each dot written as such or as "%2e"; else 0.
constexpr int dots_of(std::string_view segment) noexcept {
    int dots = 0;
    while (!segment.empty() && dots < 3) {
        const bool escaped = segment.size() >= 3 && segment[0] == '%' && segment[1] == '2' && lower(segment[2]) == 'e';
        if (!escaped && segment[0] != '.') return 0;
        segment.remove_prefix(escaped ? 3 : 1);
        ++dots;
    }
    return dots < 3 ? dots : 0;
}

/// The clean form of a path as sent: what Go's path.Clean does, but a '/' at the end stays, and so do escapes.
inline std::string clean_path(std::string_view path) {
    std::vector<std::string_view> segments;
    std::string_view last;
    for (std::size_t begin = 0; begin <= path.size();) {
        std::size_t end = path.find('/', begin);
        if (end == std::string_view::npos) end = path.size();
        last = path.substr(begin, end - begin);
        const int dots = dots_of(last);
        if (dots == 2) {
            if (!segments.empty()) segments.pop_back();
        } else if (!last.empty() && dots == 0) {
            segments.push_back(last);
        }
        begin = end + 1;
    }
    std::string clean;
    for (std::string_view s : segments) (clean += '/') += s;
    if (clean.empty() || (last.empty() && !path.empty())) clean += '/';
    return clean;
}

/// Whether a path (decoded) has a "." or ".." segment.
constexpr bool has_dot_segment(std::string_view path) noexcept {
    while (!path.empty()) {
        const std::size_t end = std::min(path.find('/'), path.size());
        if (const std::string_view s = path.substr(0, end); s == "." || s == "..") return true;
        path.remove_prefix(std::min(end + 1, path.size()));
    }
    return false;
}

/// Whether a request for this path, as sent and decoded, is served as it is. An escaped slash is data, and so "/a%2F%2Fb" is,
/// but none that a handler might take for a way up.
constexpr bool is_clean_target(std::string_view sent, std::string_view decoded) noexcept {
    return is_clean_path(sent) && (sent.size() == decoded.size() || !has_dot_segment(decoded));
}

/// Where a request for another path is sent, escaped. Precondition: valid_escapes(sent).
inline std::string clean_target(std::string_view sent) {
    std::string clean = clean_path(sent), decoded;
    decode_to(decoded, clean);
    if (!has_dot_segment(decoded)) return clean;
    std::string split; // at escaped slashes, too
    for (std::size_t i = 0; i < clean.size(); ++i) {
        const bool slash = clean[i] == '%' && clean[i + 1] == '2' && lower(clean[i + 2]) == 'f';
        split += slash ? '/' : clean[i];
        if (slash) i += 2;
    }
    return clean_path(split);
}

/// A path that begins with '/', with its "." and ".." segments resolved and empty ones kept (RFC 3986, 5.2.4).
inline std::string without_dot_segments(std::string_view path) {
    std::string out;
    while (!path.empty()) {
        const std::size_t end = path.find('/', 1);
        const std::string_view piece = path.substr(0, end); // a slash and what follows it
        const bool last = end == std::string_view::npos;
        path = last ? std::string_view() : path.substr(end);
        const bool up = piece == "/..";
        if (up) out.erase(std::min(out.rfind('/'), out.size()));
        if (!up && piece != "/.")
            out += piece;
        else if (last)
            out += '/';
    }
    return out;
}

/// The first value of a parameter in a query string, decoded; nullopt when there is none. A pair with a bad
/// escape is passed over.
inline std::optional<std::string> query_parameter(std::string_view query, std::string_view name) {
    std::string key;
    while (!query.empty()) {
        const std::size_t amp = query.find('&');
        const std::string_view pair = query.substr(0, amp);
        const std::size_t equals = pair.find('=');
        const std::string_view raw_key = pair.substr(0, equals);
        if (valid_escapes(pair)) {
            key.clear();
            decode_to(key, raw_key, true);
            if (key == name) {
                std::string value;
                if (equals != std::string_view::npos) decode_to(value, pair.substr(equals + 1), true);
                return value;
            }
        }
        if (amp == std::string_view::npos) break;
        query.remove_prefix(amp + 1);
    }
    return std::nullopt;
}

} // namespace mpg::http::detail
