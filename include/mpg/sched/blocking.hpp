// blocking: run what may block its OS thread, without holding up others.
//
// The task moves, not the P: it is handed, with its stack, to a machine without a P (a parked one or a new one), and
// the P goes on at once with the next task. When f has ended the task goes to the back of the global queue. If the P
// has nothing else at all to do (no task, no timer, no operation in flight, no descriptor registered) the call stays
// where it is and the P is put on the idle list, from which it is taken back afterwards unless somebody was faster:
// then a short call costs no switch.
#pragma once

#include <mpg/sched/scheduler.hpp>
#include <mpg/sched/unwind.hpp>

#include <type_traits>
#include <utility>

namespace mpg::sched {

/// In its extent the current task holds no P.
class blocking_section {
  public:
    blocking_section() {
        task* t = task_ = current();
        if (t->is_thread()) return;
        if (t->blocking == 0) suspension_point();
        if (++t->blocking != 1) return;
        // Counted first: the machine that it moves to must find it as what it is, or stats() would see it leave
        // blocking for a moment on its way in.
        t->set_state(task_state::blocking);
        enter(t);
    }
    ~blocking_section() {
        task* t = task_;
        if (t->is_thread() || --t->blocking != 0) return;
        leave(t);
        t->rt->blocking_count.fetch_sub(1, std::memory_order_release);
    }
    blocking_section(const blocking_section&) = delete;
    blocking_section& operator=(const blocking_section&) = delete;

  private:
    /// Nobody would, once p is bare.
    static bool somebody_must_poll(processor& p) noexcept { return p.poll->busy() || p.poll->watched(); }
    /// False: it must switch, and is counted.
    static bool leave_p(task* t, machine* m) {
        runtime_section here;
        runtime_state& rt = *t->rt;
        if (!m->p) { // surplus: it has no P, and is counted already
            m->retaken.store(retake::no, std::memory_order_relaxed);
            return true;
        }
        rt.blocking_count.fetch_add(1, std::memory_order_acq_rel);
        processor& p = *m->p;
        if (t->bound) { // it must stay on this thread: the P leaves
            m->p = nullptr;
            start_machine(rt, &p, nullptr, false);
            return true;
        }
        if (!p.runnext.load(std::memory_order_relaxed) && p.ring.size() == 0 &&
            !p.called() && !somebody_must_poll(p) && !p.poll->has_work() &&
            p.wheel->next() == base::never && p.poll_lock.try_lock()) {
            p.poll_lock.unlock();
            stamp(&p, t);
            probe::task_block(*t, wait_reason::blocking);
            m->p = nullptr;
            {
                std::lock_guard hold(rt.idle_lock);
                p.m.store(nullptr, std::memory_order_relaxed);
                p.idle = true;
                p.next_idle = rt.idle_list;
                rt.idle_list = &p;
                rt.idle_count.fetch_add(1, std::memory_order_seq_cst);
            }
            base::fence(std::memory_order_seq_cst); // pairs with: published, attend
            const bool needed = p.called() || somebody_must_poll(p);
            if (needed || work_visible(rt)) {
                if (needed && leave_bare(rt, p))
                    start_machine(rt, &p, nullptr, false);
                else
                    wake_one(rt);
            }
            return true;
        }
        return false;
    }
    static void enter(task* t) {
        machine* m = this_machine();
        if (leave_p(t, m)) return;
        static constexpr park_ops ops{wait_reason::blocking,
                                      [](void* arg) noexcept {
                                          auto* self = static_cast<task*>(arg);
                                          push_job(*self->rt, self);
                                      },
                                      nullptr};
        switch_away(m, t, ops.commit, t, wait_reason::blocking);
    }

    static void leave(task* t) noexcept {
        machine* m = this_machine();
        runtime_state& rt = *t->rt;
        {
            runtime_section here;
            for (auto& p : rt.ps) {
                if (p->m.load(std::memory_order_relaxed) == nullptr && leave_bare(rt, *p)) {
                    m->p = p.get();
                    p->m.store(m, std::memory_order_release); // pairs with: the monitor's look at p
                    begin_run(m, *t);
                    wake_monitor(rt);
                    return;
                }
            }
        }
        t->set_state(task_state::runnable);
        sample_ready(nullptr, *t);
        switch_away(
            m, t,
            [](void* arg) noexcept {
                auto* self = static_cast<task*>(arg);
                inject(*self->rt, self);
            },
            t);
    }

    task* task_;
};

} // namespace mpg::sched

namespace mpg {

/// Calls f, which may block its OS thread (a system call, a std::mutex, getaddrinfo), without holding a P: other tasks
/// run meanwhile. f runs on the task's own stack; the task may be on another thread afterwards. Returns what f returns,
/// lets pass what it throws. Suspends. On a plain thread, or inside of another blocking: just calls f.
template <class F> decltype(auto) blocking(F&& f) {
    sched::blocking_section section;
    return std::forward<F>(f)();
}

} // namespace mpg
