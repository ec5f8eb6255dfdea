// Profiles of contention, as Go's runtime takes them: `block` says where tasks wait for each other and how long, `mutex`
// who holds the locks that others wait for.
//
// Both are off until a rate is set. A task that has waited comes here after its wait, one that lets others have a lock
// after that; those that are sampled unwind their own stack, from a copy, and add to a table. Tables, unwinders and
// generators stand in shards, so that tasks on several Ps seldom meet.
#pragma once

#include <mpg/base/random.hpp>
#include <mpg/debug/own_stack.hpp>
#include <mpg/debug/profile.hpp>
#include <mpg/sched/park.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <unordered_map>
#include <utility>

namespace mpg::debug {

namespace detail {

class contention_profiler {
  public:
    enum kind : unsigned { block, mutex };
    struct count {
        double times = 0, time = 0; // estimates: a sample stands for those like it that were not taken
    };
    using counts = std::map<call_stack, count>;

    static contention_profiler& instance() {
        static contention_profiler& p = *new contention_profiler;
        return p;
    }

    /// What it was. n < 0: only asks.
    std::int64_t set_rate(kind k, std::int64_t n) {
        std::lock_guard hold(control_);
        const std::int64_t before = rates_[k].load(std::memory_order_relaxed);
        if (n >= 0) {
            rates_[k].store(n, std::memory_order_relaxed);
            auto on = [this](kind which) { return rates_[which].load(std::memory_order_relaxed) > 0; };
            sched::registry::instance().watch_contention(on(block) ? &waited : nullptr, on(mutex) ? &released : nullptr);
        }
        return before;
    }
    std::int64_t rate(kind k) const noexcept { return rates_[k].load(std::memory_order_relaxed); }

    /// Since the process began.
    counts take(kind k) {
        counts all;
        for (shard& s : shards_) {
            std::vector<std::pair<call_stack, count>> some;
            {
                std::lock_guard hold(s.lock);
                some.assign(s.tables[k].begin(), s.tables[k].end());
            }
            for (auto& [stack, n] : some) {
                count& sum = all[stack];
                sum.times += n.times;
                sum.time += n.time;
            }
        }
        return all;
    }
    std::uint64_t lost() const noexcept { return lost_.load(std::memory_order_relaxed); }

  private:
    static constexpr std::size_t shard_count = 16;

    struct alignas(base::cache_line) shard {
        base::spinlock lock; // guards all below. Who holds it is not preempted, and may allocate: others take other shards
        base::random random{reinterpret_cast<std::uintptr_t>(this)};
        own_stack stack;
        std::unordered_map<call_stack, count, hash_frames> tables[2];
    };

    // As Go: waits shorter than the rate are taken with a probability that makes them count for as much as they should.
    MPG_NOINLINE static void waited(sched::wait_reason why, base::nanos time, const void* caller) noexcept {
        if (!is_contention(why)) return;
        instance().note(block, time, caller, registers_here());
    }
    MPG_NOINLINE static void released(sched::wait_reason, base::nanos time, const void* caller) noexcept {
        instance().note(mutex, time, caller, registers_here());
    }
    static constexpr bool is_contention(sched::wait_reason why) noexcept {
        using enum sched::wait_reason;
        switch (why) {
        case none:
        case sleep:
        case io_read:
        case io_write:
        case io_accept:
        case io_connect:
        case io_file:
        case blocking:
        case thread_lock:
        case stopped: return false;
        default: return true;
        }
    }

    void note(kind k, base::nanos time, const void* caller, const register_set& here) noexcept {
        const std::int64_t rate = rates_[k].load(std::memory_order_relaxed);
        sched::task* t = sched::this_machine()->cur;
        if (rate <= 0 || !t->stack) return;
        time = std::max<base::nanos>(time, 1);
        const std::size_t first = std::hash<const void*>{}(sched::this_machine()) / 64;
        for (std::size_t i = 0; i < shard_count; ++i) {
            shard& s = shards_[(first + i) % shard_count];
            if (!s.lock.try_lock()) continue;
            std::lock_guard hold(s.lock, std::adopt_lock);
            count add{1, static_cast<double>(time)};
            if (k == mutex) {
                if (rate > 1 && s.random.next() % static_cast<std::uint64_t>(rate) != 0) return;
                add = {static_cast<double>(rate), add.time * static_cast<double>(rate)};
            } else if (time < rate) {
                if (s.random.next() % static_cast<std::uint64_t>(rate) > static_cast<std::uint64_t>(time)) return;
                add = {static_cast<double>(rate) / add.time, static_cast<double>(rate)};
            }
            try {
                count& sum = s.tables[k][s.stack.from(caller, here)];
                sum.times += add.times;
                sum.time += add.time;
            } catch (...) { // no memory
                lost_.fetch_add(1, std::memory_order_relaxed);
            }
            return;
        }
        lost_.fetch_add(1, std::memory_order_relaxed);
    }
    std::mutex control_;
    base::atomic<std::int64_t> rates_[2] = {};
    base::atomic<std::uint64_t> lost_{0};
    shard shards_[shard_count];
};

/// Since the process began.
inline profile contention_profile(contention_profiler::kind k) {
    contention_profiler& from = contention_profiler::instance();
    profile p;
    p.types = {{"contentions", "count"}, {"delay", "nanoseconds"}};
    p.period_type = {"contentions", "count"};
    p.period = k == contention_profiler::mutex ? from.rate(k) : 1;
    p.start = std::chrono::system_clock::now();
    for (const auto& [stack, n] : from.take(k))
        p.samples.push_back({stack, {static_cast<std::int64_t>(n.times + 0.5), static_cast<std::int64_t>(n.time)}});
    std::sort(p.samples.begin(), p.samples.end(), [](const auto& a, const auto& b) { return a.values[1] > b.values[1]; });
    if (auto n = from.lost()) p.comments.push_back(std::to_string(n) + " samples were lost");
    return p;
}

} // namespace detail

/// As Go's runtime.SetBlockProfileRate: samples one wait for each `rate` nanoseconds that tasks spend waiting for each
/// other (channels, select, sync, joins; not for I/O and time). 1: every one; 0: none, which is how a process begins. What
/// was sampled is kept. Of all runtimes, also of those that start later. While it is on, a wait costs two looks at the
/// clock, and one that is sampled a few microseconds.
inline void set_block_profile_rate(std::int64_t rate) {
    (void)detail::contention_profiler::instance().set_rate(detail::contention_profiler::block, std::max<std::int64_t>(rate, 0));
}

/// As Go's runtime.SetMutexProfileFraction: samples one of `rate` events in which a task gives up a mutex or shared_mutex
/// that others wait for, with the stack of the one who gives it up. 0: none; negative: changes nothing. Returns what it
/// was. Plain threads are not sampled.
inline int set_mutex_profile_fraction(int rate) {
    return static_cast<int>(detail::contention_profiler::instance().set_rate(detail::contention_profiler::mutex, rate));
}

} // namespace mpg::debug
