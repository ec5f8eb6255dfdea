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
static_assert(sizeof(event_entry) == 16);

class event_ring {
  public:
    explicit event_ring(std::size_t size)
        : mask_(std::bit_ceil(std::max<std::size_t>(size, 16)) - 1), entries_(std::make_unique<event_entry[]>(mask_ + 1)) {}

    /// Its one writer at that time.
    MPG_ALWAYS_INLINE void write(trace_event e, std::uint64_t about) noexcept {
        last_ = cpu_ticks() << 8;
        write_at_once(e, about);
    }
    /// With the stamp of the event before.
    MPG_ALWAYS_INLINE void write_at_once(trace_event e, std::uint64_t about) noexcept {
        const std::uint64_t n = written_.load(std::memory_order_relaxed);
        entries_[n & mask_] = {last_ | static_cast<std::uint64_t>(e), about};
        written_.store(n + 1, std::memory_order_release); // pairs with: written
    }
    /// How many events there have been; of those the last capacity() are there, but for the one that is being written.
    std::uint64_t written() const noexcept { return written_.load(std::memory_order_acquire); } // pairs with: write
    std::size_t capacity() const noexcept { return mask_ + 1; }
    /// Number n: may be overwritten while one reads it.
    const event_entry& at(std::uint64_t n) const noexcept { return entries_[n & mask_]; }

  private:
    // The writer's line: readers come seldom.
    base::atomic<std::uint64_t> written_{0};
    std::uint64_t last_ = 0;
    const std::uint64_t mask_;
    const std::unique_ptr<event_entry[]> entries_;
};

} // namespace mpg::sched
