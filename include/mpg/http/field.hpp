// Header fields: what a name and a value may consist of, and how names are compared.
#pragma once

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

/// tchar of RFC 9110, 5.6.2.
constexpr bool is_token_char(char c) noexcept {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
}

constexpr bool is_token(std::string_view s) noexcept {
    for (char c : s)
        if (!is_token_char(c)) return false;
    return !s.empty();
}

/// No control character but the tab: what goes into a header can neither end its line nor be cut by a C
/// string.
constexpr bool is_field_value(std::string_view s) noexcept {
    for (char c : s)
        if ((static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f) return false;
    return true;
}

constexpr std::string_view trim(std::string_view s) noexcept {
    while (!s.empty() && (s.front() == ' ' || s.front() == '\t')) s.remove_prefix(1);
    while (!s.empty() && (s.back() == ' ' || s.back() == '\t')) s.remove_suffix(1);
    return s;
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
