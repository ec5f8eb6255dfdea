// How a trace context is written into headers: W3C Trace Context (traceparent, tracestate; levels 1 and 2) and B3 (one
// header, or several). Parsing is strict: what the specifications call invalid is as if it were not there.
//
//   https://www.w3.org/TR/trace-context-2/      https://github.com/openzipkin/b3-propagation
#pragma once

#include <mpg/cancel/trace_context.hpp>

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mpg::cancel::detail {

/// traceparent: version "-" trace-id "-" parent-id "-" flags. Of later versions what version 00 has, with whatever
/// follows behind a further '-'.
inline std::optional<trace_context> parse_traceparent(std::string_view s) {
    constexpr std::size_t size = 2 + 1 + 32 + 1 + 16 + 1 + 2;
    if (s.size() < size || s[2] != '-' || s[35] != '-' || s[52] != '-') return std::nullopt;
    const int v1 = span_id::digit(s[0]), v2 = span_id::digit(s[1]);
    const int f1 = span_id::digit(s[53]), f2 = span_id::digit(s[54]);
    if (v1 < 0 || v2 < 0 || f1 < 0 || f2 < 0 || (v1 == 15 && v2 == 15)) return std::nullopt;
    if (v1 == 0 && v2 == 0 ? s.size() != size : s.size() > size && s[size] != '-') return std::nullopt;
    const auto trace = trace_id::parse(s.substr(3, 32));
    const auto span = span_id::parse(s.substr(36, 16));
    if (!trace || !span) return std::nullopt;
    trace_context t{*trace, *span};
    t.sampling = f2 & 1 ? trace_sampling::yes : trace_sampling::no;
    t.random = f2 & 2;
    return t;
}

inline std::string traceparent(const trace_context& t) {
    std::string s = "00-";
    t.trace.append_to(s);
    s += '-';
    t.span.append_to(s);
    const int flags = (t.sampled() ? 1 : 0) | (t.random ? 2 : 0);
    return ((s += "-0") += static_cast<char>('0' + flags));
}

/// A key of tracestate: up to 256 of a-z 0-9 _ - * / @, beginning with a letter or a digit. (Level 1 has a narrower form
/// for keys with '@'; level 2 accepts all of those.)
constexpr bool is_tracestate_key(std::string_view k) noexcept {
    auto alphanumeric = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
    if (k.empty() || k.size() > 256 || !alphanumeric(k[0])) return false;
    return std::all_of(k.begin(), k.end(), [&](char c) {
        return alphanumeric(c) || c == '_' || c == '-' || c == '*' || c == '/' || c == '@';
    });
}
/// Up to 256 printable characters but ',' and '=', the last one not a blank.
constexpr bool is_tracestate_value(std::string_view v) noexcept {
    if (v.empty() || v.size() > 256 || v.back() == ' ') return false;
    return std::all_of(v.begin(), v.end(), [](char c) { return c >= ' ' && c <= '~' && c != ',' && c != '='; });
}

/// Joins the values of all tracestate fields; "" when there is nothing or anything in it is invalid: then the
/// specification wants all of it dropped. No more than 512 characters are passed on: long members go first, then the
/// oldest (last) ones, and never half of one.
inline std::string parse_tracestate(const std::vector<std::string_view>& fields) {
    std::vector<std::string_view> members;
    for (std::string_view rest : fields) {
        for (bool more = true; more;) {
            const std::size_t comma = rest.find(',');
            more = comma != std::string_view::npos;
            std::string_view m = rest.substr(0, comma);
            if (more) rest.remove_prefix(comma + 1);
            while (!m.empty() && (m.front() == ' ' || m.front() == '\t')) m.remove_prefix(1);
            while (!m.empty() && (m.back() == ' ' || m.back() == '\t')) m.remove_suffix(1);
            if (m.empty()) continue; // allowed
            const std::size_t equals = m.find('=');
            if (equals == std::string_view::npos || !is_tracestate_key(m.substr(0, equals)) ||
                !is_tracestate_value(m.substr(equals + 1)))
                return "";
            for (std::string_view other : members)
                if (other.substr(0, equals + 1) == m.substr(0, equals + 1)) return ""; // twice the same key
            if (members.size() == 32) return "";
            members.push_back(m);
        }
    }
    auto size = [&] {
        std::size_t n = members.empty() ? 0 : members.size() - 1;
        for (std::string_view m : members) n += m.size();
        return n;
    };
    while (size() > 512) {
        auto longest = std::find_if(members.rbegin(), members.rend(), [](auto m) { return m.size() > 128; });
        members.erase(longest == members.rend() ? std::prev(members.end()) : std::prev(longest.base()));
    }
    std::string out;
    for (std::string_view m : members) (out += out.empty() ? "" : ",") += m;
    return out;
}

/// 64-bit ids are the lower half.
inline std::optional<trace_id> parse_b3_trace(std::string_view s) {
    if (s.size() == 32) return trace_id::parse(s);
    const auto half = span_id::parse(s);
    if (!half) return std::nullopt;
    trace_id id;
    std::copy(half->bytes.begin(), half->bytes.end(), id.bytes.begin() + 8);
    return id;
}
constexpr std::optional<trace_sampling> parse_b3_sampling(std::string_view s) noexcept {
    if (s == "0") return trace_sampling::no;
    if (s == "1") return trace_sampling::yes;
    if (s == "d") return trace_sampling::debug;
    return std::nullopt;
}

/// b3: a decision, or trace-id "-" span-id [ "-" decision [ "-" parent-span-id ] ].
inline std::optional<trace_context> parse_b3(std::string_view s) {
    trace_context t;
    if (const auto only = parse_b3_sampling(s)) {
        t.sampling = *only;
        return t;
    }
    std::string_view parts[4];
    std::size_t n = 0;
    for (;; ++n) {
        if (n == 4) return std::nullopt;
        const std::size_t dash = s.find('-');
        parts[n] = s.substr(0, dash);
        if (dash == std::string_view::npos) break;
        s.remove_prefix(dash + 1);
    }
    if (n == 0) return std::nullopt;
    const auto trace = parse_b3_trace(parts[0]);
    const auto span = span_id::parse(parts[1]);
    if (!trace || !span) return std::nullopt;
    t.trace = *trace;
    t.span = *span;
    if (n >= 2) {
        const auto sampling = parse_b3_sampling(parts[2]);
        if (!sampling) return std::nullopt;
        t.sampling = *sampling;
    }
    if (n == 3) {
        const auto parent = span_id::parse(parts[3]);
        if (!parent) return std::nullopt;
        t.parent = *parent;
    }
    return t;
}
inline std::string b3(const trace_context& t) {
    static constexpr std::string_view decisions[] = {"", "0", "1", "d"};
    const std::string_view decision = decisions[static_cast<std::size_t>(t.sampling)];
    std::string s;
    if (!t.valid()) return s += decision;
    t.trace.append_to(s);
    s += '-';
    t.span.append_to(s);
    if (decision.empty()) return s; // a parent may follow a decision only
    (s += '-') += decision;
    if (t.parent.valid()) t.parent.append_to(s += '-');
    return s;
}

} // namespace mpg::cancel::detail
