// Where one who has nothing to do looks for work: whose work he leaves alone, and what wakes him when he looks away.
//
// ctest: label:concurrent
#include "support.hpp"

#include <mpg/chan.hpp>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

namespace {

namespace sched = mpg::sched;
using namespace std::chrono_literals;

constexpr mpg::base::nanos window = 200'000;

/// Is the caller's P brisk for somebody who has seen that so many slices began and so many tasks ended within a time?
bool is_brisk(std::uint32_t begun, std::uint64_t ended, mpg::base::nanos time, bool before = false) {
    sched::runtime_section here;
    const sched::processor& p = *here.m->p;
    sched::outlook::view v;
    v.since = 1'000'000;
    v.slices = p.slices.load(std::memory_order_relaxed) - begun;
    v.ended = p.ended.load(std::memory_order_relaxed) - ended;
    v.brisk = before;
    return sched::is_brisk(p, v, v.since + time);
}

TEST(brisk, is_who_begins_a_task_every_160_ns_and_ends_every_other) {
    mpg::test::run_with_procs(1, [] {
        EXPECT_TRUE(is_brisk(1250, 625, window));
        EXPECT_FALSE(is_brisk(1249, 1249, window)) << "too slow";
        EXPECT_FALSE(is_brisk(1250, 624, window)) << "they go on afterwards";
        EXPECT_FALSE(is_brisk(1250, 625, 2 * window)) << "in twice the time";
    });
}
TEST(brisk, is_known_for_200_us) {
    mpg::test::run_with_procs(1, [] {
        EXPECT_TRUE(is_brisk(0, 0, window - 1, true));
        EXPECT_FALSE(is_brisk(0, 0, window, true));
        EXPECT_FALSE(is_brisk(1250, 625, window - 1, false));
    });
}
TEST(brisk, is_nobody_at_first_sight) {
    mpg::test::run_with_procs(1, [] {
        sched::runtime_section here;
        sched::outlook::view v;
        EXPECT_FALSE(sched::is_brisk(*here.m->p, v, 1));
        v = {};
        v.slices = here.m->p->slices.load(std::memory_order_relaxed) - 1'000'000;
        v.ended = here.m->p->ended.load(std::memory_order_relaxed) - 1'000'000;
        EXPECT_FALSE(sched::is_brisk(*here.m->p, v, 1'000'000));
    });
}

// Two Ps, both of which compute: nobody else takes anything.
TEST(a_thief, leaves_the_tasks_of_a_brisk_one_alone) {
    mpg::options o;
    o.preempt_after = 0ms;
    mpg::run(mpg::test::options_for(2, o), [] {
        std::atomic<bool> begun{false}, lie_there{false}, looked{false};
        auto thief = mpg::spawn([&] {
            begun = true;
            while (!lie_there) {}
            {
                sched::runtime_section here;
                sched::outlook seen;
                const mpg::base::nanos now = mpg::base::now();
                seen.begin(2, now);
                for (auto& v : seen.of) v.since = now, v.brisk = true;
                EXPECT_EQ(sched::steal(here.m, seen, now), nullptr);
                EXPECT_EQ(seen.moving, 1u) << "he is seen to have some";
                for (auto& v : seen.of) v.brisk = false;
                sched::task* taken = sched::steal(here.m, seen, now);
                EXPECT_NE(taken, nullptr);
                if (taken) sched::push_ring(*here.m->p, taken);
            }
            looked = true;
        });
        while (!begun) {}
        std::atomic<int> run{0};
        std::vector<mpg::task<void>> some;
        for (int i = 0; i < 8; ++i) some.push_back(mpg::spawn([&] { ++run; }));
        lie_there = true;
        while (!looked) {}
        for (auto& t : some) t.join();
        thief.join();
        EXPECT_EQ(run, 8);
    });
}

TEST(a_thief, waits_before_small_rings_when_what_it_took_has_not_lasted_four_times) {
    sched::outlook seen;
    for (int i = 0; i < 4; ++i) {
        EXPECT_EQ(seen.wait_until, 0) << i;
        seen.taken = 1'000'000;
        seen.begin(1, 1'004'999);
    }
    EXPECT_EQ(seen.wait_until, 1'054'999);
    seen.begin(1, 2'000'000);
    EXPECT_EQ(seen.wait_until, 2'050'000) << "nothing was taken since";
    seen.taken = 3'000'000;
    seen.begin(1, 3'005'000);
    EXPECT_EQ(seen.wait_until, 0) << "that has lasted";
}

/// Does the caller doze for much less than the minute that it would, while a plain thread readies a task? It does so before, or
/// when somebody is seen to doze.
bool dozes_shortly(bool before) {
    mpg::chan<int> c;
    auto waits = mpg::spawn([c] { EXPECT_EQ(c.recv(), 1); });
    mpg::yield(); // it waits
    std::chrono::nanoseconds took{};
    {
        sched::runtime_section here;
        auto& rt = *here.m->rt;
        std::atomic<bool> over{false};
        std::thread other([&, c] {
            while (!before && !over && !rt.dozer.load(std::memory_order_relaxed)) std::this_thread::yield();
            c.send(1);
        });
        if (before) other.join();
        const auto begun = std::chrono::steady_clock::now();
        sched::doze(here.m, 60'000'000'000);
        took = std::chrono::steady_clock::now() - begun;
        EXPECT_EQ(rt.dozer.load(std::memory_order_relaxed), nullptr);
        over = true;
        if (!before) other.join();
    }
    waits.join();
    return took < 30s;
}
TEST(one_who_dozes, is_woken_by_what_comes_from_elsewhere) {
    mpg::test::run_with_procs(1, [] {
        for (int i = 0; i < 100; ++i) ASSERT_TRUE(dozes_shortly(false)) << i;
    });
}
TEST(one_who_dozes, does_not_when_it_has_come_already) {
    mpg::test::run_with_procs(1, [] { EXPECT_TRUE(dozes_shortly(true)); });
}

} // namespace
