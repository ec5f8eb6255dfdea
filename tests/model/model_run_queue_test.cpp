// The local run queue, with room for two: every task is taken once, with all that was written before its push, in every
// order of an owner and a thief.
//
// ctest: no-asan the stacks of abandoned fibers stay poisoned; there is one thread, and nothing is freed early
// ctest: no-tsan there is one thread
#include "model/support.hpp"

#include <mpg/sched/run_queue.hpp>

#include <gtest/gtest.h>

#include <array>

namespace mpg::sched {
struct task {
    model::plain<int> written{0}; // by who pushes, before the push
    model::plain<int> taken{0};   // by who has taken it
};
} // namespace mpg::sched

namespace {

using namespace mpg::model;
using mpg::sched::task;
using queue = mpg::sched::basic_run_queue<2>;

struct state {
    queue ring;
    std::array<task, 4> tasks;
    std::array<int, 4> count{};
    void push(std::size_t i) {
        tasks[i].written = static_cast<int>(i) + 1;
        if (!ring.push(&tasks[i])) take(tasks[i]); // the global queue's part
    }
    void take(task& t) {
        auto i = static_cast<std::size_t>(&t - tasks.data());
        require(t.written == static_cast<int>(i) + 1, "what was written before the push is seen");
        t.taken = t.taken + 1;
        ++count[i];
    }
    void pop() {
        if (task* t = ring.pop(false)) take(*t);
    }
    void steal() {
        task* out[queue::capacity];
        for (std::uint32_t i = 0, n = ring.steal(out); i != n; ++i) take(*out[i]);
    }
    void drain(std::size_t n) {
        while (task* t = ring.pop(false)) take(*t);
        for (std::size_t i = 0; i != n; ++i) require(count[i] == 1, "each task was taken once");
    }
};

void owner_and_thief(program& p) {
    auto s = std::make_shared<state>();
    p.thread([=] {
        s->push(0);
        s->push(1);
        s->pop();
        s->push(2);
    });
    p.thread([=] {
        s->steal();
        s->steal();
    });
    p.finally([=] { s->drain(3); });
}

void two_thieves(program& p) {
    auto s = std::make_shared<state>();
    s->push(0);
    p.thread([=] {
        s->push(1);
        s->pop();
    });
    p.thread([=] { s->steal(); });
    p.thread([=] { s->steal(); });
    p.finally([=] { s->drain(2); });
}

// A full ring gives its older half away while a thief is at it.
void overflow(program& p) {
    auto s = std::make_shared<state>();
    s->push(0);
    s->push(1);
    p.thread([=] {
        task* half[queue::capacity / 2];
        for (std::uint32_t i = 0, n = s->ring.take_oldest(half, queue::capacity / 2); i != n; ++i) s->take(*half[i]);
        s->push(2);
        s->pop();
    });
    p.thread([=] { s->steal(); });
    p.finally([=] { s->drain(3); });
}

// The owner takes back what it has pushed last while a thief takes several at once.
struct wide_state {
    mpg::sched::basic_run_queue<4> ring;
    std::array<task, 4> tasks;
    std::array<int, 4> count{};
    void push(std::size_t i) {
        tasks[i].written = static_cast<int>(i) + 1;
        require(ring.push(&tasks[i]), "there is room");
    }
    void take(task& t) {
        auto i = static_cast<std::size_t>(&t - tasks.data());
        require(t.written == static_cast<int>(i) + 1, "what was written before the push is seen");
        t.taken = t.taken + 1;
        ++count[i];
    }
    void take_back(std::size_t i) {
        if (ring.take_back(&tasks[i], false)) take(tasks[i]);
    }
    void steal() {
        task* out[4];
        for (std::uint32_t i = 0, n = ring.steal(out); i != n; ++i) take(*out[i]);
    }
    void drain(std::size_t n) {
        while (task* t = ring.pop(false)) take(*t);
        for (std::size_t i = 0; i != n; ++i) require(count[i] == 1, "each task was taken once");
    }
};
void taken_back(program& p) {
    auto s = std::make_shared<wide_state>();
    for (std::size_t i = 0; i != 3; ++i) s->push(i);
    p.thread([=] {
        s->take_back(1); // from between others
        s->push(3);
    });
    p.thread([=] { s->steal(); });
    p.finally([=] { s->drain(4); });
}
void last_one_taken_back(program& p) {
    auto s = std::make_shared<wide_state>();
    s->push(0);
    p.thread([=] {
        s->take_back(0);
        s->push(1);
    });
    p.thread([=] {
        s->steal();
        s->steal();
    });
    p.finally([=] { s->drain(2); });
}

TEST(model_run_queue, owner_takes_back_beside_a_thief_of_several) { expect_holds(taken_back); }
TEST(model_run_queue, owner_and_thief_want_the_last_one) { expect_holds(last_one_taken_back); }
TEST(model_run_queue, owner_and_thief_take_each_task_once) { expect_holds(owner_and_thief); }
TEST(model_run_queue, two_thieves_do_not_take_the_same) { expect_holds(two_thieves); }
TEST(model_run_queue, an_overflow_beside_a_thief) { expect_holds(overflow); }

TEST(model_run_queue, mutants_are_found) {
    expect_survivors(
        "sched/run_queue.hpp", {owner_and_thief, two_thieves, overflow, taken_back, last_one_taken_back},
        {
            // The owner wrote the slots itself, and writes them again itself.
            "pop: rmw acq_rel, without acquire",
            "pop: rmw acq_rel, without release",
            // What they are for the checker cannot do: the thief's read of a slot would come after the owner's next
            // write into it (load buffering).
            "push: load acquire, without acquire",
            "take: rmw acq_rel, without release",
            // The exchange fails when the head was stale.
            "take: rmw acq_rel, without acquire",
            // Load buffering again: the thief would have to read a slot before the owner writes it.
            "take_back: rmw acquire, without acquire",
            // While the busy bit is set nobody looks, so the order of the stores in its extent is free (the one to tail_
            // is another of that name, and is found); and the bit may stay for longer.
            "take_back: store relaxed, late",
            "take_back: store release, late",
        });
}

} // namespace
