// Names to addresses: how many look-ups at once, who waits for which, and what is remembered.
//
// The system's resolver blocks its thread, cannot be interrupted, and does not tell how long an answer holds. So each
// look-up is a task of its own that several may wait for (those who ask for the same name meanwhile), any of whom may
// give up; and an answer is used again for a short time only.
#pragma once

#include <mpg/base/clock.hpp>
#include <mpg/base/intrusive_list.hpp>
#include <mpg/base/spinlock.hpp>
#include <mpg/cancel/context.hpp>
#include <mpg/chan/chan.hpp>
#include <mpg/io/result.hpp>
#include <mpg/net/address.hpp>
#include <mpg/sched/blocking.hpp>
#include <mpg/sched/cancel.hpp>
#include <mpg/sched/go.hpp>
#include <mpg/sync/semaphore.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <netdb.h>
#include <string>
#include <string_view>
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

struct resolver_options {
    /// How long an answer is used again; 0: not at all. The system does not tell how long it holds.
    std::chrono::nanoseconds ttl = std::chrono::seconds(1);
    /// The same for "there is no such host" (EAI_NONAME). Other errors are never kept.
    std::chrono::nanoseconds negative_ttl{0};
    std::size_t max_entries = 1024; // the oldest go first
    /// Look-ups under way at once, each of which holds a thread; further ones wait.
    std::size_t max_lookups = 64;
    /// Appends the addresses of a host, with port 0, best first; may block its thread. When it is empty:
    /// getaddrinfo.
    std::function<std::error_code(const std::string& host, std::vector<endpoint>& to)> look_up{};
};

struct resolver_stats {
    std::uint64_t hits = 0;     // answered from memory
    std::uint64_t joined = 0;   // waited for a look-up that somebody else had begun
    std::uint64_t look_ups = 0; // begun
    std::uint64_t dropped = 0;  // of these, for which nobody waited any more when there was a place
    std::size_t entries = 0;    // remembered
};

namespace detail {

/// Blocks. A leaf, since it reads errno.
MPG_NOINLINE inline std::error_code ask_system(const std::string& host, std::vector<endpoint>& to) {
    ::addrinfo hints{}, *list = nullptr;
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_ADDRCONFIG;
    const int e = ::getaddrinfo(host.c_str(), nullptr, &hints, &list);
    if (e == EAI_SYSTEM) return {errno, std::system_category()};
    if (e != 0) return {e, resolver_category()};
    const std::unique_ptr<::addrinfo, void (*)(::addrinfo*)> owner(list, ::freeaddrinfo);
    for (const ::addrinfo* a = list; a; a = a->ai_next) to.push_back(endpoint(a->ai_addr, a->ai_addrlen));
    return {};
}

/// Shared by a resolver, and by the look-ups under way, which may outlive it.
class resolver_core : public std::enable_shared_from_this<resolver_core> {
  public:
    explicit resolver_core(resolver_options o)
        : options_(std::move(o))
        , places_(options_.max_lookups ? options_.max_lookups : 1) {
        if (!options_.look_up) options_.look_up = ask_system;
    }

    /// The addresses of a name. Precondition: cancel is not done yet.
    std::error_code resolve(std::string_view host, std::vector<endpoint>& to, sched::cancel_source* cancel);
    /// Look-ups under way are not affected.
    void clear() {
        names dead;
        std::lock_guard hold(lock_);
        while (entry* e = kept_.pop_front()) dead.insert(names_.extract(e->host));
        stats_.entries = 0;
    }
    resolver_stats stats() const {
        std::lock_guard hold(lock_);
        return stats_;
    }

  private:
    struct entry : base::list_hook { // linked in kept_ when it is remembered
        explicit entry(std::string_view h)
            : host(h) {}
        const std::string host;
        chan<void> done; // closed with the answer
        // Guarded by lock_; error and found are constant once `answered`.
        std::error_code error = errc::cancelled;
        std::vector<endpoint> found;
        bool answered = false;
        base::nanos expires = 0;
        std::size_t waiting = 0; // strands
    };
    using entry_ptr = std::shared_ptr<entry>;
    using names = std::map<std::string_view, entry_ptr>; // keys are the entries' own

    /// Held by the task that looks up; ends the look-up when that has not come to it.
    struct look_up_task {
        std::shared_ptr<resolver_core> core;
        entry_ptr e;
        look_up_task(std::shared_ptr<resolver_core> c, entry_ptr x) noexcept
            : core(std::move(c))
            , e(std::move(x)) {}
        look_up_task(look_up_task&&) noexcept = default;
        look_up_task& operator=(look_up_task&&) = delete;
        ~look_up_task() {
            if (core) core->answer(*e, errc::cancelled, {});
        }
        void operator()() { core->look_up(*e); }
    };

    /// The one for a name, counted as waited for; true: the caller has to start its look-up.
    std::pair<entry_ptr, bool> join(std::string_view host);
    void look_up(entry& e);
    void answer(entry& e, std::error_code error, std::vector<endpoint> found);

    resolver_options options_; // constant
    semaphore places_;
    mutable base::spinlock lock_;       // guards what follows; nothing is allocated or freed under it
    names names_;                       // of the look-ups under way, and remembered
    base::intrusive_list<entry> kept_; // the remembered, oldest first
    resolver_stats stats_;
};

inline std::pair<resolver_core::entry_ptr, bool> resolver_core::join(std::string_view host) {
    names::node_type stale, fresh;
    entry_ptr mine;
    for (;;) {
        {
            const base::nanos now = base::now();
            std::lock_guard hold(lock_);
            auto at = names_.find(host);
            if (at != names_.end() && at->second->answered && at->second->expires <= now) {
                base::intrusive_list<entry>::erase(*at->second);
                --stats_.entries;
                stale = names_.extract(at);
                at = names_.end();
            }
            if (at != names_.end()) {
                ++(at->second->answered ? stats_.hits : stats_.joined);
                ++at->second->waiting;
                return {at->second, false};
            }
            if (mine) {
                ++stats_.look_ups;
                mine->waiting = 1;
                names_.insert(std::move(fresh));
                return {mine, true};
            }
        }
        mine = std::make_shared<entry>(host);
        names alone;
        alone.emplace(mine->host, mine);
        fresh = alone.extract(alone.begin());
    }
}

inline std::error_code resolver_core::resolve(std::string_view host, std::vector<endpoint>& to,
                                              sched::cancel_source* cancel) {
    const sched::task* self = sched::current();
    if (self->is_thread() || self->blocking != 0) { // it holds a thread already: no need for another task
        const std::error_code e = options_.look_up(std::string(host), to);
        return cancel && cancel->is_done() ? cancel->err() : e;
    }
    auto [e, first] = join(host);
    struct leaver {
        resolver_core& core;
        entry& of;
        ~leaver() {
            std::lock_guard hold(core.lock_);
            --of.waiting;
        }
    } leave{*this, *e};
    if (first) go(look_up_task(shared_from_this(), e));
    channels::nothing none;
    const chan_status s =
        channels::recv_limited(channels::access::of(e->done), none, duration::max(), cancel);
    if (s == chan_status::cancelled) return cancel->err();
    to.insert(to.end(), e->found.begin(), e->found.end());
    return e->error;
}

inline void resolver_core::look_up(entry& e) {
    places_.acquire();
    struct releaser {
        semaphore& of;
        ~releaser() { of.release(); }
    } release{places_};
    names::node_type dead;
    {
        std::lock_guard hold(lock_);
        if (e.waiting == 0) { // nobody can join it any more once it is out of the map
            ++stats_.dropped;
            dead = names_.extract(e.host);
        }
    }
    if (dead) return;
    std::vector<endpoint> found;
    const std::error_code error = blocking([&] { return options_.look_up(e.host, found); });
    answer(e, error, std::move(found));
}

inline void resolver_core::answer(entry& e, std::error_code error, std::vector<endpoint> found) {
    names::node_type gone, oldest;
    {
        const bool missing = error == std::error_code(EAI_NONAME, resolver_category());
        const auto ttl = !error ? options_.ttl : missing ? options_.negative_ttl : std::chrono::nanoseconds(0);
        const base::nanos expires = base::deadline_after(ttl);
        std::lock_guard hold(lock_);
        if (e.answered) return;
        e.answered = true;
        e.error = error;
        e.found.swap(found);
        e.expires = expires;
        auto at = names_.find(e.host);
        const bool listed = at != names_.end() && at->second.get() == &e;
        if (listed && ttl.count() > 0 && options_.max_entries != 0) {
            kept_.push_back(e);
            if (++stats_.entries > options_.max_entries) {
                oldest = names_.extract(kept_.pop_front()->host);
                --stats_.entries;
            }
        } else if (listed) {
            gone = names_.extract(at);
        }
    }
    e.done.close();
}

} // namespace detail

/// Looks names up, with a memory and a limit of its own. Any strand may use it at any time; it may go away while
/// look-ups are under way. Every runtime has one, which resolve() and connecting use: configure_resolver.
class resolver {
  public:
    explicit resolver(resolver_options options = {})
        : core_(std::make_shared<detail::resolver_core>(std::move(options))) {}

    /// See net::resolve.
    result<std::vector<endpoint>> resolve(std::string_view host) { return get(host, nullptr); }
    result<std::vector<endpoint>> resolve(std::string_view host, const context& ctx) {
        return get(host, sched::source_of(ctx));
    }
    /// Forgets what it remembers.
    void clear() { core_->clear(); }
    resolver_stats stats() const { return core_->stats(); }

  private:
    result<std::vector<endpoint>> get(std::string_view host, sched::cancel_source* cancel);

    std::shared_ptr<detail::resolver_core> core_;
};

} // namespace mpg::net
