// The monitor (Go's sysmon): a thread without a P that sees to it that no task holds the others up.
//
// It looks at every P that has a machine. A P that has not switched since the last look, while work waits, is held by
//   - a task in a system call that nobody announced, or one that waits for a lock of the C++ library: its thread sleeps.
//     The P is retaken and given to another machine. The thread is left alone: no signal, so no EINTR.
//   - a task that computes: its thread runs. After preempt_after the thread is frozen (preempt.hpp).
//   - tasks that hand over to each other by runnext: their tick moves, but no slice begins. The machine is told to come
//     to its scheduler.
//
// Retaking. The hand-shake stands in retake.hpp. Its barrier is one that the kernel runs on all CPUs (membarrier). Where
// the kernel or a filter refuses that, the monitor looks whether the thread has been off its CPU since it stored `asking`:
// it has then gone through the kernel's own barriers, and so much for both.
//
// What the kernel tells of a thread: thread_sight.hpp; who is asked to freeze, and how: freeze_requests.hpp; what counts as a
// stall: stall_watch.hpp; how all of it begins and ends: start_monitor.hpp.
//
// When it looks. 20 us after a look that has found something, then twice as long each time, up to 10 ms (or
// preempt_after). When all Ps have been idle for 50 ms it sleeps until one is woken (wake_monitor); while all tasks
// are asleep and only a foreign thread can wake them, it looks once a second whether that thread is still there. Before it
// sleeps it gives the pages of stacks back that are not in use.
#pragma once

#include <mpg/sched/freeze_requests.hpp>
#include <mpg/sched/scheduler.hpp>
#include <mpg/sched/stall_watch.hpp>
#include <mpg/sched/thread_sight.hpp>

#include <linux/membarrier.h>
#include <sys/prctl.h>

#include <algorithm>
#include <utility>
#include <vector>

namespace mpg::sched {

class monitor {
  public:
    explicit monitor(runtime_state& rt) : rt_(rt), stalls_(rt), seen_(rt.ps.size()), requests_(rt, stalls_) {}

    void run() {
        ::prctl(PR_SET_TIMERSLACK, 1000ul); // 50 us would more than double the short sleeps
        base::nanos pause = least, idle_since = 0;
        while (!rt_.monitor_ends.load(std::memory_order_acquire)) {
            base::nanos now = base::now();
            const bool idle = rt_.idle_count.load(std::memory_order_seq_cst) == rt_.ps.size() &&
                              rt_.frozen_count.load(std::memory_order_relaxed) == 0 && requests_.empty();
            if (idle) {
                if (idle_since == 0) idle_since = now;
                check_deadlock(rt_);
                const bool trimmed = rt_.stacks.trim(kept_stacks) != 0;
                if (!trimmed && now - idle_since > deep_after) {
                    sleep_deeply();
                    pause = least;
                    idle_since = 0;
                    continue;
                }
                pause = std::min(pause * 2, most());
            } else {
                idle_since = 0;
                next_ = base::never;
                froze_ = false;
                const bool found = look(now);
                // Who follows a frozen one mostly computes as well; nothing is gained by looking at once.
                const base::nanos later = froze_ ? std::max(rt_.slice / 8, requests_.ahead()) : pause * 2;
                pause = found ? least : std::max(least, std::min({later, most(), next_ - now}));
            }
            futex_wait(rt_.monitor_word, monitor_awake, now + pause);
        }
    }

  private:
    static constexpr base::nanos least = 20'000, deep_after = 50'000'000, look_again = 1'000'000'000, hand_over_slice = 5'000'000;
    static constexpr base::nanos spare_arrives = 200'000, stuck_after = 1'000'000;
    static constexpr std::size_t kept_stacks = 256; // beside those that the Ps keep

    /// What was seen of a P.
    struct sight {
        machine* m = nullptr;
        std::uint32_t tick = 0, slices = 0;
        base::nanos since = 0;       // since when the tick stands
        base::nanos slice_since = 0; // since when no slice began
        base::nanos cpu = -1;        // of the thread, when the tick was first seen to stand
        base::nanos seen_cpu = 0;    // the same, when it was last read,
        base::nanos seen_at = 0;     // and when that was
        clock_sight clock;           // of the thread, without /proc
        bool stalled = false;        // that its thread waits is known to be a stall
        unsigned turns = 0;          // of a P's slices that have ended while too many were frozen
    };

    base::nanos most() const noexcept {
        return rt_.slice == 0 ? 10'000'000 : std::clamp<base::nanos>(rt_.slice, least, 10'000'000);
    }

    void sleep_deeply() noexcept {
        monitor_lies_down(rt_);
        while (monitor_may_sleep(rt_)) {
            // Only a thread that nobody tells us of could end the wait of all: look now and then.
            const bool hopeless = rt_.opts.detect_deadlock && all_asleep(rt_) && rt_.live() != 0 &&
                                  rt_.waiting_callers.load(std::memory_order_acquire) != 0; // pairs with: runtime::run
            futex_wait(rt_.monitor_word, monitor_asleep, hopeless ? base::now() + look_again : base::never);
            if (hopeless) check_deadlock(rt_);
        }
        monitor_gets_up(rt_);
    }

    /// True: something had to be done.
    bool look(base::nanos now) {
        bool found = false;
        for (std::size_t i = 0; i < seen_.size(); ++i) found |= look_at(*rt_.ps[i], seen_[i], now);
        looked_ = now;
        found |= requests_.look(now, next_);
        if (rt_.idle_count.load(std::memory_order_seq_cst) != 0 && rt_.searching.load(std::memory_order_seq_cst) == 0 &&
            (rt_.frozen_count.load(std::memory_order_relaxed) != 0 || held_up_))
            wake_idle();
        held_up_ = false;
        return found;
    }

    /// A P that sleeps is woken; a bare one goes to a frozen task, or to a machine, for which a thread may have to be made.
    void wake_idle() noexcept {
        for (auto& p : rt_.ps) {
            if (p->m.load(std::memory_order_relaxed)) continue;
            machine* f = reserve_frozen(rt_);
            if (!f) break;
            if (!leave_bare(rt_, *p)) {
                give_back(rt_, f);
                continue;
            }
            bump(p->tick);
            bump(p->slices);
            hand_over(*p, f);
            return;
        }
        wake_one(rt_, requests_.none_freezes());
    }

    /// Does anybody wait for p to switch?
    bool ordinary_work(processor& p, base::nanos now) const noexcept {
        return p.ring.size() != 0 || p.runnext.load(std::memory_order_relaxed) || rt_.global.size() != 0 ||
               p.wheel->next() <= now || p.poll->has_work() || rt_.stopping.load(std::memory_order_relaxed);
    }

    bool look_at(processor& p, sight& s, base::nanos now) {
        machine* m = p.m.load(std::memory_order_acquire); // pairs with: start_machine, hand_over
        if (m) p.clock.store(now, std::memory_order_relaxed); // who computes for long parks with a clock that goes
        const std::uint32_t tick = p.tick.load(std::memory_order_relaxed);
        const std::uint32_t slices = p.slices.load(std::memory_order_relaxed);
        if (!m || m != s.m || slices != s.slices) s.slice_since = now;
        if (!m || m != s.m || tick != s.tick) {
            s.m = m;
            s.tick = tick;
            s.slices = slices;
            s.since = now;
            s.cpu = -1;
            s.clock = {};
            s.stalled = false;
            if (m && thawed(*m, p, tick)) goes_on_computing(*m, p, s, now);
            if (m && ordinary_work(p, now)) {
                if (now - s.slice_since >= hand_over_slice)
                    p.attention.fetch_or(attention::slice, std::memory_order_relaxed);
                else
                    next_ = std::min(next_, s.slice_since + hand_over_slice);
            }
            return false;
        }
        const bool ordinary = ordinary_work(p, now);
        if (!ordinary && rt_.frozen_count.load(std::memory_order_relaxed) == 0 && !relief_promised(*m))
            return false; // nobody waits, nor has the P been promised to anybody
        if (!p.called() && is_idle(p)) return false;
        held_up_ = true;
        const int tid = m->tid.load(std::memory_order_acquire);
        if (tid == 0) return false; // it starts
        untie_for(*m); // who has precedence over it may have its CPU
        char state = computes_on(tid, s, now) ? 'R' : thread_state(tid);
        if (state == 0) {
            base::nanos wait = base::never;
            state = s.clock.state(tid, now, wait);
            next_ = std::min(next_, wait);
        }
        if (state == 'S' || state == 'D') {
            if (!s.stalled && m->in_runtime.load(std::memory_order_acquire) == 0) // pairs with: leave_runtime
                s.stalled = stalls_.blocks(p, *m, tick, s.since, now, next_);
            if (m->in_runtime.load(std::memory_order_acquire) != 0) return stuck_inside(s, now);
            return retake_from(p, *m, tick, ordinary, s, now);
        }
        if (state != 'R') return false;
        if (s.cpu < 0) {
            s.cpu = s.seen_cpu = cpu_time(tid);
            s.seen_at = now;
            if (!thawed(*m, p, tick)) {
                m->stint_cpu = s.cpu;
                m->stalled = false;
            }
        }
        stalls_.computes(p, *m, tick, now, next_);
        if (rt_.slice == 0) return false;
        if (const base::nanos due = s.since + rt_.slice - requests_.ahead(); now < due) {
            next_ = std::min(next_, due);
            return false;
        }
        if (others_can_go_on(rt_, p) && !rt_.stopping.load(std::memory_order_relaxed)) return false;
        // The kernel may have had others to run: a slice is CPU time. It may have them for long.
        const base::nanos least_used = (rt_.slice - requests_.ahead()) / 2;
        if (base::nanos used = cpu_time(tid) - s.cpu; used < least_used) {
            next_ = std::min(next_, now + std::max(least_used - used, rt_.slice / 8));
            return false;
        }
        return freeze(p, *m, s, tick, ordinary, now);
    }

    /// Is m's task one that was frozen, and since the tick began has p again?
    static bool thawed(const machine& m, const processor& p, std::uint32_t tick) noexcept {
        return m.thawed_on.load(std::memory_order_relaxed) == &p && m.thawed_tick.load(std::memory_order_relaxed) == tick;
    }
    /// Such a one mostly computes until the end of its slice: the next look is due there, and its CPU clock will tell.
    void goes_on_computing(const machine& m, const processor& p, sight& s, base::nanos now) noexcept {
        if (rt_.slice == 0) return;
        if (const base::nanos at = p.last_thaw.load(std::memory_order_relaxed); at > looked_ && at < now) s.since = at;
        s.cpu = s.seen_cpu = cpu_time(m.tid.load(std::memory_order_relaxed));
        s.seen_at = now;
        next_ = std::min(next_, s.since + rt_.slice - requests_.ahead());
    }
    /// For more than half of the time since the last look, if that has read its clock?
    bool computes_on(int tid, sight& s, base::nanos now) const noexcept {
        if (s.cpu < 0 || s.seen_at != looked_) return false;
        const base::nanos before = std::exchange(s.seen_cpu, cpu_time(tid));
        s.seen_at = now;
        return (s.seen_cpu - before) * 2 > now - looked_;
    }

    /// Everything that m's thread did before it last left its CPU is visible now, and what was stored here before
    /// is to it. False: that cannot be said. A filter that came after the start may refuse membarrier.
    bool barrier(machine& m) noexcept {
        if (rt_.membarrier && ::syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0) return true;
        const int tid = m.tid.load(std::memory_order_relaxed);
        return off_its_cpu([&] { return cpu_time(tid); },
                           [&] {
                               const char state = thread_state(tid);
                               return state == 0 || state == 'S' || state == 'D';
                           });
    }

    bool is_idle(processor& p) noexcept {
        std::lock_guard hold(rt_.idle_lock);
        return p.idle || p.stopped;
    }
    /// A machine sleeps inside the runtime, off its idle place: for malloc's lock, which a frozen task may hold.
    bool stuck_inside(const sight& s, base::nanos now) noexcept {
        if (now - s.since < stuck_after) {
            next_ = std::min(next_, s.since + stuck_after);
            return false;
        }
        if (rt_.frozen_count.load(std::memory_order_relaxed) == 0) return false;
        // Once they have got on a little they are frozen again, and take turns as before.
        thaw_all(rt_, [&](machine* m) { requests_.note_lost(*m, cpu_time(m->tid.load(std::memory_order_relaxed)), now, true); });
        return true;
    }

    bool retake_from(processor& p, machine& m, std::uint32_t tick, bool ordinary, const sight& s, base::nanos now) {
        if (!rt_.retaking) return false;
        // Who gets it?
        machine* next = nullptr;
        if (!ordinary) next = reserve_frozen(rt_);
        if (!next) next = take_spare(rt_);
        if (!next && rt_.frozen_count.load(std::memory_order_relaxed) != 0) next = reserve_frozen(rt_);
        if (!next && !requests_.none_freezes()) {
            next = requests_.withdraw_old(now);
            if (!next) return not_yet(now);
        }
        if (!next) {
            const int refused = ensure_spare(rt_);
            if (refused == EUSERS && now - s.since >= most()) // it lasts
                fatal("thread limit of " + std::to_string(rt_.opts.max_threads) + " reached");
            if (refused) return no_thread(refused, now);
            next = take_spare(rt_);
            if (!next) return not_yet(now);
        }
        const bool take = take_p(
            m, rt_.retake_lock, [&] { return barrier(m); },
            [&] { return p.m.load(std::memory_order_relaxed) == &m && p.tick.load(std::memory_order_relaxed) == tick; },
            [&] {
                rt_.blocking_count.fetch_add(1, std::memory_order_acq_rel);
                bump(p.tick);
                bump(p.slices);
            });
        if (!take) {
            give_back(rt_, next);
            return false;
        }
        rt_.retakes.fetch_add(1, std::memory_order_relaxed);
        m.stint_cpu = cpu_time(m.tid.load(std::memory_order_relaxed));
        m.stalled = s.stalled;
        requests_.note_lost(m, m.stint_cpu, s.since, s.stalled);
        hand_over(p, next);
        return true;
    }

    /// A spare machine is on its way, but has not parked so far. Where others use the CPUs that may take long.
    bool not_yet(base::nanos now) noexcept {
        next_ = std::min(next_, now + spare_arrives);
        return false;
    }

    /// What needs a thread must wait: nothing is gained by looking again at once.
    bool no_thread(int error, base::nanos now) noexcept {
        next_ = std::min(next_, now + most());
        if (error != EUSERS && !std::exchange(warned_, true)) {
            char text[160];
            const int n = std::snprintf(text, sizeof text,
                                        "mpg: warning: no further thread can be had (error %d): tasks that compute, or block "
                                        "unannounced, hold up others\n", error);
            [[maybe_unused]] auto written = ::write(2, text, static_cast<std::size_t>(n));
        }
        return false;
    }

    bool freeze(processor& p, machine& m, sight& s, std::uint32_t tick, bool ordinary, base::nanos now) {
        // Asked before; it stood in the runtime, or blocks the signal.
        if (relief_promised(m)) {
            if (requests_.signal(m) == freeze_requests::how::by_tgkill) next_ = std::min(next_, now + std::max(rt_.slice / 8, least)); // else it takes a tick
            return false;
        }
        const std::uint32_t frozen = rt_.frozen_count.load(std::memory_order_relaxed);
        const bool capped = frozen >= rt_.frozen_most;
        const bool full = frozen >= rt_.frozen_most + frozen_reserve;
        machine* relief = nullptr;
        if (frozen != 0 && (!ordinary || (full && !awaited(p, now) && ++s.turns % 8 != 0))) relief = reserve_frozen(rt_);
        if (!relief) relief = take_spare(rt_);
        if (!relief && frozen == 0 && requests_.none_freezes()) {
            if (const int refused = ensure_spare(rt_)) return no_thread(refused, now);
            relief = take_spare(rt_);
        }
        // A frozen one would not look who waits; but a spare one may never come.
        if (!relief && awaited(p, now) && now - s.since < 3 * rt_.slice) return not_yet(now);
        if (!relief) relief = reserve_frozen(rt_);
        if (!relief) relief = requests_.withdraw_old(now);
        if (!relief) return not_yet(now);
        if (capped)
            for (auto& q : rt_.ps) q->attention.fetch_or(attention::capped, std::memory_order_relaxed);
        requests_.ask(m, relief, tick, now);
        froze_ = true;
        return false;
    }
    runtime_state& rt_;
    stall_watch stalls_;
    std::vector<sight> seen_;
    freeze_requests requests_;
    base::nanos looked_ = 0;         // when the last look was
    base::nanos next_ = base::never; // when the next look is due for what this one has seen
    bool froze_ = false;             // this look has asked one to freeze
    bool held_up_ = false;           // a P stands, and work waits
    bool warned_ = false;
};

} // namespace mpg::sched
