// Patterns of a router: "[METHOD ][HOST]/[PATH]", with the meaning that Go 1.22 gave to net/http.ServeMux.
//
// A path is a sequence of segments. Request paths are split at each '/', so that "/a/" is {"a", ""} and "/"
// is {""}.
//   literal   matches that segment, compared after unescaping; "{$}" at the end is the literal ""
//   {name}    matches one segment that is not empty
//   {name...} at the end: matches one or more segments, whatever they are; a '/' at the end is one without a
//   name
#pragma once

#include <mpg/http/field.hpp>
#include <mpg/http/url.hpp>

#include <cstddef>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mpg::http::detail {

struct segment {
    enum class kind { literal, single, rest };
    kind what = kind::literal;
    std::string text; // of a literal: unescaped; of a wildcard: its name, "" for none
};

/// How the sets of requests that two patterns match relate.
enum class relation { equal, more_general, more_specific, overlapping, disjoint };

constexpr relation combine(relation a, relation b) noexcept {
    if (a == relation::disjoint || b == relation::disjoint) return relation::disjoint;
    if (a == b || b == relation::equal) return a;
    return a == relation::equal ? b : relation::overlapping;
}

struct pattern {
    std::string text, method, host; // "": any
    std::vector<segment> segments;

    /// Throws std::invalid_argument that says what is wrong.
    static pattern parse(std::string_view text);
    /// How *this relates to other.
    relation compare(const pattern& other) const noexcept;
};

[[noreturn]] inline void bad_pattern(std::string_view text, const char* why) {
    throw std::invalid_argument("http: pattern \"" + std::string(text) + "\": " + why);
}

inline segment parse_segment(std::string_view text, std::string_view s, bool last) {
    segment result;
    const std::size_t open = s.find('{');
    if (open == std::string_view::npos) {
        if (s.find('}') != std::string_view::npos) bad_pattern(text, "'}' without '{'");
        if (!valid_escapes(s)) bad_pattern(text, "bad escape");
        decode_to(result.text, s);
        return result;
    }
    if (open != 0 || s.back() != '}') bad_pattern(text, "a wildcard must be a whole segment");
    std::string_view name = s.substr(1, s.size() - 2);
    if (name == "$") {
        if (!last) bad_pattern(text, "{$} must be at the end");
        return result; // the literal ""
    }
    result.what = segment::kind::single;
    if (name.size() >= 3 && name.substr(name.size() - 3) == "...") {
        if (!last) bad_pattern(text, "{...} must be at the end");
        result.what = segment::kind::rest;
        name.remove_suffix(3);
    }
    if (name.empty()) bad_pattern(text, "a wildcard needs a name");
    for (char c : name) {
        const char l = static_cast<char>(c | 0x20);
        const bool letter = (l >= 'a' && l <= 'z') || c == '_' || static_cast<unsigned char>(c) >= 0x80;
        if (!letter && !(c >= '0' && c <= '9' && c != name.front())) bad_pattern(text, "bad wildcard name");
    }
    result.text = name;
    return result;
}

inline pattern pattern::parse(std::string_view text) {
    pattern p;
    p.text = text;
    std::string_view rest = text;
    const std::size_t blank = rest.find_first_of(" \t");
    if (blank != std::string_view::npos) {
        p.method = rest.substr(0, blank);
        if (!is_token(p.method)) bad_pattern(text, "bad method");
        rest = trim(rest.substr(blank));
    }
    const std::size_t slash = rest.find('/');
    if (slash == std::string_view::npos) bad_pattern(text, "there is no '/'");
    for (char c : rest.substr(0, slash)) p.host += lower(c);
    if (!is_host(p.host) || p.host.find('{') != std::string::npos) bad_pattern(text, "bad host");
    rest.remove_prefix(slash + 1);
    while (true) {
        const std::size_t end = rest.find('/');
        const bool last = end == std::string_view::npos;
        const std::string_view s = rest.substr(0, end);
        if (s.empty() && last) {
            p.segments.push_back({segment::kind::rest, ""});
        } else {
            if (s.empty() || s == "." || s == "..") bad_pattern(text, "the path is not clean");
            p.segments.push_back(parse_segment(text, s, last));
        }
        if (last) break;
        rest.remove_prefix(end + 1);
    }
    for (std::size_t i = 0; i < p.segments.size(); ++i)
        for (std::size_t k = 0; k < i; ++k)
            if (p.segments[i].what != segment::kind::literal &&
                p.segments[k].what != segment::kind::literal && !p.segments[i].text.empty() &&
                p.segments[i].text == p.segments[k].text)
                bad_pattern(text, "two wildcards have the same name");
    return p;
}

constexpr relation compare_methods(std::string_view a, std::string_view b) noexcept {
    if (a == b) return relation::equal;
    if (a.empty() || (a == "GET" && b == "HEAD")) return relation::more_general;
    if (b.empty() || (b == "GET" && a == "HEAD")) return relation::more_specific;
    return relation::disjoint;
}

inline relation compare_segments(const std::vector<segment>& a, const std::vector<segment>& b) noexcept {
    using kind = segment::kind;
    relation result = relation::equal;
    for (std::size_t i = 0;; ++i) {
        if (i == a.size() || i == b.size()) return a.size() == b.size() ? result : relation::disjoint;
        const segment &x = a[i], &y = b[i];
        if (x.what == kind::rest || y.what == kind::rest) {
            if (x.what != y.what)
                result =
                    combine(result, x.what == kind::rest ? relation::more_general : relation::more_specific);
            return result; // a rest covers all that follows, and nothing follows it
        }
        if (x.what == y.what) {
            if (x.what == kind::literal && x.text != y.text) return relation::disjoint;
        } else {
            const segment& literal = x.what == kind::literal ? x : y;
            if (literal.text.empty()) return relation::disjoint; // {name} does not match the empty segment
            result =
                combine(result, x.what == kind::single ? relation::more_general : relation::more_specific);
        }
    }
}

inline relation pattern::compare(const pattern& other) const noexcept {
    if (host != other.host) {
        // A pattern with a host always goes before one without, so they cannot conflict.
        if (host.empty()) return relation::more_general;
        return other.host.empty() ? relation::more_specific : relation::disjoint;
    }
    return combine(compare_methods(method, other.method), compare_segments(segments, other.segments));
}

} // namespace mpg::http::detail
