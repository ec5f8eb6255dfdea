// P: a slot of parallelism. A machine runs tasks only while it holds one.
#pragma once

#include <mpg/base/spinlock.hpp>
#include <mpg/fiber/stack_pool.hpp>
#include <mpg/sched/global_queue.hpp>
#include <mpg/sched/machine.hpp>
#include <mpg/sched/poller.hpp>
#include <mpg/sched/run_queue.hpp>
#include <mpg/sched/timer_wheel.hpp>

#include <memory>

namespace mpg::sched {

/// Its owner is the machine that holds it. Lines by writer.
struct alignas(base::cache_line) processor {
    processor(runtime_state& r, unsigned i, fiber::stack_pool& pool, global_queue& global)
        : rt(&r), index(i), stacks(pool), tokens(global), wheel(wheel_store::take()) {}
    ~processor() { wheel_store::give(wheel); }

    // The owner's alone.
    runtime_state* rt;
    unsigned index;
    task* runnext = nullptr; // the task that the current one has woken: runs next
    std::uint32_t tick = 0;  // switches; every 61st goes the fair way
    bool alone = false;      // the only P: nobody steals
    fiber::stack_cache stacks;
    task* free_tasks = nullptr;
    std::uint32_t free_count = 0;
    std::uint64_t next_id = 0, end_id = 0;
    base::nanos idle_gap = 0; // how long this P lately had nothing to do (moving average): spin or sleep?
    global_queue::tokens tokens;

    // The time at the owner's last visit to the scheduler: what a wait's start is taken from.
    base::atomic<base::nanos> clock{base::now()};

    // Counters: the owner writes, statistics read.
    base::atomic<std::uint64_t> created{0}, ended{0}, steals{0};

    // Shared.
    alignas(base::cache_line) base::atomic<bool> attention{false}; // a stop: come to the scheduler
    base::atomic<machine*> m{nullptr}; // who holds it; under idle_lock where it becomes or stops being null
    base::atomic<std::uint32_t> seen_tick{0}; // tick, published for the housekeeper at each scheduler visit
    bool idle = false;                 // on the idle list; idle_lock
    bool stopped = false;              // gave up its tasks for the stop; idle_lock
    processor* next_idle = nullptr;    // idle_lock
    timer_wheel* wheel;
    std::unique_ptr<poller> poll;
    base::spinlock poll_lock; // held by who is in poll->poll()
    run_queue ring;
};

/// Counters with one writer: no read-modify-write.
inline void bump(base::atomic<std::uint64_t>& counter) noexcept {
    counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

} // namespace mpg::sched
