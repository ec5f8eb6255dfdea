// Without membarrier(2): refused from the start nothing is at home on a P; refused later the homes are taken away nevertheless.
//
// ctest: label:concurrent
#include "refuse.hpp"
#include "support.hpp"

#include <mpg/chan.hpp>
#include <mpg/context.hpp>
#include <mpg/sync.hpp>
#include <mpg/time.hpp>

#include <atomic>
#include <cerrno>
#include <mutex>
#include <string>
#include <thread>

using namespace mpg::test;
using namespace std::chrono_literals;

namespace {

struct membarrier_refused : with_procs {
    /// f in a task of a child process.
    template <class F> void in_child(F f) {
        passes_in_child([&] { run(f); });
    }
    template <class F> void in_filtered_child(F f) {
        passes_in_child([&] {
            refuse(SYS_membarrier, EPERM);
            run(f);
        });
    }
};
MPG_TEST_PROCS(membarrier_refused);

/// What is made here is used from here, from other tasks and from a plain thread, under a lock that a plain counter needs.
void share_a_mutex() {
    constexpr int rounds = 2000;
    mpg::mutex m;
    int count = 0;
    const auto add = [&] {
        for (int i = 0; i < rounds; ++i) {
            std::lock_guard hold(m);
            ++count;
        }
    };
    add(); // at home
    mpg::wait_group all;
    for (int i = 0; i < 3; ++i) all.go(add);
    std::thread outside(add);
    add();
    all.wait();
    mpg::blocking([&] { outside.join(); });
    EXPECT_EQ(count, 6 * rounds);
}

void share_channels() {
    for (int i = 0; i < 200; ++i) {
        mpg::chan<int> c(1);
        c.send(i); // at home
        EXPECT_EQ(c.recv(), i);
        std::thread outside([&] { c.send(i + 1); });
        EXPECT_EQ(c.recv(), i + 1);
        mpg::blocking([&] { outside.join(); });
    }
}

/// As many tasks as there are Ps read from an empty pipe, which this one fills as soon as it runs again.
void block_all_ps() {
    EXPECT_EQ(mpg::runtime::current()->stats().retake_reason, "");
    int pipe[2];
    ASSERT_EQ(::pipe(pipe), 0);
    const std::size_t readers = mpg::runtime::current()->stats().procs;
    std::atomic<std::size_t> begun{0};
    mpg::wait_group all;
    for (std::size_t i = 0; i < readers; ++i)
        all.go([&] {
            ++begun;
            char one;
            EXPECT_EQ(::read(pipe[0], &one, 1), 1);
        });
    while (begun != readers) mpg::yield();
    EXPECT_EQ(::write(pipe[1], std::string(readers, 'x').data(), readers), static_cast<::ssize_t>(readers));
    all.wait();
    ::close(pipe[0]);
    ::close(pipe[1]);
}

} // namespace

TEST_P(membarrier_refused, from_the_start_locks_and_channels_work) {
    in_filtered_child([] {
        share_a_mutex();
        share_channels();
    });
}

TEST_P(membarrier_refused, from_the_start_tasks_that_block_unannounced_lose_their_ps) {
    in_filtered_child(block_all_ps);
}

TEST_P(membarrier_refused, later_tasks_that_block_unannounced_lose_their_ps) {
    in_child([] {
        refuse(SYS_membarrier, EPERM);
        block_all_ps();
    });
}

TEST_P(membarrier_refused, later_a_lock_at_home_is_still_taken_from_elsewhere) {
    in_child([] {
        refuse(SYS_membarrier, EPERM);
        share_a_mutex();
        share_channels();
    });
}

TEST_P(membarrier_refused, later_a_context_is_still_cancelled_from_elsewhere) {
    in_child([] {
        refuse(SYS_membarrier, EPERM);
        for (int i = 0; i < 100; ++i) {
            auto ctx = mpg::with_cancel(mpg::context::background());
            std::thread outside([&] { ctx.cancel(); });
            ctx.done().recv();
            mpg::blocking([&] { outside.join(); });
        }
    });
}
