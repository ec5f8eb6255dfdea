// Whom the monitor has asked to freeze, and whom it has yet to: machines with a P that compute for too long, and surplus ones,
// which have lost their P in a wait that nobody announced and now compute without. What is promised to them: relief.hpp; how a
// thread is signalled: cpu_alarm.hpp.
#pragma once

#include <mpg/sched/preempt.hpp>
#include <mpg/sched/relief.hpp>
#include <mpg/sched/scheduler.hpp>
#include <mpg/sched/stall_watch.hpp>
#include <mpg/sched/thread_sight.hpp>

#include <algorithm>
#include <vector>

namespace mpg::sched {

/// What was reserved for a relief, or to get a P, and was not needed.
inline void give_back(runtime_state& rt, machine* m) noexcept {
    if (!m->frozen) return put_spare(rt, m);
    put_frozen_back(rt, m);
}

/// The monitor's alone. Nothing is allocated once it is made: who is frozen may hold malloc's lock.
class freeze_requests {
  public:
    freeze_requests(runtime_state& rt, stall_watch& stalls) : rt_(rt), stalls_(stalls) {
        lost_.reserve(std::min<std::size_t>(rt.opts.max_threads, 10'000));
        asked_.reserve(rt.ps.size() * 2);
    }

    /// Has every machine with a P that was asked answered, or been let off?
    bool empty() const noexcept { return asked_.empty(); }

    /// How long before the end of a slice its signal is asked for: a timer's comes with a tick, and one that meets a thread
    /// at the moment in which the kernel lets others run is delivered when that thread has its CPU again.
    base::nanos ahead() const noexcept { return timed_ ? tick_ : 0; }

    /// m, which holds a P with that tick and is promised nothing, is to give it to relief and to freeze.
    void ask(machine& m, machine* relief, std::uint32_t tick, base::nanos now) {
        promise_relief(m, relief, tick);
        asked_.push_back({&m, now});
        signal(m);
    }

    /// Slices of less than two ticks are for tests and for those who bear EINTR: no tick would come in time.
    enum class how { by_timer, by_tgkill };
    how signal(machine& m) noexcept {
        const int tid = m.tid.load(std::memory_order_relaxed);
        if (timed_ && m.alarm_clock.set(tid, preempt_signal, &m)) return how::by_timer;
        ::syscall(SYS_tgkill, ::getpid(), tid, preempt_signal);
        return how::by_tgkill;
    }
    /// The relief of somebody who does not come to be frozen: its task blocks the signal, say. Null: there is none.
    machine* withdraw_old(base::nanos now) noexcept {
        for (const asked& a : asked_)
            if (now - a.since >= old_promise)
                if (machine* relief = withdraw_relief(*a.m)) return relief;
        return nullptr;
    }

    /// Is no task frozen, and will none be until the next one is asked? Only then anything may be allocated here.
    bool none_freezes() noexcept {
        if (!asked_.empty()) return false;
        for (const lost& l : lost_) withdraw_relief(*l.m); // they are asked again
        return none_frozen(rt_);
    }

    /// m has lost its P. cpu: what its thread had used by then; since: when its wait began; stalled: that is a known stall.
    void note_lost(machine& m, base::nanos cpu, base::nanos since, bool stalled) noexcept {
        if (lost_.size() < lost_.capacity()) lost_.push_back({&m, cpu, since, stalled}); // who is not noted is not frozen
    }

    /// Takes reliefs back that were not needed, and asks machines that have lost their P and now compute without one. True:
    /// something had to be done. next: when the next look is due, if earlier.
    bool look(base::nanos now, base::nanos& next) {
        bool found = false;
        std::erase_if(asked_, [&](const asked& a) {
            machine* const m = a.m;
            if (!relief_promised(*m)) return true;
            processor* p = nullptr;
            for (auto& q : rt_.ps)
                if (q->m.load(std::memory_order_acquire) == m) p = q.get();
            if (p && p->tick.load(std::memory_order_relaxed) == m->relief_tick.load(std::memory_order_relaxed) &&
                !others_can_go_on(rt_, *p))
                return false; // it still computes: look_at asks again. Or is idle: then the relief may have any idle P
            if (machine* relief = withdraw_relief(*m)) give_back(rt_, relief);
            return true;
        });
        std::size_t looked = 0;
        std::erase_if(lost_, [&](lost& l) {
            const retake r = l.m->retaken.load(std::memory_order_relaxed);
            if (r != retake::taken && r != retake::surplus) {
                if (l.m->relief.load(std::memory_order_relaxed) == l.m) withdraw_relief(*l.m);
                return true;
            }
            if (r == retake::taken && !l.stalled) l.stalled = stalls_.blocks(*l.m, l.since, now, next);
            if (rt_.slice == 0 || ++looked > 16) return false;
            const int tid = l.m->tid.load(std::memory_order_relaxed);
            const base::nanos limit = std::min<base::nanos>(rt_.slice, 2'000'000), used = cpu_time(tid) - l.cpu;
            if (used < limit || !thread_runs(tid)) return false;
            l.cpu += used - limit * 7 / 8; // once more when it has gone on a little: the signal may have met it in the runtime
            if (!relief_promised(*l.m)) promise_relief(*l.m, l.m, no_p);
            signal(*l.m);
            found = true;
            return false;
        });
        if (lost_.size() > 16) std::rotate(lost_.begin(), lost_.begin() + 16, lost_.end());
        return found;
    }

  private:
    static constexpr base::nanos old_promise = 200'000'000;

    struct lost {
        machine* m;
        base::nanos cpu;
        base::nanos since; // its thread waits
        bool stalled;
    };
    struct asked {
        machine* m;
        base::nanos since;
    };

    runtime_state& rt_;
    stall_watch& stalls_;
    std::vector<lost> lost_;
    std::vector<asked> asked_;
    const base::nanos tick_ = cpu_alarm::tick();
    const bool timed_ = tick_ > 0 && rt_.slice >= 2 * tick_; // signals come from timers
};

} // namespace mpg::sched
