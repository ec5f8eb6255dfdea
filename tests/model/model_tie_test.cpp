// The tie of a thread to a CPU (tie.hpp) where a P passes from a hog to another thread and back (frozen.hpp, relief.hpp): in every order
// of the two and of the monitor, a task runs with the affinity that is its thread's own, keeps the one that it chooses itself, and
// nobody stays tied; and one thread at a time has the P.
//
// ctest: timeout:600
// ctest: no-asan the stacks of abandoned fibers stay poisoned; there is one thread, and nothing is freed early
// ctest: no-tsan there is one thread
#include "model/support.hpp"

#include <mpg/base/atomic.hpp>
#include <mpg/sched/frozen.hpp>
#include <mpg/sched/tie.hpp>

#include <gtest/gtest.h>

namespace {

using namespace mpg::model;
using mpg::sched::retake;
using mpg::sched::tie;

using mask = unsigned; // of CPUs: all run on the first

struct runtime;
struct processor;

struct machine {
    runtime* rt = nullptr;
    plain<processor*> p{nullptr};
    mpg::base::atomic<retake> retaken{retake::no};
    mpg::base::atomic<machine*> relief{nullptr};
    mpg::base::atomic<std::uint32_t> relief_tick{0};
    plain<machine*> next_frozen{nullptr};
    bool frozen = false, reserved = false, relieves = false; // model_frozen_test has these
    event thaw, wake;
    mpg::base::atomic<processor*> thawed_on{nullptr};
    mpg::base::atomic<std::uint32_t> thawed_tick{~0u};
    mpg::base::atomic<tie> tied{tie::none};
    plain<mask> cpus{0};
    mpg::base::atomic<mask> kernels{7}; // what the kernel has: the newest, but it orders nothing else
};
struct processor {
    runtime* rt = nullptr;
    mpg::base::atomic<machine*> m{nullptr};
    mpg::base::atomic<std::uint32_t> tick{0}, slices{0};
    mpg::base::atomic<int> last_thaw{0};
    plain<int> used{0}; // by who holds it
};
struct runtime {
    mutex frozen_lock;
    mpg::base::atomic<std::uint32_t> blocking_count{0}, frozen_count{0}, freezing{0};
    plain<machine*> frozen_first{nullptr}, frozen_last{nullptr};
};

// What the headers call.
void tells_of_handoff(processor&, machine&) {}
void no_longer_blocking(runtime&) {}
void wake_monitor(runtime&) {}
mask has(machine& m) { return m.kernels.fetch_or(0, std::memory_order_relaxed); }
void gets(machine& m, mask to) { m.kernels.exchange(to, std::memory_order_relaxed); }
bool narrow(machine& m, unsigned cpu) {
    m.cpus = has(m);
    gets(m, 1u << cpu);
    return true;
}
void widen(machine& m, bool) { gets(m, m.cpus); }
void await_untied(machine&) { yield(); }
void comes_to_this_cpu(processor&, machine& to) { mpg::sched::tie_to(to, 0); }

struct state {
    runtime rt;
    processor p;
    machine a, b;

    state() {
        a.rt = b.rt = p.rt = &rt;
        a.p = &p;
        p.m.store(&a, std::memory_order_relaxed);
        mpg::sched::push_frozen(rt, &b);
        mpg::sched::promise_relief(a, mpg::sched::reserve_frozen(rt), 0);
    }
    /// m's thread has been woken, with the P, and its task goes on: with the affinity that it had, and has another one from now on.
    void goes_on(machine& m, mask had, mask chooses) {
        m.thaw.wait();
        mpg::sched::untie(m);
        require(p.m.load(std::memory_order_relaxed) == &m, "the P is this machine's");
        p.used = p.used + 1;
        require(has(m) == had, "the task runs with its thread's own affinity");
        gets(m, chooses);
    }
    /// A signal meets m's task, which computes.
    void gives_way(machine& m) {
        p.used = p.used + 1;
        require(mpg::sched::gives_way(m, [](processor*) {}), "it was asked");
    }
    /// As monitor::look_at has it.
    void looks() {
        if (machine* m = p.m.load(std::memory_order_acquire)) mpg::sched::untie_for(*m);
    }
    void at_the_end(int uses, mask of_a, mask of_b) {
        require(p.used == uses, "no use of the P was lost");
        for (machine* m : {&a, &b}) require(m->tied.load(std::memory_order_relaxed) == tie::none, "nobody stays tied");
        require(has(a) == of_a && has(b) == of_b, "each has the affinity that its task has chosen last");
    }
};

// The hog's P goes to b, whose task ends, and back.
void there_and_back(program& p) {
    auto s = std::make_shared<state>();
    p.thread([=] {
        s->gives_way(s->a);
        s->goes_on(s->a, 7, 3);
    });
    p.thread([=] {
        s->goes_on(s->b, 7, 5);
        require(mpg::sched::thaw_one(&s->b, 0), "a is frozen");
    });
    p.thread([=] { s->looks(); });
    p.finally([=] { s->at_the_end(3, 3, 5); });
}

// And on: b is tied a second time, perhaps after the monitor has untied it.
template <int Looks> void there_and_back_and_there(program& p) {
    auto s = std::make_shared<state>();
    p.thread([=] {
        s->gives_way(s->a);
        s->goes_on(s->a, 7, 3);
        require(mpg::sched::thaw_one(&s->a, 0), "b is frozen");
    });
    p.thread([=] {
        s->goes_on(s->b, 7, 5);
        mpg::sched::promise_relief(s->b, mpg::sched::reserve_frozen(s->rt), s->p.tick.load(std::memory_order_relaxed));
        s->gives_way(s->b);
        s->goes_on(s->b, 5, 7);
    });
    p.thread([=] {
        for (int i = 0; i != Looks; ++i) s->looks();
    });
    p.finally([=] { s->at_the_end(5, 3, 7); });
}

TEST(model_tie, a_task_has_its_own_affinity_and_nobody_stays_tied) { expect_holds(there_and_back); }
TEST(model_tie, again_and_again) { expect_holds(there_and_back_and_there<1>); }
TEST(model_tie, a_monitor_that_looks_twice) { expect_holds_at_random(there_and_back_and_there<2>, 100'000); }
TEST(model_tie, mutants_are_found) { expect_survivors("sched/tie.hpp", {there_and_back, there_and_back_and_there<1>},
                     {
                         // What it changes places with is for the monitor, which looks for that on the P later.
                         "tie_to: store release, late",
                         // It was somebody else's, and nothing of it is used.
                         "untie_for: rmw acquire, relaxed when it fails",
                         // Who waits for it waits a little longer.
                         "untie_for: store release, late",
                     });
}

} // namespace
