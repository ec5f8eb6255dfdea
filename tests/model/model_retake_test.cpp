// The hand-shake of retaking (retake.hpp): whatever the machine does meanwhile, its P is used by one thread at a time, and is
// not lost; in every order of the machine's thread, the monitor, and the thread that gets the P.
//
// ctest: no-asan the stacks of abandoned fibers stay poisoned; there is one thread, and nothing is freed early
// ctest: no-tsan there is one thread
#include "model/support.hpp"

#include <mpg/base/atomic.hpp>
#include <mpg/sched/retake.hpp>

#include <gtest/gtest.h>

namespace {

using namespace mpg::model;
using mpg::sched::retake;

struct machine;
struct processor {
    mpg::base::atomic<machine*> m{nullptr};
    mpg::base::atomic<std::uint32_t> tick{0};
    plain<int> used{0}; // by who holds it
};
struct machine {
    mpg::base::atomic<std::uint32_t> in_runtime{0};
    mpg::base::atomic<retake> retaken{retake::no};
    processor* p = nullptr;
    mutex* retake_lock = nullptr;
};
void came_back(machine& m) { // as preempt.hpp has it; no other P is to be had
    if (m.retaken.load(std::memory_order_relaxed) == retake::surplus || !mpg::sched::lost_p(m, *m.retake_lock)) return;
    m.p = nullptr;
}

enum class barrier { membarrier, none };

struct state {
    processor p;
    machine m, other;
    mutex retake_lock;
    event given; // other's wake
    int users = 0;

    state() {
        m.p = &p;
        m.retake_lock = other.retake_lock = &retake_lock;
        p.m.store(&m, std::memory_order_relaxed);
    }
    /// A task's call of the library.
    void use_p() {
        mpg::sched::enter_runtime(m);
        if (m.p) {
            ++users;
            m.p->used = m.p->used + 1;
            m.p->tick.store(m.p->tick.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
        }
        mpg::sched::leave_runtime(m);
    }
    /// The machine gives its P away by itself.
    void hand_over() {
        mpg::sched::enter_runtime(m);
        if (m.p) {
            m.p = nullptr;
            p.tick.store(p.tick.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
            give();
        }
        mpg::sched::leave_runtime(m);
    }
    void give() {
        other.p = &p;
        p.m.store(&other, std::memory_order_release);
        given.set();
    }
    void look(barrier how) {
        if (p.m.load(std::memory_order_acquire) != &m) return;
        const std::uint32_t tick = p.tick.load(std::memory_order_relaxed);
        const bool taken = mpg::sched::take_p(
            m, retake_lock,
            [&] {
                if (how == barrier::membarrier) explorer::current().fence_all();
                return true;
            },
            [&] { return p.m.load(std::memory_order_relaxed) == &m && p.tick.load(std::memory_order_relaxed) == tick; },
            [&] { p.tick.store(tick + 1, std::memory_order_relaxed); });
        if (taken) give();
    }
    /// Who gets the P.
    void relief() {
        given.wait();
        require(other.p == &p, "what the giver wrote is seen");
        ++users;
        p.used = p.used + 1;
    }
};

// The task calls the library twice, while the monitor looks, and looks again. In the end somebody else is given the P by its
// holder, if it still is that: so the P is with the other one whatever came.
template <barrier How> void calls_of_a_task(program& p) {
    auto s = std::make_shared<state>();
    p.thread([=] {
        s->use_p();
        s->use_p();
        s->hand_over();
    });
    p.thread([=] { s->look(How); });
    p.thread([=] { s->relief(); });
    p.finally([=] {
        require(s->p.m.load(std::memory_order_relaxed) == &s->other, "the P has a machine");
        require(s->p.used == s->users, "no use of it was lost");
    });
}

// The monitor asks twice: what the machine has been told of the first time does not stand in the way of the second.
void asked_twice(program& p) {
    auto s = std::make_shared<state>();
    p.thread([=] {
        s->use_p();
        s->hand_over();
    });
    p.thread([=] {
        s->look(barrier::membarrier);
        s->look(barrier::membarrier);
    });
    p.thread([=] { s->relief(); });
    p.finally([=] { require(s->p.used == s->users, "no use of it was lost"); });
}

TEST(model_retake, one_thread_at_a_time_uses_a_p) { expect_holds(calls_of_a_task<barrier::membarrier>); }
TEST(model_retake, it_may_be_asked_for_again) { expect_holds(asked_twice); }

TEST(model_retake, without_the_barrier_two_use_it) {
    const auto r = explore(calls_of_a_task<barrier::none>);
    EXPECT_TRUE(r.failed);
    EXPECT_NE(r.message.find("data race"), std::string::npos) << r.message;
}

TEST(model_retake, mutants_are_found) {
    expect_survivors("sched/retake.hpp", {calls_of_a_task<barrier::membarrier>},
                     {
                         // Who leaves late is left alone by the monitor for so long.
                         "leave_runtime: store release, late",
                         // The machine is in the runtime, so that a monitor that asks again meanwhile withdraws anyway.
                         "lost_p: store relaxed, late",
                     });
}

} // namespace
