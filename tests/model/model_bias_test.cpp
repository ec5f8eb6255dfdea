// A lock with a home (bias.hpp): whoever takes it, at home or not, and whatever becomes of the P meanwhile, one strand at a time is
// inside, and sees what the one before has written.
//
// ctest: timeout:600
// ctest: no-asan the stacks of abandoned fibers stay poisoned; there is one thread, and nothing is freed early
// ctest: no-tsan there is one thread
#include "model/support.hpp"

#include <mpg/base/atomic.hpp>
#include <mpg/sched/bias.hpp>

#include <gtest/gtest.h>

namespace {

using namespace mpg::model;
using mpg::sched::retake;

struct processor {
    mpg::sched::home* locks = nullptr;
};
struct machine {
    mpg::base::atomic<std::uint32_t> in_runtime{0};
    mpg::base::atomic<retake> retaken{retake::no};
    mpg::base::atomic<std::uint32_t> spinlocks{0};
    processor* p = nullptr;
    mutex* retake_lock = nullptr;
};
bool holds_spinlocks(const machine& m) { return m.spinlocks.load(std::memory_order_acquire) != 0; }
void came_back(machine& m) { // as preempt.hpp has it; no other P is to be had
    if (m.retaken.load(std::memory_order_relaxed) == retake::surplus || !mpg::sched::lost_p(m, *m.retake_lock)) return;
    m.p = nullptr;
}

struct state {
    processor p;
    machine m, other;
    mutex retake_lock;
    mpg::base::atomic<machine*> has_p{&m};
    event given;

    mpg::sched::home locks;
    struct lock {
        mutex common;
        mpg::sched::bias bias;
        plain<int> inside{0};
        int visits = 0;
        explicit lock(mpg::sched::home& h) { bias.settle(&h); }
    };
    lock a{locks}, b{locks};
    bool with_barrier = true, with_count = true;

    state() {
        p.locks = &locks;
        m.p = &p;
        m.retake_lock = other.retake_lock = &retake_lock;
    }
    void count(machine& on, int change) {
        if (!with_count) return;
        const std::uint32_t n = on.spinlocks.load(std::memory_order_relaxed) + static_cast<std::uint32_t>(change);
        on.spinlocks.store(n, std::memory_order_release);
    }
    static void visit(lock& l) {
        ++l.visits;
        l.inside = l.inside + 1;
    }
    void barrier() {
        if (with_barrier) explorer::current().fence_all();
    }
    void take_common(lock& l) {
        l.common.lock();
        if (!l.bias.is_nobodys()) l.bias.revoke([&] { barrier(); }, [] { explorer::current().yield(); });
        visit(l);
        l.common.unlock();
    }
    /// As biased_lock::lock does, with all that follows.
    void take(machine& on, lock& l) {
        if (l.bias.is_nobodys()) {
            l.common.lock();
            visit(l);
            return l.common.unlock();
        }
        count(on, +1);
        if (l.bias.enter(on)) {
            visit(l);
            l.bias.leave();
            count(on, -1);
            return;
        }
        count(on, -1);
        take_common(l);
    }
    void check(int visits) {
        require(a.inside == a.visits && b.inside == b.visits && a.visits + b.visits == visits, "one at a time was inside");
    }
    /// The next one that is not at home closes the home.
    void many_were_taken() { locks.taken.store(mpg::sched::bias::taken_at_first, std::memory_order_relaxed); }
    void take_p() {
        const bool taken = mpg::sched::take_p(
            m, retake_lock,
            [] {
                explorer::current().fence_all();
                return true;
            },
            [] { return true; }, [] {});
        if (taken) give();
    }
    void give() {
        other.p = &p;
        has_p.store(&other, std::memory_order_release);
        given.set();
    }
};

// One at home, one who is not.
template <bool Barrier> void home_and_another(program& p) {
    auto s = std::make_shared<state>();
    s->with_barrier = Barrier;
    p.thread([=] {
        s->take(s->m, s->a);
        s->take(s->m, s->a);
    });
    p.thread([=] { s->take_common(s->a); });
    p.finally([=] { s->check(3); });
}

// Two who are not.
void two_others(program& p) {
    auto s = std::make_shared<state>();
    p.thread([=] { s->take(s->m, s->a); });
    p.thread([=] { s->take_common(s->a); });
    p.thread([=] { s->take_common(s->a); });
    p.finally([=] { s->check(3); });
}

// The home is closed for one lock, and then, without a barrier, for another one.
template <bool Barrier> void the_home_is_closed(program& p) {
    auto s = std::make_shared<state>();
    s->with_barrier = Barrier;
    s->many_were_taken();
    p.thread([=] {
        s->take(s->m, s->a);
        s->take(s->m, s->b);
    });
    p.thread([=] {
        s->take_common(s->a);
        s->take_common(s->b);
    });
    p.finally([=] { s->check(4); });
}
// It is closed by one, and found closed by another one.
void the_home_is_closed_by_another(program& p) {
    auto s = std::make_shared<state>();
    s->many_were_taken();
    p.thread([=] { s->take(s->m, s->b); });
    p.thread([=] { s->take_common(s->a); });
    p.thread([=] { s->take_common(s->b); });
    p.finally([=] { s->check(3); });
}

// The monitor takes the P away, and its next machine takes the lock at home, too.
template <bool Count> void the_p_is_taken(program& p) {
    auto s = std::make_shared<state>();
    s->with_count = Count;
    p.thread([=] {
        s->take(s->m, s->a);
        mpg::sched::enter_runtime(s->m); // it waits for the decision at the latest here
        if (s->m.p) {
            s->m.p = nullptr;
            s->give();
        }
        mpg::sched::leave_runtime(s->m);
    });
    p.thread([=] { s->take_p(); });
    p.thread([=] {
        s->given.wait();
        s->take(s->other, s->a);
    });
    p.finally([=] { s->check(2); });
}

// The same, and another one takes it as well.
void the_p_is_taken_and_another(program& p) {
    auto s = std::make_shared<state>();
    p.thread([=] { s->take(s->m, s->a); });
    p.thread([=] {
        s->take_p();
        if (s->has_p.load(std::memory_order_acquire) == &s->other) s->take(s->other, s->a);
    });
    p.thread([=] { s->take_common(s->a); });
    p.finally([=] { require(s->a.inside == s->a.visits, "one at a time was inside"); });
}

TEST(model_bias, one_at_a_time_at_home_and_elsewhere) {
    expect_holds(home_and_another<true>);
    expect_holds(two_others);
}
TEST(model_bias, the_p_may_be_taken) {
    expect_holds(the_p_is_taken<true>);
    expect_holds_at_random(the_p_is_taken_and_another, 200'000);
}
TEST(model_bias, one_barrier_closes_the_home_of_all_locks) {
    expect_holds(the_home_is_closed<true>);
    expect_holds_at_random(the_home_is_closed_by_another, 200'000);
}
TEST(model_bias, without_the_barrier_two_are_inside) {
    for (setup s : {home_and_another<false>, the_home_is_closed<false>}) {
        const auto r = explore(s);
        EXPECT_TRUE(r.failed);
        EXPECT_NE(r.message.find("data race"), std::string::npos) << r.message;
    }
}
TEST(model_bias, a_p_that_is_taken_from_who_does_not_count_lets_two_inside) {
    const auto r = explore(the_p_is_taken<false>);
    EXPECT_TRUE(r.failed);
    EXPECT_NE(r.message.find("data race"), std::string::npos) << r.message;
}
TEST(model_bias, mutants_are_found) {
    expect_survivors("sched/bias.hpp", {home_and_another<true>, two_others, the_p_is_taken<true>, the_home_is_closed<true>},
                     {
                         // The common lock orders it here. A mutex, which takes none on its way, needs it (model_mutex_test).
                         "is_nobodys: load acquire, without acquire",
                         // Others wait for a little longer.
                         "leave: store release, late",
                         // How many were taken is a guess.
                         "may_take_one: rmw relaxed, after the next fence",
                         // That a home is closed is found by the strand that has closed it, here; for others
                         // the_home_is_closed_by_another needs it, which has too many executions to run for each mutant.
                         "revoke: load acquire, without acquire",
                         // Both are in time by the barrier that follows.
                         "revoke: store relaxed, late",
                         // Of `closed` and of `nowhere`: as above. Late: who does not know so far does it once more.
                         "revoke: store release, late",
                         "revoke: store release, late",
                         "revoke: store release, without release",
                         "revoke: store release, without release",
                         // Nobody else knows the lock.
                         "settle: store relaxed, late",
                     });
}

} // namespace
