// select: waits for whichever of several cases can go on first.
#pragma once

#include <mpg/base/random.hpp>
#include <mpg/chan/select_case.hpp>
#include <mpg/chan/wait_many.hpp>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

namespace mpg {

namespace channels {

template <class C> inline constexpr bool is_channel_case = std::is_base_of_v<channel_case, C>;
template <class C> inline constexpr bool is_otherwise = std::is_base_of_v<otherwise_case, C>;

/// A select over a list of cases that is known at compile time.
template <class... Cases> class static_select {
    static constexpr std::size_t size = sizeof...(Cases);
    static constexpr std::size_t channel_count = (std::size_t{is_channel_case<Cases>} + ...);
    static constexpr std::size_t otherwise_count = (std::size_t{is_otherwise<Cases>} + ...);
    static_assert(otherwise_count <= 1, "mpg: a select has at most one otherwise");
    static_assert(size <= 64, "mpg: use select_set for so many cases");

  public:
    MPG_ALWAYS_INLINE static std::size_t run(Cases&... cases) {
        if constexpr (otherwise_count == 0) sched::suspension_point();
        (cases.begin(), ...);
        std::size_t chosen = choose(std::index_sequence_for<Cases...>(), cases...);
        std::size_t i = 0;
        (void)((i++ == chosen && (cases.handle(), true)) || ...);
        return chosen;
    }

  private:
    // A case that looks ready without its lock is tried with its lock alone: a select may go on with any case
    // that is ready at that moment. Among those that look ready each is equally likely. "None is ready" needs
    // all locks, but for a single channel, where the peek is as good (channel_core).
    template <std::size_t... I>
    MPG_ALWAYS_INLINE static std::size_t choose(std::index_sequence<I...>, Cases&... cases) {
        if (std::uint64_t ready = ((std::uint64_t{cases.looks_ready()} << I) | ...)) {
            std::size_t i = static_cast<std::size_t>(std::countr_zero(ready));
            if (ready & (ready - 1)) i = pick(ready);
            if (((i == I && go_on(cases)) || ...)) return i;
        } else if constexpr (otherwise_count == 1 && channel_count <= 1) {
            std::size_t i = 0;
            (void)((is_otherwise<Cases> || (++i, false)) || ...);
            return i;
        }
        return slow(cases...);
    }

    template <class C> MPG_ALWAYS_INLINE static bool go_on(C& c) {
        if constexpr (is_channel_case<C>) {
            c.core->lock.lock();
            c.peer = nullptr;
            c.result = c.attempt();
            return c.result == outcome::blocked ? (c.core->lock.unlock(), false) : conclude(c);
        } else {
            return true; // a context that is done
        }
    }

    static std::size_t pick(std::uint64_t ready) noexcept {
        std::uint32_t count = 0; // few bits: a loop is faster than the library's count
        for (std::uint64_t left = ready; left != 0; left &= left - 1) ++count;
        for (auto n = base::random::below(count, sched::random_bits()); n > 0; --n) ready &= ready - 1;
        return static_cast<std::size_t>(std::countr_zero(ready));
    }

    MPG_NOINLINE static std::size_t slow(Cases&... cases) {
        select_case* list[] = {&cases...};
        std::uint32_t order[size];
        channel_core* locks[size];
        return many_wait({list, size, order, locks}, many_ops<sched::wait_reason::select>).run();
    }
};

} // namespace channels

/// Waits until one of the cases can go on, does it, runs its handler, and returns its index. When several are
/// ready it chooses uniformly at random; a send case on a closed channel is ready, and throws channel_closed
/// when chosen. With an otherwise it does not wait. An exception of the handler passes through.
///
/// The handler runs in the caller's strand, when all channels are unlocked and nothing is queued any more, so
/// it may do anything. No allocation; a ready case costs one lock and a peek at each other case, a wait two
/// locks for each. After Go's runtime/select.go.
template <class... Cases> std::size_t select(Cases&&... cases) {
    if constexpr (sizeof...(Cases) == 0)
        channels::wait_forever(channels::forever_ops<sched::wait_reason::select_no_cases>);
    else
        return channels::static_select<std::remove_reference_t<Cases>...>::run(cases...);
}

} // namespace mpg
