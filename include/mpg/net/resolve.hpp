// Names to addresses.
#pragma once

#include <mpg/cancel/context.hpp>
#include <mpg/net/address.hpp>
#include <mpg/net/resolver.hpp>
#include <mpg/sched/attached.hpp>
#include <mpg/sched/cancel.hpp>
#include <mpg/sched/task.hpp>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace mpg::net {

namespace detail {

/// The addresses of a host with that port, best first. A number is not looked up. core() gives who looks up.
template <class Core>
result<std::vector<endpoint>> resolve_by(Core core, std::string_view host, std::uint16_t port,
                                         sched::cancel_source* cancel) {
    std::vector<endpoint> found(1);
    if (parse_host(host, port, found.front())) return found;
    found.clear();
    if (host.empty() || host.find('\0') != host.npos)
        return unexpected(make_error_code(address_errc::bad_host));
    if (cancel && cancel->is_done()) return unexpected(cancel->err());
    const std::shared_ptr<resolver_core> by = core();
    if (const std::error_code e = by->resolve(host, found, cancel)) return unexpected(e);
    if (port != 0)
        for (endpoint& e : found) e = e.with_port(port);
    return found;
}

/// The one of the runtime; a plain thread has none, and so no memory.
inline std::shared_ptr<resolver_core> current_resolver() {
    const sched::task* self = sched::current();
    auto make = [] { return std::make_shared<resolver_core>(resolver_options{}); };
    return self->is_thread() ? make() : sched::attached<resolver_core>(*self->rt, make);
}

inline result<std::vector<endpoint>> resolve_host(std::string_view host, std::uint16_t port,
                                                  const context& ctx) {
    return resolve_by(current_resolver, host, port, sched::source_of(ctx));
}

/// Calls make(endpoint) -> result<S> for the address that a text tells to bind to.
template <class Make>
auto bind_text(std::string_view address, Make make, bool v6_only = false)
    -> decltype(make(std::declval<const endpoint&>())) {
    const auto parts = split_host_port(address);
    if (!parts) return unexpected(parts.error());
    if (parts->host.empty()) {
        endpoint any;
        parse_host("::", parts->port, any);
        auto both = make(any);
        if (both || v6_only) return both;
        // No IPv6 here, or not for us.
        if (both.error() != std::errc::address_family_not_supported &&
            both.error() != std::errc::address_not_available)
            return both;
        parse_host("0.0.0.0", parts->port, any);
        return make(any);
    }
    const auto found = resolve_host(parts->host, parts->port, context::background());
    if (!found) return unexpected(found.error());
    // As Go: of several, an IPv4 address is preferred.
    const auto v4 = std::find_if(found->begin(), found->end(), [](auto& f) { return f.family() == AF_INET; });
    return make(v4 != found->end() ? *v4 : found->front());
}

/// The addresses that a text may mean, best first; never none.
inline result<std::vector<endpoint>> candidates_of(std::string_view address, const context& ctx) {
    const auto parts = split_host_port(address);
    if (!parts) return unexpected(parts.error());
    if (!parts->host.empty()) {
        auto found = resolve_host(parts->host, parts->port, ctx);
        if (found && found->empty())
            return unexpected(std::make_error_code(std::errc::address_not_available));
        return found;
    }
    std::vector<endpoint> here(2); // this machine
    parse_host("127.0.0.1", parts->port, here[0]);
    parse_host("::1", parts->port, here[1]);
    return here;
}

/// Calls make(endpoint) -> result<S> for each address that a text may mean, until one succeeds.
template <class S, class Make>
result<S> connect_text(std::string_view address, const context& ctx, Make make) {
    const auto candidates = candidates_of(address, ctx);
    if (!candidates) return unexpected(candidates.error());
    std::error_code last = std::make_error_code(std::errc::address_not_available);
    for (const endpoint& to : *candidates) {
        auto s = make(to);
        if (s || ctx.is_done()) return s;
        last = s.error();
    }
    return unexpected(last);
}

} // namespace detail

/// The addresses of a host, with port 0, best first (RFC 6724); a number gives itself. Suspends for as long
/// as the system's resolver takes (seconds when no name server answers). A task whose context is done meanwhile
/// returns at once, and the look-up ends by itself later; a plain thread notices it afterwards. Those who ask for
/// one name at once share a look-up, answers are used again for a second, and 64 look-ups are under way at most:
/// configure_resolver.
inline result<std::vector<endpoint>> resolve(std::string_view host) {
    return detail::resolve_host(host, 0, context::background());
}
inline result<std::vector<endpoint>> resolve(std::string_view host, const context& ctx) {
    return detail::resolve_host(host, 0, ctx);
}

/// How names are looked up in the caller's runtime from now on; what it remembers is forgotten.
/// std::errc::operation_not_permitted on a plain thread.
inline std::error_code configure_resolver(resolver_options options) {
    const sched::task* self = sched::current();
    if (self->is_thread()) return std::make_error_code(std::errc::operation_not_permitted);
    sched::attach(*self->rt, std::make_shared<detail::resolver_core>(std::move(options)));
    return {};
}

inline result<std::vector<endpoint>> resolver::get(std::string_view host, sched::cancel_source* cancel) {
    return detail::resolve_by([this] { return core_; }, host, 0, cancel);
}

} // namespace mpg::net
