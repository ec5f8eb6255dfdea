// Names to addresses.
#pragma once

#include <mpg/cancel/context.hpp>
#include <mpg/chan/chan.hpp>
#include <mpg/io/syscall.hpp>
#include <mpg/net/address.hpp>
#include <mpg/sched/blocking.hpp>
#include <mpg/sched/cancel.hpp>
#include <mpg/sched/go.hpp>
#include <mpg/sync/semaphore.hpp>

#include <algorithm>
#include <memory>
#include <netdb.h>
#include <string>
#include <system_error>
#include <utility>
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

/// How many look-ups may be under way at once, each of which holds a thread; as many wait in the libraries'
/// queues elsewhere. Further ones wait here.
inline constexpr std::size_t most_lookups = 64;
[[gnu::visibility("default")]] inline semaphore& lookup_places() {
    static semaphore* const it =
        new semaphore(most_lookups); // never destroyed: threads may look up until the end
    return *it;
}
/// One of them.
class lookup_place {
  public:
    lookup_place() noexcept
        : held_(true) {}
    lookup_place(lookup_place&& other) noexcept
        : held_(std::exchange(other.held_, false)) {}
    lookup_place& operator=(lookup_place&&) = delete;
    ~lookup_place() {
        if (held_) lookup_places().release(1);
    }

  private:
    bool held_;
};

/// The system's resolver cannot be interrupted: a task of its own waits for it, and this one for that or for
/// cancel.
inline std::error_code look_up_apart(std::string_view host, std::uint16_t port, sched::cancel_source& cancel,
                                     lookup_place place, std::vector<endpoint>& to) {
    struct state {
        std::string host;
        std::error_code error;
        std::vector<endpoint> found;
        chan<bool> done{1};
    };
    auto shared = std::make_shared<state>();
    shared->host = host;
    go([shared, port, held = std::move(place)] {
        blocking([&] { shared->error = look_up(shared->host, port, AI_ADDRCONFIG, shared->found); });
        shared->done.send(true);
    });
    bool done = false;
    channels::recv_limited(channels::access::of(shared->done), done, duration::max(), &cancel);
    if (!done) return {};
    to = std::move(shared->found);
    return shared->error;
}

/// The addresses of a host, without repeats, in the order of RFC 6724. A number is not looked up.
inline result<std::vector<endpoint>> resolve_host(std::string_view host, std::uint16_t port,
                                                  const context& ctx) {
    sched::cancel_source* const cancel = sched::source_of(ctx);
    std::vector<endpoint> found(1);
    if (parse_host(host, port, found.front())) return found;
    found.clear();
    if (host.empty() || host.find('\0') != host.npos)
        return unexpected(make_error_code(address_errc::bad_host));
    if (cancel && cancel->is_done()) return unexpected(cancel->err());
    if (const std::error_code no_place = lookup_places().acquire(ctx)) return unexpected(no_place);
    lookup_place place;
    std::error_code e;
    const sched::task* self = sched::current();
    if (!cancel || self->is_thread() || self->blocking != 0) {
        blocking([&] { e = look_up(std::string(host), port, AI_ADDRCONFIG, found); });
        if (cancel && cancel->is_done()) return unexpected(cancel->err());
    } else if (e = look_up_apart(host, port, *cancel, std::move(place), found); cancel->is_done()) {
        return unexpected(cancel->err());
    }
    if (e) return unexpected(e);
    return found;
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
/// as the system's resolver takes (seconds when no name server answers); 64 at once, further ones wait. A
/// task whose context is done meanwhile returns at once, and the look-up ends by itself later; a plain thread
/// notices it afterwards.
inline result<std::vector<endpoint>> resolve(std::string_view host) {
    return detail::resolve_host(host, 0, context::background());
}
inline result<std::vector<endpoint>> resolve(std::string_view host, const context& ctx) {
    return detail::resolve_host(host, 0, ctx);
}

} // namespace mpg::net
