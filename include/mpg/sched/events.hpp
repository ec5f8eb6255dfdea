// What the flight recorder keeps: for each P a ring of events, which the machine that holds the P writes.
//
// An event is 16 bytes: a stamp of the CPU's counter with the kind of event, and what it is about. Where two things happen
// in the same breath (a task blocks and the next one runs) the second takes the stamp of the first, for reading the
// counter is what costs most.
#pragma once

#include <mpg/base/atomic.hpp>
#include <mpg/base/config.hpp>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace mpg::sched {

/// False in a program compiled with MPG_UNOBSERVED, all of it: no probes, no recorder, no samples of latencies, no profiles
/// of contention. Only to measure what they cost while nobody looks (scripts/look-cost).
#if defined(MPG_UNOBSERVED)
inline constexpr bool observable = false;
#else
inline constexpr bool observable = true;
#endif

enum class trace_event : std::uint8_t {
    create,  // about: the task's id. A `site` follows
    site,    // about: an address in the code that created it
    start,   // the task's id
    block,   // the task's id, and why in the top byte
    ready,   // the task's id
    end,     // the task's id
    steal,   // the victim's index, and how many tasks in the upper half
    handoff, // the P's index
    preempt, // the task's id
};

MPG_ALWAYS_INLINE std::uint64_t cpu_ticks() noexcept {
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#else
    std::uint64_t t;
    asm volatile("mrs %0, cntvct_el0" : "=r"(t));
    return t;
#endif
}

struct event_entry {
    std::uint64_t stamp; // ticks << 8 | trace_event: unique for months
    std::uint64_t about;

    trace_event what() const noexcept { return static_cast<trace_event>(stamp & 0xff); }
};

/// Read while it is written, without a lock: the reader throws away what may have been overwritten meanwhile. Number n is
/// stored before `written` says n + 1, and at most two are on the way at a time. A reader that takes `written`, the
/// entries, a barrier for all threads (membarrier) and `written` again so knows: if it has seen anything of number m, the
/// second count is at least m - 1. The two words of an entry are written one by one, so one that is being overwritten
/// may be half old; it is among those thrown away.
class event_ring {
  public:
    explicit event_ring(std::size_t size)
        : mask_(std::bit_ceil(std::max<std::size_t>(size, 16)) - 1), entries_(std::make_unique<slot[]>(mask_ + 1)) {}

    // Its one writer at that time.

    MPG_ALWAYS_INLINE void write(trace_event e, std::uint64_t about) noexcept {
        last_ = cpu_ticks() << 8;
        write_at_once(e, about);
    }
    /// With the stamp of the event before.
    MPG_ALWAYS_INLINE void write_at_once(trace_event e, std::uint64_t about) noexcept {
        const std::uint64_t n = written_.load(std::memory_order_relaxed);
        put(n, last_, e, about);
        written_.store(n + 1, std::memory_order_release); // pairs with: written
    }
    /// Both, with one stamp: a hand-over.
    MPG_ALWAYS_INLINE void write_both(trace_event e, std::uint64_t about, trace_event then, std::uint64_t then_about) noexcept {
        const std::uint64_t n = written_.load(std::memory_order_relaxed), now = cpu_ticks() << 8;
        last_ = now;
        put(n, now, e, about);
        put(n + 1, now, then, then_about);
        written_.store(n + 2, std::memory_order_release); // pairs with: written
    }

    // Anybody.

    /// How many events there have been; of those the last capacity() are there, but for those being written.
    std::uint64_t written() const noexcept { return written_.load(std::memory_order_acquire); } // pairs with: write
    static constexpr std::uint64_t at_a_time = 2;
    std::size_t capacity() const noexcept { return mask_ + 1; }
    /// Number n, if it is still there.
    event_entry at(std::uint64_t n) const noexcept {
        const slot& s = entries_[n & mask_];
        return {s.stamp.load(std::memory_order_relaxed), s.about.load(std::memory_order_relaxed)};
    }

  private:
    struct slot {
        base::atomic<std::uint64_t> stamp{0}, about{0};
    };
    static_assert(sizeof(slot) == 16);

    MPG_ALWAYS_INLINE void put(std::uint64_t n, std::uint64_t stamp, trace_event e, std::uint64_t about) noexcept {
        slot& s = entries_[n & mask_];
        s.stamp.store(stamp | static_cast<std::uint64_t>(e), std::memory_order_relaxed); // both: see above
        s.about.store(about, std::memory_order_relaxed);
    }

    // The writer's line: readers come seldom.
    base::atomic<std::uint64_t> written_{0};
    std::uint64_t last_ = 0;
    const std::uint64_t mask_;
    const std::unique_ptr<slot[]> entries_;
};

} // namespace mpg::sched
