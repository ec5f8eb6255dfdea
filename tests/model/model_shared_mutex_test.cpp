// The shared mutex as it stands in the header, with two and three strands: a writer is alone, what it did is seen by who
// comes next, and nobody waits for ever; with the readers in the word and in slots, which open at the first disturbance here.
//
// ctest: timeout:600
// ctest: no-asan the stacks of abandoned fibers stay poisoned; there is one thread, and nothing is freed early
// ctest: no-tsan there is one thread
#include "model/strands.hpp"

#include <mpg/sync/shared_mutex.hpp>

#include <gtest/gtest.h>

namespace {

using namespace mpg::model;
using mpg::sched::at_home;

struct state {
    mpg::shared_mutex mutex;
    plain<int> count; // a race on it is found: so readers and writers exclude each other

    state() {
        mpg::sched::new_strands();
        count = 0;
    }
    void write() {
        mutex.lock();
        count = count + 1;
        mutex.unlock();
    }
    void read() {
        mutex.lock_shared();
        require(count >= 0, "read");
        mutex.unlock_shared();
    }
    void try_write(int& done) {
        if (!mutex.try_lock()) return;
        count = count + 1;
        ++done;
        mutex.unlock();
    }
};

void two_writers(program& p) {
    auto s = std::make_shared<state>();
    for (int i = 0; i != 2; ++i) p.thread([&s = *s] { s.write(); });
    p.finally([s] { require(s->count == 2, "both have written"); });
}

void reader_and_writer(program& p) {
    auto s = std::make_shared<state>();
    p.thread([&s = *s] {
        s.write();
        s.read();
    });
    p.thread([&s = *s] {
        s.read();
        s.write();
    });
    p.finally([s] { require(s->count == 2, "both have written"); });
}

void reader_or_writer(program& p) {
    auto s = std::make_shared<state>();
    p.thread([&s = *s] { s.write(); });
    p.thread([&s = *s] {
        s.read();
        s.write();
    });
    p.finally([s] { require(s->count == 2, "both have written"); });
}

void slots_alone(program& p) {
    struct place {
        std::unique_ptr<mpg::sync::reader_slots> slots = mpg::sync::reader_slots::make();
        plain<int> before, inside;
    };
    auto s = std::make_shared<place>();
    for (int i = 0; i != 2; ++i)
        p.thread([&s = *s] {
            if (!s.slots->enter()) return;
            require(s.before == 1, "what was written before they were opened is seen");
            require(s.inside >= 0, "read");
            (void)s.slots->leave();
        });
    p.thread([&s = *s] {
        s.before = 1;
        s.slots->open();
        if (s.slots->close() == 0) s.inside = 1; // nobody is in
    });
    p.finally([s] { require(!s->slots->enter(), "closed"); });
}

// Slots open, and a writer closes them under those who are in.
void two_readers_and_a_writer(program& p) {
    auto s = std::make_shared<state>();
    for (int i = 0; i != 2; ++i)
        p.thread([&s = *s] {
            s.read();
            s.read();
            s.read();
        });
    p.thread([&s = *s] { s.write(); });
    p.finally([s] { require(s->count == 1, "it has written"); });
}

void readers_and_writers(program& p) {
    auto s = std::make_shared<state>();
    auto tried = std::make_shared<int>(0);
    for (int i = 0; i != 2; ++i)
        p.thread([&s = *s] {
            s.read();
            s.read();
            s.write();
        });
    p.thread([&s = *s, tried] {
        s.write();
        s.read();
        s.try_write(*tried);
    });
    p.finally([s, tried] { require(s->count == 3 + *tried, "all have written"); });
}

TEST(model_shared_mutex, writers_exclude_each_other) { expect_holds(two_writers); }
TEST(model_shared_mutex, readers_and_writers_exclude_each_other) { expect_holds(reader_and_writer); }
TEST(model_shared_mutex, one_strand_is_at_home) {
    expect_holds_at_random(at_home<two_writers>, 100'000);
    expect_holds_at_random(at_home<reader_and_writer>, 100'000);
    expect_holds_at_random(at_home<readers_and_writers>, 100'000);
}
TEST(model_shared_mutex, slots_alone) { expect_holds(slots_alone); }
TEST(model_shared_mutex, slots_are_closed_under_readers) {
    expect_holds_at_random(two_readers_and_a_writer, 200'000);
}
TEST(model_shared_mutex, nobody_is_forgotten) { expect_holds_at_random(readers_and_writers, 200'000); }
TEST(model_shared_mutex, its_mutants_are_found) {
    expect_survivors("mpg/sync/shared_mutex.hpp", {two_writers, reader_or_writer},
                     {
                         // Who does not get it reads nothing that it guards, and goes on under the queue's lock.
                         "acquire: rmw acquire, relaxed when it fails",
                         "lock_limited: rmw acquire, relaxed when it fails",
                         "try_acquire_or_announce: rmw acquire, relaxed when it fails",
                         // One reader does not hand over what another one has read. And who is handed the word is
                         // woken, which orders, too; the store is for readers that come later.
                         "hand_over: load acquire, without acquire",
                         "hand_over: store release, late",
                         "hand_over: store release, without release",
                         "release: rmw acq_rel, relaxed when it fails",
                         "release: rmw acq_rel, without acquire",
                         // The memory that the pointer leads to is not the model's.
                         "enter_slot: load acquire, without acquire",
                         "unlock_shared: load acquire, without acquire",
                     });
    // Opened late is opened when it is closed: nobody has come in.
    expect_survivors("mpg/sync/reader_slots.hpp", {slots_alone}, {"open: store release, late"});
}

} // namespace
