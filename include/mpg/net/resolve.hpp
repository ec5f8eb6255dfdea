// Names to addresses.
#pragma once

#include <mpg/io/syscall.hpp>
#include <mpg/net/address.hpp>
#include <mpg/sched/blocking.hpp>
#include <mpg/sched/cancel.hpp>

#include <netdb.h>
#include <string>
#include <system_error>
#include <vector>

namespace mpg::net {

/// What getaddrinfo reports: EAI_NONAME (no such host), EAI_AGAIN (try later), ...
inline const std::error_category& resolver_category() noexcept {
    struct category final : std::error_category {
        const char* name() const noexcept override { return "mpg.resolver"; }
        std::string message(int value) const override { return ::gai_strerror(value); }
        std::error_condition default_error_condition(int value) const noexcept override {
            if (value == EAI_NONAME) return std::errc::address_not_available;
            if (value == EAI_AGAIN) return std::errc::resource_unavailable_try_again;
            if (value == EAI_MEMORY) return std::errc::not_enough_memory;
            return {value, *this};
        }
    };
    static const category instance;
    return instance;
}

namespace detail {

/// Blocks. A leaf, since it reads errno.
MPG_NOINLINE inline std::error_code look_up(const std::string& host, std::uint16_t port, int flags,
                                            std::vector<endpoint>& to) {
    ::addrinfo hints{}, *list = nullptr;
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = flags;
    const int e = ::getaddrinfo(host.c_str(), nullptr, &hints, &list);
    if (e == EAI_SYSTEM) return {errno, std::system_category()};
    if (e != 0) return {e, resolver_category()};
    try {
        for (const ::addrinfo* a = list; a; a = a->ai_next)
            to.push_back(endpoint(a->ai_addr, a->ai_addrlen).with_port(port));
    } catch (...) {
        ::freeaddrinfo(list);
        throw;
    }
    ::freeaddrinfo(list);
    return {};
}

/// The addresses of a host, without repeats, in the order of RFC 6724. A number is not looked up.
inline result<std::vector<endpoint>> resolve_host(std::string_view host, std::uint16_t port,
                                                  sched::cancel_source* cancel) {
    std::vector<endpoint> found(1);
    if (parse_host(host, port, found.front())) return found;
    found.clear();
    if (host.empty() || host.find('\0') != host.npos)
        return unexpected(make_error_code(address_errc::bad_host));
    if (cancel && cancel->is_done()) return unexpected(cancel->err());
    std::error_code e;
    blocking([&] { e = look_up(std::string(host), port, AI_ADDRCONFIG, found); });
    if (cancel && cancel->is_done()) return unexpected(cancel->err());
    if (e) return unexpected(e);
    return found;
}

} // namespace detail

/// The addresses of a host, with port 0, best first (RFC 6724); a number gives itself. Suspends for as long
/// as the system's resolver takes: seconds when no name server answers. A context that is done meanwhile is
/// noticed afterwards.
inline result<std::vector<endpoint>> resolve(std::string_view host) {
    return detail::resolve_host(host, 0, nullptr);
}
inline result<std::vector<endpoint>> resolve(std::string_view host, const context& ctx) {
    return detail::resolve_host(host, 0, sched::source_of(ctx));
}

} // namespace mpg::net
