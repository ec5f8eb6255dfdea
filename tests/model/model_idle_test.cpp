// The sleep and wake protocol (idle_list.hpp) with two or three Ps: no task is left lying while everybody sleeps, in
// every order and with every stale read. The queues are the library's ring, and a counter for the global queue.
//
// ctest: timeout:600
// ctest: no-asan the stacks of abandoned fibers stay poisoned; there is one thread, and nothing is freed early
// ctest: no-tsan there is one thread
#include "model/support.hpp"

#include <mpg/base/atomic.hpp>
#include <mpg/sched/idle_list.hpp>
#include <mpg/sched/run_queue.hpp>

#include <gtest/gtest.h>

#include <array>
#include <vector>

namespace mpg::sched {
struct task {};
} // namespace mpg::sched

namespace {

using namespace mpg::model;
using mpg::sched::task;

struct runtime;

// What idle_list.hpp needs of a machine, a P and a runtime.
struct machine {
    runtime* rt = nullptr;
    bool searching = false;
};
struct sleeper { // the poller
    event woken;
    void wake() { woken.set(); }
};
struct processor {
    mpg::base::atomic<machine*> m{nullptr};
    mpg::base::atomic<bool> attention{false};
    bool called() const { return attention.load(std::memory_order_relaxed); }
    bool idle = false;
    processor* next_idle = nullptr;
    mpg::sched::basic_run_queue<2> ring;
    event end;
    std::unique_ptr<sleeper> poll = std::make_unique<sleeper>();
};
struct counted_queue { // the global queue is counted, and its count has the say
    mpg::base::atomic<std::size_t> count{0};
    std::size_t size() const { return count.load(std::memory_order_seq_cst); }
    void push() { count.fetch_add(1, std::memory_order_seq_cst); }
    bool pop() {
        for (std::size_t n = size(); n != 0;)
            if (count.compare_exchange_strong(n, n - 1, std::memory_order_seq_cst)) return true;
        return false;
    }
};
struct runtime {
    mutex idle_lock;
    processor* idle_list = nullptr;
    mpg::base::atomic<std::uint32_t> idle_count{0}, searching{0};
    std::vector<std::unique_ptr<processor>> ps;
    counted_queue global;
};
void start_machine(runtime&, processor*, void*, bool) { require(false, "no P is bare here"); }

struct state {
    runtime rt;
    std::array<machine, 3> machines;
    std::array<task, 3> tasks;
    bool together = false;
    mpg::base::atomic<int> left; // tasks that nobody has run yet

    state(std::size_t n, int tasks_to_run) : left(tasks_to_run) {
        for (std::size_t i = 0; i != n; ++i) {
            rt.ps.push_back(std::make_unique<processor>());
            machines[i].rt = &rt;
            rt.ps[i]->m.store(&machines[i], std::memory_order_relaxed);
        }
    }
    /// The task at i becomes runnable on P p, whose machine calls this.
    void spawn(std::size_t p, std::size_t i) {
        require(rt.ps[p]->ring.push(&tasks[i]), "the ring has room");
        mpg::sched::published(rt);
    }
    /// A foreign thread.
    void inject() {
        rt.global.push();
        mpg::sched::published(rt);
    }
    bool steal(processor& own) {
        for (auto& victim : rt.ps) {
            task* out[2];
            if (victim.get() == &own) continue;
            if (std::uint32_t n = victim->ring.steal(out)) {
                for (std::uint32_t i = 1; i != n; ++i) require(own.ring.push(out[i]), "the ring has room");
                return true;
            }
        }
        return false;
    }
    /// A task runs on P i; the last one ends all: everybody looks at `left` again. With `together` set a task ends only
    /// when all have begun, so each needs a P of its own.
    void ran(std::size_t i) {
        if (left.fetch_sub(1, std::memory_order_seq_cst) == 1)
            for (auto& p : rt.ps) {
                p->poll->wake();
                p->end.set();
            }
        if (together) rt.ps[i]->end.wait();
    }
    /// find_task, without its spinning. asleep: it begins where it sleeps.
    void machine_loop(std::size_t i, bool asleep = false) {
        machine* m = &machines[i];
        processor& p = *rt.ps[i];
        if (asleep) {
            p.poll->woken.wait();
            mpg::sched::slept(m, p);
        }
        while (left.load(std::memory_order_seq_cst) != 0) {
            if (p.ring.pop(false) || rt.global.pop()) {
                mpg::sched::stop_searching(m, true);
                ran(i);
                continue;
            }
            if (!m->searching) {
                std::uint32_t none = 0;
                m->searching = rt.searching.compare_exchange_strong(none, 1, std::memory_order_seq_cst);
            }
            if (m->searching && steal(p)) {
                mpg::sched::stop_searching(m, true);
                ran(i);
                continue;
            }
            if (mpg::sched::prepare_sleep(m, p)) {
                p.poll->woken.wait();
                mpg::sched::slept(m, p);
            } else if (!m->searching) {
                yield();
            }
        }
    }
};

// One P makes a task and goes on to be busy for ever; the other one must run it.
void busy_owner(program& p) {
    auto s = std::make_shared<state>(2, 1);
    p.thread([=] { s->spawn(0, 0); });
    p.thread([=] { s->machine_loop(1); });
}

// A foreign thread sends while a P goes to sleep.
void foreign(program& p) {
    auto s = std::make_shared<state>(1, 1);
    p.thread([=] { s->inject(); });
    p.thread([=] { s->machine_loop(0); });
}

// Both Ps have machines; one makes a task, looks for it itself, and both end up idle.
void owner_and_thief(program& p) {
    auto s = std::make_shared<state>(2, 1);
    p.thread([=] {
        s->spawn(0, 0);
        s->machine_loop(0);
    });
    p.thread([=] { s->machine_loop(1); });
}

// A foreign thread sends to a P that searches for the task that was sent before, while the other P sleeps; both tasks must
// run at once, so the searching one must wake the other.
void chain(program& p) {
    auto s = std::make_shared<state>(2, 2);
    s->together = true;
    mpg::sched::enter_idle(s->rt, *s->rt.ps[1]);
    s->rt.global.push();
    s->rt.searching.store(1, std::memory_order_relaxed);
    s->machines[0].searching = true;
    p.thread([=] { s->inject(); });
    p.thread([=] { s->machine_loop(0); });
    p.thread([=] { s->machine_loop(1, true); });
}

// The same with a task on the ring of a third P, whose machine is busy.
void chain_by_ring(program& p) {
    auto s = std::make_shared<state>(3, 2);
    s->together = true;
    mpg::sched::enter_idle(s->rt, *s->rt.ps[2]);
    s->rt.global.push();
    s->rt.searching.store(1, std::memory_order_relaxed);
    s->machines[1].searching = true;
    p.thread([=] { s->spawn(0, 0); });
    p.thread([=] { s->machine_loop(1); });
    p.thread([=] { s->machine_loop(2, true); });
}

// A foreign thread sends to the only P, which goes to sleep, while another is in wake_one: it had sent before and seen the P
// idle, but that has found the task by itself. Who finds nobody to wake must not keep the other one from waking.
void wake_of_nobody(program& p) {
    auto s = std::make_shared<state>(1, 1);
    p.thread([=] { mpg::sched::wake_one(s->rt); });
    p.thread([=] { s->inject(); });
    p.thread([=] { s->machine_loop(0); });
}

// A foreign thread sends twice, and two Ps go to sleep; one makes a task.
void everybody(program& p) {
    auto s = std::make_shared<state>(2, 3);
    p.thread([=] {
        s->inject();
        s->inject();
    });
    p.thread([=] {
        s->spawn(0, 0);
        s->machine_loop(0);
    });
    p.thread([=] { s->machine_loop(1); });
}

TEST(model_idle, a_busy_owner_wakes_a_thief) { expect_holds(busy_owner); }
TEST(model_idle, a_foreign_thread_wakes_a_sleeper) { expect_holds(foreign); }
TEST(model_idle, an_owner_and_a_thief_go_idle) { expect_holds_at_random(owner_and_thief, 100'000); }
TEST(model_idle, who_finds_something_wakes_the_next) {
    expect_holds(chain);
    expect_holds(chain_by_ring);
}
TEST(model_idle, who_finds_nobody_to_wake_holds_nobody_back) { expect_holds(wake_of_nobody); }
TEST(model_idle, a_foreign_thread_an_owner_and_a_thief) { expect_holds_at_random(everybody, 20'000); }

// All three fences are needed, and so is the order of the steps around them.
TEST(model_idle, mutants_are_found) {
    expect_survivors(
        "sched/idle_list.hpp", {busy_owner, foreign, chain_by_ring, wake_of_nobody},
        {
            // A read-modify-write sees the newest value whatever its order, and the fences order the rest. Where no fence
            // is near, seq_cst costs nothing on x86 and is kept.
            "enter_idle: rmw seq_cst, not seq_cst",
            "enter_idle: rmw seq_cst, relaxed",
            "unlink_idle: rmw seq_cst, not seq_cst",
            "unlink_idle: rmw seq_cst, relaxed",
            "prepare_sleep: rmw seq_cst, not seq_cst",
            "prepare_sleep: rmw seq_cst, not seq_cst",
            "prepare_sleep: rmw seq_cst, relaxed",
            "prepare_sleep: rmw seq_cst, relaxed",
            "prepare_sleep: rmw seq_cst, relaxed when it fails",
            "stop_searching: rmw seq_cst, not seq_cst",
            "stop_searching: rmw seq_cst, relaxed",
            "wake_one: rmw seq_cst, not seq_cst",
            "wake_one: rmw seq_cst, not seq_cst",
            "wake_one: rmw seq_cst, relaxed",
            "wake_one: rmw seq_cst, relaxed",
            "wake_one: rmw seq_cst, relaxed when it fails",
            // idle_count too high for a moment: somebody looks at the list in vain.
            "unlink_idle: rmw seq_cst, after the next fence",
        });
}

} // namespace
