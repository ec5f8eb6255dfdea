// A million tasks that wait, five million that do not: what they cost.
//
// ctest: serial
// ctest: timeout:300
// ctest: no-asan its shadow and its fake stacks would be measured
// ctest: no-tsan its shadow would be measured
#include "support.hpp"

#include <mpg/chan.hpp>
#include <mpg/sync.hpp>

#include <atomic>
#include <fstream>
#include <string>

namespace {

/// Resident bytes of this process.
double resident() {
    std::ifstream status("/proc/self/status");
    double kib = 0;
    for (std::string word; status >> word;)
        if (word == "VmRSS:") status >> kib;
    return kib * 1024;
}

TEST(million_tasks, that_wait_take_no_more_than_4_6_kib_each) {
    constexpr int tasks = 1'000'000;
    std::atomic<int> woken{0};
    mpg::test::run_with_procs(2, [&] {
        mpg::chan<void> hold;
        mpg::wait_group started, ended;
        started.add(tasks);
        ended.add(tasks);
        const double before = resident();
        for (int i = 0; i < tasks; ++i) {
            mpg::go([&, hold] {
                started.done();
                hold.recv();
                woken.fetch_add(1, std::memory_order_relaxed);
                ended.done();
            });
        }
        started.wait();
        EXPECT_TRUE(
            mpg::test::eventually([&] { return mpg::runtime::current()->stats().tasks_waiting >= tasks; },
                                  std::chrono::seconds(60)));
        const double each = (resident() - before) / tasks;
        RecordProperty("bytes_per_task", std::to_string(each));
        std::cout << each << " bytes a task\n";
        EXPECT_LE(each, 4.6 * 1024);
        hold.close();
        ended.wait();
    });
    EXPECT_EQ(woken, tasks);
}

TEST(million_tasks, that_wait_end_with_their_runtime) {
    constexpr int tasks = 1'000'000;
    std::atomic<int> unwound{0};
    struct counts {
        std::atomic<int>& n;
        ~counts() { n.fetch_add(1, std::memory_order_relaxed); }
    };
    mpg::test::run_with_procs(2, [&] {
        mpg::chan<void> hold;
        mpg::wait_group started;
        started.add(tasks);
        for (int i = 0; i < tasks; ++i) {
            mpg::go([&, hold] {
                counts c{unwound};
                started.done();
                hold.recv();
            });
        }
        started.wait();
    });
    EXPECT_EQ(unwound, tasks);
}

TEST(million_tasks, that_are_short_run_in_bounded_memory) {
    constexpr int tasks = 5'000'000, batch = 10'000;
    std::atomic<int> ran{0};
    mpg::test::run_with_procs(2, [&] {
        double bound = 0;
        for (int done = 0; done < tasks; done += batch) {
            mpg::wait_group ended;
            ended.add(batch);
            for (int i = 0; i < batch; ++i) {
                mpg::go([&] {
                    ran.fetch_add(1, std::memory_order_relaxed);
                    ended.done();
                });
            }
            ended.wait();
            if (done == 0) bound = resident() + (32 << 20);
        }
        EXPECT_LE(resident(), bound);
    });
    EXPECT_EQ(ran, tasks);
}

TEST(million_tasks, that_are_started_in_one_go_do_not_pile_up) {
    // Nobody waits between: the creator's slices end, and what it has created gets its turn.
    constexpr int tasks = 5'000'000;
    std::atomic<int> ran{0};
    mpg::test::run_with_procs(2, [&] {
        const double before = resident();
        double most = 0;
        mpg::wait_group ended;
        ended.add(tasks);
        for (int i = 0; i < tasks; ++i) {
            mpg::go([&] {
                ran.fetch_add(1, std::memory_order_relaxed);
                ended.done();
            });
            if (i % 100'000 == 0) most = std::max(most, resident() - before);
        }
        ended.wait();
        std::cout << "at most " << most / (1 << 20) << " MiB\n";
        EXPECT_LE(most, 512 << 20); // five million records would be 1.2 GiB
    });
    EXPECT_EQ(ran, tasks);
}

} // namespace
