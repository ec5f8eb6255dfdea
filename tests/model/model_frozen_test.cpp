// Freezing as a whole (frozen.hpp, with relief.hpp and retake.hpp): a machine gives its P away in the middle of a task, waits on
// the queue, and is given a P again or goes on without. In every order of those machines, of who relieves them, and of the
// monitor: a P is used by one thread at a time, every task comes to its end, and at no time does the process look deadlocked
// before. And the monitor, which sees to it that frozen tasks go on, is not asleep while there is one (monitor_sleep.hpp).
//
// ctest: timeout:600
// ctest: no-asan the stacks of abandoned fibers stay poisoned; there is one thread, and nothing is freed early
// ctest: no-tsan there is one thread
#include "model/support.hpp"

#include <mpg/base/atomic.hpp>
#include <mpg/sched/frozen.hpp>
#include <mpg/sched/monitor_sleep.hpp>

#include <gtest/gtest.h>

#include <array>

namespace {

using namespace mpg::model;
using mpg::sched::retake;

struct runtime;
struct processor;

/// What the kernel has: who waits has found the word as it said, and who wakes comes before or after that.
struct futex {
    mutex lock;
    plain<bool> waits{false};
    event woken;

    template <class T> void wait(mpg::base::atomic<T>& word, T expected) {
        lock.lock();
        const bool same = word.fetch_add(0, std::memory_order_seq_cst) == expected; // the newest value
        if (same) waits = true;
        lock.unlock();
        if (same) woken.wait();
    }
    void wake() {
        lock.lock();
        const bool somebody = waits;
        waits = false;
        lock.unlock();
        if (somebody) woken.set();
    }
};
struct nothing { // no other work
    std::size_t size() const noexcept { return 0; }
};
struct machine {
    runtime* rt = nullptr;
    plain<processor*> p{nullptr};
    mpg::base::atomic<std::uint32_t> in_runtime{0};
    mpg::base::atomic<retake> retaken{retake::no};
    mpg::base::atomic<machine*> relief{nullptr};
    mpg::base::atomic<std::uint32_t> relief_tick{0};
    plain<machine*> next_frozen{nullptr};
    plain<bool> frozen{false}, reserved{false}, relieves{false};
    event thaw, wake;
    mpg::base::atomic<processor*> thawed_on{nullptr};
    mpg::base::atomic<std::uint32_t> thawed_tick{~0u};
};
struct processor {
    runtime* rt = nullptr;
    mpg::base::atomic<machine*> m{nullptr};
    mpg::base::atomic<std::uint32_t> tick{0};
    plain<bool> idle{false};
    processor* next_idle = nullptr;
    plain<int> used{0}; // by who holds it
    mpg::base::atomic<std::uint32_t> slices{0};
    mpg::base::atomic<int> last_thaw{0};
    nothing ring;
};
struct runtime {
    mutex idle_lock, frozen_lock, retake_lock;
    mpg::base::atomic<std::uint32_t> idle_count{0}, blocking_count{0}, frozen_count{0}, freezing{0}, monitor_word{0};
    mpg::base::atomic<bool> monitor_ends{false};
    futex monitor_bed; // of monitor_word
    plain<machine*> frozen_first{nullptr}, frozen_last{nullptr};
    processor* idle_list = nullptr;
    std::vector<std::unique_ptr<processor>> ps;
    nothing global;
};

// What the headers call.
bool holds_spinlocks(const machine&) { return false; } // model_bias_test has those
void came_back(machine& m) { // as preempt.hpp has it
    if (m.retaken.load(std::memory_order_relaxed) != retake::surplus) {
        if (!mpg::sched::lost_p(m, m.rt->retake_lock)) return;
        m.p = nullptr;
    }
    mpg::sched::regain(m);
}
void tells_of_handoff(processor&, machine&) {}
void comes_to_this_cpu(processor&, machine&) {}
void no_longer_blocking(runtime& rt) { rt.blocking_count.fetch_sub(1, std::memory_order_seq_cst); }
void wake_monitor(runtime& rt) {
    if (mpg::sched::rouses_monitor(rt)) rt.monitor_bed.wake();
}

struct state {
    runtime rt;
    processor& p;
    machine a, b;
    mutex user_lock; // malloc's, say
    event a_ended;
    int tasks;       // that have not come to their end
    int users = 0;

    explicit state(int n) : p(*rt.ps.emplace_back(std::make_unique<processor>())), tasks(n) {
        a.rt = b.rt = p.rt = &rt;
    }
    void give(machine& m) {
        m.p = &p;
        p.m.store(&m, std::memory_order_relaxed);
    }
    void freeze(machine& m) { mpg::sched::push_frozen(rt, &m); }

    // ---- a task

    /// It calls the library.
    void uses_p(machine& m) {
        mpg::sched::enter_runtime(m);
        if (processor* own = m.p) {
            ++users;
            own->used = own->used + 1;
        }
        mpg::sched::leave_runtime(m);
    }
    /// A signal meets it, as freeze_here has it.
    void signal_comes(machine& m) {
        mpg::sched::enter_runtime(m);
        if (mpg::sched::gives_way(m, [](processor*) {})) m.thaw.wait();
        mpg::sched::leave_runtime(m);
    }
    /// It ends, and its machine gives its P to a frozen one, or leaves it idle and bare, as one in blocking() does.
    void ends(machine& m) {
        mpg::sched::enter_runtime(m);
        --tasks;
        if (m.retaken.load(std::memory_order_relaxed) == retake::surplus) { // as end_surplus has it
            m.retaken.store(retake::no, std::memory_order_relaxed);
            no_longer_blocking(rt);
        } else {
            mpg::sched::bump(p.tick);
            leaves_p(m);
        }
        if (&m == &a) a_ended.set();
    }
    void leaves_p(machine& m) {
        for (;;) {
            if (rt.frozen_count.load(std::memory_order_relaxed) != 0 && mpg::sched::thaw_one(&m, 0)) return;
            m.p = nullptr;
            {
                std::lock_guard hold(rt.idle_lock);
                p.m.store(nullptr, std::memory_order_relaxed);
                p.idle = true;
                rt.idle_list = &p;
                rt.idle_count.fetch_add(1, std::memory_order_seq_cst);
            }
            mpg::base::fence(std::memory_order_seq_cst);
            if (!mpg::sched::work_visible(rt) || !mpg::sched::leave_bare(rt, p)) return;
            m.p = &p;
            p.m.store(&m, std::memory_order_release);
        }
    }
    /// A machine without a task, which relieves one that has one.
    void relieves(machine& m) {
        m.wake.wait();
        if (!m.p) return; // it was not needed
        m.in_runtime.store(1, std::memory_order_relaxed);
        ++users;
        p.used = p.used + 1;
        leaves_p(m);
    }

    // ---- the monitor

    void asks(machine& m, machine& relief) {
        mpg::sched::promise_relief(m, &relief, p.tick.load(std::memory_order_relaxed));
    }
    /// As monitor::look_at_surplus has it. True: the relief is the monitor's again.
    bool takes_back(machine& m) {
        if (!mpg::sched::relief_promised(m)) return false;
        if (p.m.load(std::memory_order_acquire) == &m &&
            p.tick.load(std::memory_order_relaxed) == m.relief_tick.load(std::memory_order_relaxed))
            return false; // it still computes
        return mpg::sched::withdraw_relief(m) != nullptr;
    }
    /// As monitor::wake_idle has it.
    void gives_idle_p() {
        if (rt.frozen_count.load(std::memory_order_relaxed) == 0 || p.m.load(std::memory_order_relaxed)) return;
        machine* f = mpg::sched::reserve_frozen(rt);
        if (!f) return;
        if (!mpg::sched::leave_bare(rt, p)) return mpg::sched::put_frozen_back(rt, f);
        mpg::sched::bump(p.tick);
        mpg::sched::bump(p.slices);
        mpg::sched::hand_over(p, f);
    }
    /// As all_asleep has it.
    void looks_whether_all_sleep() {
        std::lock_guard hold(rt.idle_lock);
        const bool asleep = rt.idle_count.load(std::memory_order_relaxed) == rt.ps.size() && mpg::sched::nobody_goes_on(rt);
        require(!asleep || tasks == 0, "nothing looks deadlocked before all tasks have ended");
    }
    /// As monitor::look_at has it: who has the P after he was frozen is known as that.
    void looks_at_who_has_it() {
        if (p.m.load(std::memory_order_acquire) == &b)
            require(b.thawed_on.load(std::memory_order_relaxed) == &p && b.thawed_tick.load(std::memory_order_relaxed) != ~0u,
                    "it is known where and when it was thawed");
    }
    /// As monitor::run and stop_monitor have it. until(): there is something to see.
    template <class F> void monitor_runs(F until) {
        while (!until() && !rt.monitor_ends.load(std::memory_order_acquire)) {
            mpg::sched::monitor_lies_down(rt);
            while (mpg::sched::monitor_may_sleep(rt)) rt.monitor_bed.wait(rt.monitor_word, mpg::sched::monitor_asleep);
            mpg::sched::monitor_gets_up(rt);
            yield();
        }
    }
    void ends_monitor() {
        rt.monitor_ends.store(true, std::memory_order_seq_cst);
        rt.monitor_word.store(mpg::sched::monitor_ending, std::memory_order_seq_cst);
        rt.monitor_bed.wake();
    }
    void at_the_end() {
        require(tasks == 0, "all tasks have ended");
        require(p.used == users, "no use of the P was lost");
        require(rt.frozen_count.load(std::memory_order_relaxed) == 0 && !rt.frozen_first, "nobody is left on the queue");
        require(rt.blocking_count.load(std::memory_order_relaxed) == 0, "nor counted");
        require(p.idle && !p.m.load(std::memory_order_relaxed), "the P is idle");
    }
};

// A task computes; a spare machine relieves it, and gives the P back when it has nothing else to run. Or it ends before.
void a_spare_one_relieves(program& p) {
    auto s = std::make_shared<state>(1);
    s->give(s->a);
    p.thread([=] {
        s->signal_comes(s->a);
        s->ends(s->a);
    });
    p.thread([=] { s->relieves(s->b); });
    p.thread([=] {
        s->asks(s->a, s->b);
        if (s->takes_back(s->a)) s->b.wake.set();
        s->a_ended.wait();
        if (s->takes_back(s->a)) s->b.wake.set();
    });
    p.finally([=] { s->at_the_end(); });
}

// A task computes, another one is frozen: the monitor gives it the P of the first, and takes that back if the first lets go.
void a_frozen_one_relieves(program& p) {
    auto s = std::make_shared<state>(2);
    s->give(s->a);
    s->freeze(s->b);
    p.thread([=] {
        s->signal_comes(s->a);
        s->ends(s->a);
    });
    p.thread([=] {
        s->b.thaw.wait();
        s->uses_p(s->b);
        s->ends(s->b);
    });
    p.thread([=] {
        machine* f = mpg::sched::reserve_frozen(s->rt);
        if (f) s->asks(s->a, *f);
        if (f && s->takes_back(s->a)) mpg::sched::put_frozen_back(s->rt, f);
        s->looks_at_who_has_it();
        s->a_ended.wait();
        if (f && s->takes_back(s->a)) mpg::sched::put_frozen_back(s->rt, f);
        s->gives_idle_p();
    });
    p.finally([=] { s->at_the_end(); });
}

// While the monitor reserves the frozen one for a P that has become idle, and puts it back, somebody asks whether all sleep.
void while_somebody_looks(program& p) {
    auto s = std::make_shared<state>(1);
    s->freeze(s->b);
    mpg::sched::enter_idle(s->rt, s->p);
    p.thread([=] {
        s->b.thaw.wait();
        s->ends(s->b);
    });
    p.thread([=] {
        if (machine* f = mpg::sched::reserve_frozen(s->rt)) mpg::sched::put_frozen_back(s->rt, f);
        s->gives_idle_p();
    });
    p.thread([=] { s->looks_whether_all_sleep(); });
    p.finally([=] { s->at_the_end(); });
}

// The machine with the P waits for what a frozen task holds: that one is let go on without a P, and may find an idle one.
void goes_on_without(program& p) {
    auto s = std::make_shared<state>(2);
    s->give(s->a);
    s->freeze(s->b);
    s->user_lock.lock();
    p.thread([=] {
        s->user_lock.lock();
        s->ends(s->a);
        s->user_lock.unlock();
    });
    p.thread([=] {
        s->b.thaw.wait();
        s->user_lock.unlock();
        s->uses_p(s->b);
        s->ends(s->b);
    });
    p.thread([=] {
        mpg::sched::thaw_all(s->rt, [](machine*) {});
        s->looks_whether_all_sleep();
    });
    p.finally([=] { s->at_the_end(); });
}

// A task without a P computes while the P is idle: it is frozen, and is given the idle one; the monitor goes to sleep meanwhile.
void frozen_without_a_p(program& p) {
    auto s = std::make_shared<state>(1);
    s->rt.blocking_count.store(1, std::memory_order_relaxed);
    s->b.retaken.store(retake::surplus, std::memory_order_relaxed);
    mpg::sched::enter_idle(s->rt, s->p);
    mpg::sched::promise_relief(s->b, &s->b, mpg::sched::no_p);
    p.thread([=] {
        // The handler of freeze_here, without came_back's look for an idle P: that has been bare since the task came in last.
        s->b.in_runtime.store(1, std::memory_order_relaxed);
        if (mpg::sched::gives_way(s->b, [](processor*) {})) s->b.thaw.wait();
        mpg::sched::leave_runtime(s->b);
        s->ends(s->b);
        s->ends_monitor();
    });
    p.thread([=] {
        s->monitor_runs([&] {
            s->gives_idle_p();
            return false;
        });
    });
    p.finally([=] { s->at_the_end(); });
}

// A P is taken off the idle list, and holds others up until the monitor sees it.
void there_is_something_to_see(program& p) {
    auto s = std::make_shared<state>(0);
    auto seen = std::make_shared<event>();
    mpg::sched::enter_idle(s->rt, s->p);
    p.thread([=] {
        mpg::sched::leave_bare(s->rt, s->p);
        wake_monitor(s->rt);
        seen->wait();
    });
    p.thread([=] {
        s->monitor_runs([&] { return s->rt.idle_count.load(std::memory_order_relaxed) == 0; });
        seen->set();
    });
}
// The runtime ends, and waits for the monitor.
void the_monitor_ends(program& p) {
    auto s = std::make_shared<state>(0);
    mpg::sched::enter_idle(s->rt, s->p);
    p.thread([=] { s->ends_monitor(); });
    p.thread([=] { s->monitor_runs([] { return false; }); });
}

// A machine sleeps in a system call: its P goes to the frozen one, or the frozen one back to the queue.
void retaken_for_a_frozen_one(program& p) {
    auto s = std::make_shared<state>(2);
    s->give(s->a);
    s->freeze(s->b);
    p.thread([=] { s->ends(s->a); });
    p.thread([=] {
        s->b.thaw.wait();
        s->ends(s->b);
    });
    p.thread([=] {
        if (machine* f = mpg::sched::reserve_frozen(s->rt)) {
            const bool taken = s->p.m.load(std::memory_order_acquire) == &s->a &&
                               mpg::sched::take_p(
                                   s->a, s->rt.retake_lock,
                                   [] {
                                       explorer::current().fence_all();
                                       return true;
                                   },
                                   [&] { return s->p.m.load(std::memory_order_relaxed) == &s->a; },
                                   [&] { s->rt.blocking_count.fetch_add(1, std::memory_order_acq_rel); });
            if (taken)
                mpg::sched::hand_over(s->p, f);
            else
                mpg::sched::put_frozen_back(s->rt, f);
        }
        s->a_ended.wait();
        s->gives_idle_p();
    });
    p.finally([=] { s->at_the_end(); });
}

TEST(model_frozen, a_spare_machine_relieves_and_gives_the_p_back) { expect_holds(a_spare_one_relieves); }
TEST(model_frozen, a_frozen_machine_relieves_or_is_put_back) { expect_holds(a_frozen_one_relieves); }
TEST(model_frozen, nothing_looks_deadlocked_while_one_is_on_its_way) { expect_holds(while_somebody_looks); }
TEST(model_frozen, who_goes_on_without_a_p_frees_who_waits_for_it) { expect_holds(goes_on_without); }
TEST(model_frozen, the_monitor_does_not_sleep_while_one_is_frozen) { expect_holds(frozen_without_a_p); }
TEST(model_frozen, nor_while_a_p_has_a_machine) { expect_holds(there_is_something_to_see); }
TEST(model_frozen, it_ends_when_it_is_told_so) { expect_holds(the_monitor_ends); }
TEST(model_frozen, a_p_that_is_retaken_goes_to_one) { expect_holds(retaken_for_a_frozen_one); }

TEST(model_frozen, mutants_are_found) {
    expect_survivors("sched/frozen.hpp",
                     {while_somebody_looks, frozen_without_a_p, goes_on_without, a_spare_one_relieves, a_frozen_one_relieves,
                      retaken_for_a_frozen_one},
                     {
                         // These counts change under frozen_lock, which nobody_goes_on takes. What is taken off blocking_count
                         // late counts for a little longer.
                         "hand_over: rmw seq_cst, after the next fence",
                         "hand_over: rmw seq_cst, not seq_cst",
                         "hand_over: rmw seq_cst, relaxed",
                         "pop_frozen: rmw seq_cst, not seq_cst",
                         "pop_frozen: rmw seq_cst, relaxed",
                         "put_frozen_back: rmw seq_cst, after the next fence",
                         "put_frozen_back: rmw seq_cst, not seq_cst",
                         "put_frozen_back: rmw seq_cst, relaxed",
                         "regain: rmw seq_cst, after the next fence",
                         "regain: rmw seq_cst, not seq_cst",
                         "regain: rmw seq_cst, relaxed",
                         "reserve_frozen: rmw seq_cst, after the next fence", // of the two, the one for a queue that is empty
                         "reserve_frozen: rmw seq_cst, not seq_cst",
                         "reserve_frozen: rmw seq_cst, not seq_cst",
                         "reserve_frozen: rmw seq_cst, relaxed",
                         "reserve_frozen: rmw seq_cst, relaxed",
                         // Pairs with the end of a blocking(), of which there is none here.
                         "nobody_goes_on: load acquire, without acquire",
                         // thawed_on: the tick is stored behind it, and both before the P has the machine.
                         "hand_over: store relaxed, late",
                         // last_thaw: for the length of slices.
                         "thaw_one: store relaxed, late",
                         // The machine's own: nobody else goes by it while it is in the runtime.
                         "gives_way: store relaxed, late",
                         "regain: store relaxed, late",
                         // What the monitor reads of a machine that it sees on a P is older than this.
                         "regain: store release, late",
                         "regain: store release, without release",
                     });
}
TEST(model_frozen, mutants_of_the_monitors_sleep_are_found) {
    expect_survivors("sched/monitor_sleep.hpp", {frozen_without_a_p, there_is_something_to_see, the_monitor_ends},
                     {
                         // It is woken once more, in vain.
                         "monitor_gets_up: store seq_cst, late",
                         "monitor_gets_up: store seq_cst, not seq_cst",
                         "monitor_gets_up: store seq_cst, relaxed",
                         // The load before it has the order.
                         "rouses_monitor: rmw seq_cst, not seq_cst",
                         "rouses_monitor: rmw seq_cst, relaxed",
                         "rouses_monitor: rmw seq_cst, relaxed when it fails",
                     });
}

} // namespace
