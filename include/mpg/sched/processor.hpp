// P: a slot of parallelism. A machine runs tasks only while it holds one.
#pragma once

#include <mpg/base/spinlock.hpp>
#include <mpg/fiber/stack_pool.hpp>
#include <mpg/sched/biased_lock.hpp>
#include <mpg/sched/bump.hpp>
#include <mpg/sched/events.hpp>
#include <mpg/sched/global_queue.hpp>
#include <mpg/sched/machine.hpp>
#include <mpg/sched/options.hpp>
#include <mpg/sched/poller.hpp>
#include <mpg/sched/recycled.hpp>
#include <mpg/sched/run_queue.hpp>

#include <memory>

namespace mpg::sched {

/// Why a machine must come to its scheduler at the next switch: set by others, cleared by the owner. And, in the same word, why it
/// must not take the short ways, which tell nobody what they do: so these pay nothing for those who might look on.
namespace attention {
inline constexpr std::uint32_t stop = 1;   // the runtime stops
inline constexpr std::uint32_t slice = 2;  // tasks hand over to each other by runnext for longer than a slice
inline constexpr std::uint32_t capped = 4; // enough tasks are frozen: start no fresh ones
inline constexpr std::uint32_t to_scheduler = stop | slice | capped;
inline constexpr std::uint32_t recorded = 8;  // the flight recorder is on
inline constexpr std::uint32_t profiled = 16; // contention is
} // namespace attention

class timer_wheel; // whose lock is at home on a P
timer_wheel* take_wheel();
void give_wheel(timer_wheel* w) noexcept;

/// Its owner is the machine that holds it. Lines by writer.
struct alignas(base::cache_line) processor {
    processor(runtime_state& r, unsigned i, fiber::stack_pool& pool, global_queue& global)
        : rt(&r), index(i), stacks(pool), tokens(global), wheel(take_wheel()) {}
    ~processor() {
        give_wheel(wheel); // which locks it at home for the last time
        if (locks) home_store::give(locks);
    }

    // The owner's alone.
    runtime_state* rt;
    unsigned index;
    base::atomic<task*> runnext{nullptr}; // the task that the current one has woken: runs next. The monitor looks
    bool alone = false;      // the only P: nobody steals
    home* locks = nullptr;   // of those that are made here; null: without membarrier
    std::uint64_t homeless = 0; // locks that were made since that was closed
    base::atomic<base::nanos> last_thaw{0}; // when a frozen task last got this P
    base::atomic<int> cpu{-1};    // where it was when it was last given away in the middle of a task (same_cpu.hpp)
    base::nanos chain_since = 0; // since when no slice began; looked at every 61st switch
    base::nanos last_chain = 0;  // how long the last chain of hand-overs was that had to be ended
    std::uint32_t chain_slices = 0;
    fiber::stack_cache stacks;
    task* free_tasks = nullptr; // records.hpp
    task* full_batch = nullptr;
    std::uint32_t free_count = 0; // of free_tasks
    std::uint64_t next_id = 0, end_id = 0;
    block_cache blocks;
    base::nanos visited = base::never; // the last visit to the scheduler; never: it slept since
    bool others_turn = true;           // see precedence.hpp
    std::int64_t freezes = 0;          // slices of it that a freeze has ended; what follows are values of it
    std::int64_t admitted = -(1 << 20); // when others were let in although enough were frozen; at first: long ago
    std::int64_t betrayed = -(1 << 20); // when one that was trusted not to compute had to be frozen
    const task* trusted = nullptr;     // the last one that was
    base::nanos idle_gap = 0; // how long this P lately had nothing to do (moving average): spin or sleep?
    global_queue::tokens tokens;
    std::unique_ptr<event_ring> events; // of the flight recorder; constant once it is there

    // The time at the owner's last visit to the scheduler, or the monitor's last look: what a wait's start is taken from.
    base::atomic<base::nanos> clock{base::now()};

    // The owner writes, statistics and the monitor read.
    base::atomic<bool> awaited{false};     // some may stand in the ring who go first (precedence.hpp)
    base::atomic<std::uint32_t> tick{0};   // switches; every 61st goes the fair way
    base::atomic<std::uint32_t> slices{0}; // those of them that begin a time slice: all but the ones to runnext
    base::atomic<std::uint64_t> created{0}, ended{0}, steals{0};
    base::atomic<std::uint64_t> latency[latency_histogram::size]{}, waited[latency_histogram::size]{}; // see latency.hpp

    // Shared.
    alignas(base::cache_line) base::atomic<std::uint32_t> attention{0}; // bits of attention
    base::atomic<machine*> m{nullptr}; // who holds it; under idle_lock where it becomes or stops being null
    bool idle = false;                 // on the idle list; idle_lock
    bool stopped = false;              // gave up its tasks for the stop; idle_lock
    processor* next_idle = nullptr;    // idle_lock
    timer_wheel* wheel;
    std::unique_ptr<poller> poll;
    base::spinlock poll_lock; // held by who is in poll->poll()
    base::atomic<std::uint64_t> polls{0}, polled{0}; // such calls, and tasks that they have woken; written under poll_lock
    run_queue ring;

    /// Its machine is to come to the scheduler.
    bool called() const noexcept { return (attention.load(std::memory_order_relaxed) & attention::to_scheduler) != 0; }
    /// Neither that, nor does anybody look on.
    bool undisturbed() const noexcept { return attention.load(std::memory_order_relaxed) == 0; }
    void set_attention(std::uint32_t bit, bool on) noexcept {
        if (on)
            attention.fetch_or(bit, std::memory_order_relaxed);
        else
            attention.fetch_and(~bit, std::memory_order_relaxed);
    }
};

} // namespace mpg::sched

#include <mpg/sched/timer_wheel.hpp>
