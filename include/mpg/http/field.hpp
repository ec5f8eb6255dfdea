// Header fields: what a name and a value may consist of, and how names are compared.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>

namespace mpg::http {

/// One line of a header. Of a request: views into the connection's buffer, valid until the handler returns.
struct header_field {
    std::string_view name;
    std::string_view value;
};

namespace detail {

constexpr char lower(char c) noexcept {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
}

/// ASCII only, as RFC 9110 has it.
constexpr bool equal_fold(std::string_view a, std::string_view b) noexcept {
    if (a.size() != b.size()) return false;
    for (std::size_t i = 0; i < a.size(); ++i)
        if (a[i] != b[i] && lower(a[i]) != lower(b[i])) return false;
    return true;
}

/// For each byte: 1: a tchar (RFC 9110, 5.6.2), 2: may stand in a field's value (no control character but the
/// tab), 4: in a host (see is_host).
inline constexpr auto char_classes = [] {
    std::array<unsigned char, 256> classes{};
    for (unsigned c = 0; c < 256; ++c) {
        const char ch = static_cast<char>(c);
        const bool token = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                           (c != 0 && std::string_view("!#$%&'*+-.^_`|~").find(ch) != std::string_view::npos);
        const bool value = (c >= 0x20 && c != 0x7f) || c == '\t';
        const bool host = (c >= 'a' && c <= 'z') || (c >= '0' && c <= ':') || (c >= 'A' && c <= 'Z') ||
                          (c != 0 && std::string_view(".-_~%!$&'()*+;=[]").find(ch) != std::string_view::npos);
        classes[c] = static_cast<unsigned char>((token ? 1 : 0) | (value ? 2 : 0) | (host ? 4 : 0));
    }
    return classes;
}();

constexpr bool is_token_char(char c) noexcept { return char_classes[static_cast<unsigned char>(c)] & 1; }

constexpr bool is_token(std::string_view s) noexcept {
    for (char c : s)
        if (!is_token_char(c)) return false;
    return !s.empty();
}

/// What goes into a header can neither end its line nor be cut by a C string.
constexpr bool is_field_value(std::string_view s) noexcept {
    for (char c : s)
        if (!(char_classes[static_cast<unsigned char>(c)] & 2)) return false;
    return true;
}

constexpr std::string_view trim(std::string_view s) noexcept {
    while (!s.empty() && (s.front() == ' ' || s.front() == '\t')) s.remove_prefix(1);
    while (!s.empty() && (s.back() == ' ' || s.back() == '\t')) s.remove_suffix(1);
    return s;
}

/// Whether a field may stand behind a body: not what frames or routes a message, authenticates, or says how
/// the body is to be read, for that must be known before (RFC 9110, 6.5.1). The list is Go's.
constexpr bool may_be_trailer(std::string_view name) noexcept {
    if (!is_token(name) || (name.size() > 2 && equal_fold(name.substr(0, 3), "if-"))) return false;
    for (std::string_view no : {"Authorization",
                                "Cache-Control",
                                "Connection",
                                "Content-Encoding",
                                "Content-Length",
                                "Content-Range",
                                "Content-Type",
                                "Expect",
                                "Host",
                                "Keep-Alive",
                                "Max-Forwards",
                                "Pragma",
                                "Proxy-Connection",
                                "Range",
                                "Realm",
                                "Proxy-Authenticate",
                                "Proxy-Authorization",
                                "TE",
                                "Trailer",
                                "Transfer-Encoding",
                                "WWW-Authenticate"})
        if (equal_fold(name, no)) return false;
    return true;
}

/// Calls f(element) for each element of a comma-separated list, without the blanks around it and without
/// empty ones.
template <class F> constexpr void for_each_element(std::string_view list, F f) {
    while (!list.empty()) {
        std::size_t comma = list.find(',');
        std::string_view element = trim(list.substr(0, comma));
        if (!element.empty()) f(element);
        if (comma == std::string_view::npos) break;
        list.remove_prefix(comma + 1);
    }
}

} // namespace detail
} // namespace mpg::http
