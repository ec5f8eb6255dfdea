// When a task that waits may be found (publish.hpp): nobody runs it before its registers are saved. With one P the wait is
// visible before the task has left its stack; who wakes it puts it on a queue, and the monitor asks for the P meanwhile
// (retake.hpp). With a second P, whose machine looks at the queue, it is visible only afterwards.
//
// ctest: no-asan the stacks of abandoned fibers stay poisoned; there is one thread, and nothing is freed early
// ctest: no-tsan there is one thread
#include "model/support.hpp"

#include <mpg/base/atomic.hpp>
#include <mpg/sched/publish.hpp>
#include <mpg/sched/retake.hpp>

#include <gtest/gtest.h>

namespace {

using namespace mpg::model;
using mpg::sched::retake;

struct processor {
    bool alone;
    mpg::base::atomic<std::uint32_t> tick{0};
    plain<int> looks{0}; // at its queue, by who holds it
};
struct machine {
    mpg::base::atomic<std::uint32_t> in_runtime{0};
    mpg::base::atomic<retake> retaken{retake::no};
    processor* p = nullptr;
    mutex* retake_lock = nullptr;
    void (*finish)(void*) noexcept = nullptr;
    void* finish_arg = nullptr;
};
bool holds_spinlocks(const machine&) { return false; } // model_bias_test has those
void came_back(machine& m) { // as preempt.hpp has it; no other P is to be had
    if (m.retaken.load(std::memory_order_relaxed) == retake::surplus || !mpg::sched::lost_p(m, *m.retake_lock)) return;
    m.p = nullptr;
}

struct state {
    processor p;
    machine m;
    mutex retake_lock;
    mutex source;                          // what the task waits for: its lock
    plain<bool> linked{false};             // the task's waiter
    mpg::base::atomic<int> queue{0};       // 1: the task is on it
    plain<int> saved{0};                   // its registers
    bool sent = false;
    int runs = 0;

    explicit state(bool alone) : p{alone} {
        m.p = &p;
        m.retake_lock = &retake_lock;
    }
    /// The task waits, as park_for_woken or park_task has it: the machine goes on with another one.
    void parks() {
        if (!mpg::sched::try_enter_runtime(m)) {
            mpg::sched::enter_runtime(m);
            if (!m.p) return waits_without_p();
        }
        p.tick.store(p.tick.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
        source.lock();
        linked = true;
        mpg::sched::publish_wait(m, p, [](void* s) noexcept { static_cast<state*>(s)->source.unlock(); }, this);
        saved = 1; // the switch
        mpg::sched::run_finish(&m);
        mpg::sched::leave_runtime(m);
    }
    void waits_without_p() { // as park_without_p has it
        source.lock();
        linked = true;
        saved = 1;
        source.unlock();
        m.retaken.store(retake::no, std::memory_order_relaxed);
        mpg::sched::leave_runtime(m);
    }
    /// The task that follows ends: the machine comes to its queue.
    void goes_on() {
        mpg::sched::enter_runtime(m);
        if (m.p) looks_at_its_queue(*m.p);
        mpg::sched::leave_runtime(m);
    }
    void looks_at_its_queue(processor& own) {
        own.looks = own.looks + 1;
        runs_what_is_queued();
    }
    void runs_what_is_queued() {
        int one = 1;
        if (!queue.compare_exchange_strong(one, 0, std::memory_order_acq_rel)) return;
        require(saved == 1, "it has left its stack");
        saved = 2;
        ++runs;
    }
    /// A plain thread wakes it.
    void sends() {
        source.lock();
        const bool there = linked;
        if (there) linked = false;
        source.unlock();
        if (!there) return;
        sent = true;
        queue.store(1, std::memory_order_release);
    }
    void monitor_looks() {
        const std::uint32_t tick = p.tick.load(std::memory_order_relaxed);
        const bool taken = mpg::sched::take_p(
            m, retake_lock,
            [] {
                explorer::current().fence_all();
                return true;
            },
            [&] { return p.tick.load(std::memory_order_relaxed) == tick; }, [] {});
        if (taken) looks_at_its_queue(p); // as who gets it does
    }
    void at_the_end() {
        if (queue.load(std::memory_order_relaxed) == 1) ++runs; // in a while
        require(runs == (sent ? 1 : 0), "it is run once if it was woken");
    }
};

void with_one_p(program& p) {
    auto s = std::make_shared<state>(true);
    p.thread([=] {
        s->parks();
        s->goes_on();
    });
    p.thread([=] { s->sends(); });
    p.thread([=] { s->monitor_looks(); });
    p.finally([=] { s->at_the_end(); });
}

template <bool Alone> void with_two(program& p) {
    auto s = std::make_shared<state>(Alone);
    p.thread([=] {
        s->parks();
        s->goes_on();
    });
    p.thread([=] { s->sends(); });
    p.thread([=] { s->runs_what_is_queued(); });
    p.finally([=] { s->at_the_end(); });
}

TEST(model_park, with_one_p_a_wait_may_be_seen_before_its_task_has_left) { expect_holds(with_one_p); }
TEST(model_park, with_two_it_is_seen_afterwards) { expect_holds(with_two<false>); }

TEST(model_park, with_two_it_may_not_be_seen_before) {
    const auto r = explore(with_two<true>);
    EXPECT_TRUE(r.failed);
    EXPECT_TRUE(r.message.starts_with("it has left its stack") || r.message.starts_with("a data race")) << r.message;
}

// Whether the machine is in the runtime is what keeps its P, and so the queue, from others.
TEST(model_park, mutants_are_found) {
    expect_survivors("sched/retake.hpp", {with_one_p},
                     {
                         // Who leaves late is left alone by the monitor for so long.
                         "leave_runtime: store release, late",
                         // The machine is in the runtime, so that a monitor that asks again meanwhile withdraws anyway.
                         "lost_p: store relaxed, late",
                         // It did nothing with its P, and comes in again at once by the other way.
                         "try_enter_runtime: store release, late",
                         "try_enter_runtime: store release, without release",
                     });
}

} // namespace
