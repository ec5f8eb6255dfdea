// How a P is taken from a machine: the hand-shake of retaking (retake.hpp), with and without membarrier, and the promise to
// who relieves a machine that computes (relief.hpp). Whatever the machine does meanwhile, its P is used by one thread at a time,
// and neither it nor who waits for it is lost; in every order of the machine's thread, the monitor, and the thread that gets the P.
//
// ctest: no-asan the stacks of abandoned fibers stay poisoned; there is one thread, and nothing is freed early
// ctest: no-tsan there is one thread
#include "model/support.hpp"

#include <mpg/base/atomic.hpp>
#include <mpg/sched/relief.hpp>
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
bool holds_spinlocks(const machine&) { return false; } // model_bias_test has those
void came_back(machine& m) { // as preempt.hpp has it; no other P is to be had
    if (m.retaken.load(std::memory_order_relaxed) == retake::surplus || !mpg::sched::lost_p(m, *m.retake_lock)) return;
    m.p = nullptr;
}

enum class barrier { membarrier, off_cpu, none };

/// What the kernel records of a thread that sleeps, with the barriers that lie around it.
struct kernel_record {
    mpg::base::atomic<std::uint32_t> asleep{0}, ran{0}; // ran: its CPU clock

    void sleep() {
        mpg::base::fence(std::memory_order_seq_cst);
        asleep.store(1, std::memory_order_relaxed);
        mpg::base::fence(std::memory_order_seq_cst); // others have the CPU meanwhile
        asleep.store(0, std::memory_order_relaxed);
        ran.store(ran.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
        mpg::base::fence(std::memory_order_seq_cst);
    }
    /// Under the kernel's locks.
    std::uint32_t read(const mpg::base::atomic<std::uint32_t>& what) const { return what.load(std::memory_order_acquire); }
};

struct state {
    processor p;
    machine m, other;
    mutex retake_lock;
    kernel_record thread; // m's
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
    /// The same, of one that tries a shorter way first.
    void try_to_use_p() {
        if (!mpg::sched::try_enter_runtime(m)) return use_p();
        require(m.p == &p, "it has it until it is asked for it");
        ++users;
        m.p->used = m.p->used + 1;
        m.p->tick.store(m.p->tick.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
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
                if (how == barrier::off_cpu)
                    return mpg::sched::off_its_cpu([&] { return static_cast<int>(thread.read(thread.ran)); },
                                                   [&] { return thread.read(thread.asleep) == 1; });
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
        if (How == barrier::off_cpu)
            s->thread.sleep();
        else
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

// The same of a task that tries first, and takes the long way when it is asked for its P.
void tries_of_a_task(program& p) {
    auto s = std::make_shared<state>();
    p.thread([=] {
        s->try_to_use_p();
        s->try_to_use_p();
        s->hand_over();
    });
    p.thread([=] { s->look(barrier::membarrier); });
    p.thread([=] { s->relief(); });
    p.finally([=] { require(s->p.used == s->users, "no use of it was lost"); });
}

// It has used its P before it sleeps: that is visible to who gets it.
void calls_and_sleeps(program& p) {
    auto s = std::make_shared<state>();
    p.thread([=] {
        s->use_p();
        s->thread.sleep();
        s->hand_over();
    });
    p.thread([=] { s->look(barrier::off_cpu); });
    p.thread([=] { s->relief(); });
    p.finally([=] { require(s->p.used == s->users, "no use of it was lost"); });
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

TEST(model_retake, a_thread_that_is_off_its_cpu_needs_no_membarrier) {
    expect_holds(calls_of_a_task<barrier::off_cpu>);
    expect_holds(calls_and_sleeps);
}
TEST(model_retake, one_thread_at_a_time_uses_a_p) { expect_holds(calls_of_a_task<barrier::membarrier>); }
TEST(model_retake, who_tries_uses_it_or_learns_that_it_is_gone) { expect_holds(tries_of_a_task); }
TEST(model_retake, it_may_be_asked_for_again) { expect_holds(asked_twice); }

TEST(model_retake, without_the_barrier_two_use_it) {
    const auto r = explore(calls_of_a_task<barrier::none>);
    EXPECT_TRUE(r.failed);
    EXPECT_NE(r.message.find("data race"), std::string::npos) << r.message;
}

TEST(model_retake, mutants_are_found) {
    expect_survivors("sched/retake.hpp", {calls_of_a_task<barrier::membarrier>, calls_of_a_task<barrier::off_cpu>, calls_and_sleeps},
                     {
                         // Who leaves late is left alone by the monitor for so long.
                         "leave_runtime: store release, late",
                         // The machine is in the runtime, so that a monitor that asks again meanwhile withdraws anyway.
                         "lost_p: store relaxed, late",
                     });
}

// ---- the promise

struct computing {
    mpg::base::atomic<computing*> relief{nullptr};
    mpg::base::atomic<std::uint32_t> relief_tick{0};
    plain<int> given{0}; // P's that it has been given: by who owns it
};

struct promise {
    struct {
        mpg::base::atomic<std::uint32_t> freezing{0}, frozen_count{0};
    } rt;
    computing m, relief;
    mpg::base::atomic<std::uint32_t> tick{0}; // of m's P; m's own
    std::uint32_t relief_for = 0;             // the tick for which it was promised
    int put_back = 0;
    bool frozen = false, may_allocate = false;

    promise() { m.relief_tick.store(1, std::memory_order_relaxed); } // of a promise that is long kept

    /// m's handler. True: m has given its P away.
    bool signal_comes() {
        mpg::sched::begins_to_freeze(rt);
        computing* r = mpg::sched::take_relief(m, tick.load(std::memory_order_relaxed));
        frozen = r != nullptr;
        if (frozen) rt.frozen_count.fetch_add(1, std::memory_order_seq_cst); // as push_frozen does, and nobody thaws it
        mpg::sched::ends_to_freeze(rt);
        if (!r) return false;
        require(r == &relief, "it is the one that was promised");
        require(relief_for == tick.load(std::memory_order_relaxed), "a promise holds for one tick");
        r->given = r->given + 1;
        return true;
    }
    /// m's task lets go by itself.
    void switches() {
        tick.store(tick.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    }
    /// The monitor promises, and then looks whether the machine has left what it was asked for.
    void monitor(int looks) {
        const std::uint32_t seen = tick.load(std::memory_order_relaxed);
        relief.given = relief.given + 0; // it is the monitor's: who takes it sees what was written
        relief_for = seen;
        mpg::sched::promise_relief(m, &relief, seen);
        for (int i = 0; i < looks; ++i) look();
        if (!mpg::sched::relief_promised(m)) may_allocate = mpg::sched::none_frozen(rt);
    }
    /// The monitor takes the promise back because it wants to allocate.
    void withdraws() {
        const std::uint32_t seen = tick.load(std::memory_order_relaxed);
        relief_for = seen;
        mpg::sched::promise_relief(m, &relief, seen);
        if (mpg::sched::withdraw_relief(m)) ++put_back;
        may_allocate = mpg::sched::none_frozen(rt);
    }
    void look() {
        if (!mpg::sched::relief_promised(m)) return;
        if (tick.load(std::memory_order_relaxed) == m.relief_tick.load(std::memory_order_relaxed)) return;
        if (computing* r = mpg::sched::withdraw_relief(m)) {
            r->given = r->given - 1;
            ++put_back;
        }
    }
};

// The signal comes before or after the task has let go; the monitor looks meanwhile and afterwards.
void promised(program& p) {
    auto s = std::make_shared<promise>();
    p.thread([=] {
        if (s->signal_comes()) return;
        s->switches();
        s->signal_comes(); // late: it holds for one tick only
    });
    p.thread([=] { s->monitor(2); });
    p.finally([=] {
        if (mpg::sched::relief_promised(s->m)) { // the machine has seen it too late: the next look withdraws it
            s->tick.store(s->m.relief_tick.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
            s->look();
            require(s->put_back == 1, "what is promised can be withdrawn");
        }
        require(!(s->frozen && s->may_allocate), "who is frozen is seen");
        require(s->relief.given == (s->put_back == 1 ? -1 : 1), "the relief has the P, or is put back, and not both");
    });
}

// Nothing is allocated while somebody is frozen, or about to be.
void wants_to_allocate(program& p) {
    auto s = std::make_shared<promise>();
    p.thread([=] {
        if (!s->signal_comes()) s->signal_comes();
    });
    p.thread([=] { s->withdraws(); });
    p.finally([=] { require(s->frozen != (s->put_back == 1) && !(s->frozen && s->may_allocate), "who is frozen is seen"); });
}

TEST(model_relief, has_the_p_or_is_put_back) { expect_holds(promised); }
TEST(model_relief, who_is_frozen_is_seen) { expect_holds(wants_to_allocate); }

TEST(model_relief, mutants_are_found) {
    expect_survivors("sched/relief.hpp", {promised, wants_to_allocate},
                     {
                         // Nothing behind it waits for it: the promise is made a little later.
                         "promise_relief: store release, late",
                         // It counts as about to freeze for a little longer.
                         "ends_to_freeze: rmw release, after the next fence",
                         // Needed only where it fails, which the load before it has seen to here.
                         "withdraw_relief: rmw acquire, without acquire",
                     });
}

} // namespace
