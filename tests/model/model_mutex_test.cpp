// The mutex as it stands in the header, with two and three strands: one holds it at a time, what one did is seen by the
// next, and nobody waits for ever. A strand's park is that of a plain thread; time stands still, so that no mutex is ever
// handed over.
//
// ctest: timeout:600
// ctest: no-asan the stacks of abandoned fibers stay poisoned; there is one thread, and nothing is freed early
// ctest: no-tsan there is one thread
#include "model/strands.hpp"

#include <mpg/sync/mutex_core.hpp>

#include <gtest/gtest.h>

#include <array>

namespace {

using namespace mpg::model;
using mpg::sched::at_home;

struct state {
    mpg::sync::mutex_core mutex;
    plain<int> count;

    state() {
        mpg::sched::new_strands();
        count = 0;
    }
    void add() {
        require(mutex.lock<mpg::sched::wait_reason::mutex>(), "without a limit it is always had");
        count = count + 1;
        mutex.unlock();
    }
    void try_add(int& done) {
        if (!mutex.try_lock()) return;
        count = count + 1;
        ++done;
        mutex.unlock();
    }
};

void two_strands(program& p) {
    auto s = std::make_shared<state>();
    for (int i = 0; i != 2; ++i)
        p.thread([&s = *s] {
            s.add();
            s.add();
        });
    p.finally([s] { require(s->count == 4, "each has had it twice"); });
}

void one_each(program& p) {
    auto s = std::make_shared<state>();
    for (int i = 0; i != 2; ++i) p.thread([&s = *s] { s.add(); });
    p.finally([s] { require(s->count == 2, "each has had it"); });
}

// One who locks again and again past two who wait: they are woken one after the other.
void past_those_who_wait(program& p) {
    auto s = std::make_shared<state>();
    p.thread([&s = *s] {
        s.add();
        s.add();
    });
    for (int i = 0; i != 2; ++i) p.thread([&s = *s] { s.add(); });
    p.finally([s] { require(s->count == 4, "all have had it"); });
}

void one_only_tries(program& p) {
    auto s = std::make_shared<state>();
    auto done = std::make_shared<int>(0);
    for (int i = 0; i != 2; ++i) p.thread([&s = *s] { s.add(); });
    p.thread([&s = *s, done] { s.try_add(*done); });
    p.finally([s, done] { require(s->count == 2 + *done, "all have had it"); });
}

TEST(model_mutex, two_strands_exclude_each_other) { expect_holds(two_strands); }
TEST(model_mutex, nobody_is_forgotten) { expect_holds_at_random(past_those_who_wait, 300'000); }
TEST(model_mutex, one_who_only_tries_disturbs_nobody) { expect_holds(one_only_tries); }
TEST(model_mutex, one_strand_is_at_home) {
    expect_holds(at_home<one_each>);
    expect_holds_at_random(at_home<two_strands>, 100'000);
    expect_holds_at_random(at_home<one_only_tries>, 100'000);
}
TEST(model_mutex, its_mutants_are_found) {
    expect_survivors("mpg/sync/mutex_core.hpp", {two_strands, one_only_tries, at_home<one_each>},
                     {
                         // Who does not get it reads nothing that it guards, and goes on under the queue's lock.
                         "lock: rmw acquire, relaxed when it fails",
                         "try_lock: rmw acquire, relaxed when it fails",
                         "try_lock_or_announce: rmw acquire, relaxed when it fails",
                     });
}

} // namespace
