// What counts as a stall, and that it is told once: a task that computes, or blocks its thread, for longer than
// options::stall_after while others wait. The monitor asks; stall.hpp tells the user.
#pragma once

#include <mpg/sched/overflow.hpp>
#include <mpg/sched/scheduler.hpp>
#include <mpg/sched/thread_sight.hpp>

#include <algorithm>

namespace mpg::sched {

/// With an idle P the others find what waits, but for runnext.
inline bool others_can_go_on(const runtime_state& rt, const processor& p) noexcept {
    return rt.idle_count.load(std::memory_order_relaxed) != 0 && !p.runnext.load(std::memory_order_relaxed);
}

/// The monitor's own.
class stall_watch {
  public:
    explicit stall_watch(runtime_state& rt) noexcept : rt_(rt) {}

    /// m has computed with tick on p. next: lowered to when to look again.
    void computes(processor& p, machine& m, std::uint32_t tick, base::nanos now, base::nanos& next) noexcept {
        const base::nanos limit = rt_.opts.stall_after.count();
        if (m.stalled || limit <= 0 || others_can_go_on(rt_, p)) return;
        const base::nanos used = cpu_time(m.tid.load(std::memory_order_relaxed)) - m.stint_cpu;
        if (used < limit) {
            next = std::min(next, now + std::max(limit - used, limit / 8));
            return;
        }
        m.stalled = found(m, stall::reason::computes, used, [&] { return holds(p, m, tick); });
    }

    /// m's thread has slept since then, outside the runtime, with tick on p. True: that was a stall.
    bool blocks(processor& p, machine& m, std::uint32_t tick, base::nanos since, base::nanos now, base::nanos& next) noexcept {
        if (others_can_go_on(rt_, p)) return false;
        return blocks_since(m, since, now, next, [&] { return holds(p, m, tick); });
    }

    /// The same, without a P: it was taken away.
    bool blocks(machine& m, base::nanos since, base::nanos now, base::nanos& next) noexcept {
        return blocks_since(m, since, now, next, [&] { return m.retaken.load(std::memory_order_relaxed) == retake::taken; });
    }

  private:
    static bool holds(processor& p, machine& m, std::uint32_t tick) noexcept {
        return p.tick.load(std::memory_order_relaxed) == tick && p.m.load(std::memory_order_relaxed) == &m &&
               m.in_runtime.load(std::memory_order_acquire) == 0; // pairs with: leave_runtime
    }
    template <class Still>
    bool blocks_since(machine& m, base::nanos since, base::nanos now, base::nanos& next, Still still) noexcept {
        const base::nanos limit = rt_.opts.stall_after.count();
        if (limit <= 0) return false;
        if (now - since < limit) {
            next = std::min(next, since + limit);
            return false;
        }
        return found(m, stall::reason::blocks, now - since, still);
    }
    /// Counts one, and leaves it to the reporter. still: does the machine still do what was seen?
    template <class Still> bool found(machine& m, stall::reason why, base::nanos so_long, Still still) noexcept {
        const task* t = read_racy(m.cur);
        if (!t) return false;
        const std::uint64_t id = read_racy(t->id);
        if (!still()) return false;
        rt_.stalls.fetch_add(1, std::memory_order_relaxed);
        if (rt_.reporter) rt_.reporter->note(m, *t, id, why, so_long);
        return true;
    }

    runtime_state& rt_;
};

} // namespace mpg::sched
