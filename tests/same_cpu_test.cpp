// A P that passes to another thread in the middle of a task stays on its CPU, and no thread's affinity is seen to change.
//
// ctest: serial  others that want its CPU move a thread from it
// ctest: no-asan  preemption is off under sanitizers
// ctest: no-tsan  the same
#include "refuse.hpp"
#include "support.hpp"

#include <mpg/sync.hpp>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <ctime>
#include <sched.h>

using namespace mpg::test;
using namespace std::chrono_literals;

namespace {

struct same_cpu : with_procs {
    /// Hogs that compute for 40 ms of CPU each in slices of 1 ms; look(which) is called all the time. How many were preempted.
    template <class F> std::uint64_t compute(unsigned hogs, F look) {
        mpg::options o;
        o.preempt_after = 1ms;
        return run(o, [&] {
            mpg::wait_group ended;
            for (unsigned i = 0; i < hogs; ++i) {
                ended.go([&, i] {
                    ::timespec now{};
                    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
                    for (const auto end = now.tv_nsec + 1'000'000'000 * now.tv_sec + 40'000'000;
                         now.tv_nsec + 1'000'000'000 * now.tv_sec < end; ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now))
                        look(i);
                });
            }
            ended.wait();
            return mpg::runtime::current()->stats().preemptions;
        });
    }
};
INSTANTIATE_TEST_SUITE_P(procs, same_cpu, ::testing::Values(1u, 2u, 4u), [](const auto& of) { return std::to_string(of.param); });

::cpu_set_t affinity() {
    ::cpu_set_t mask;
    CPU_ZERO(&mask);
    EXPECT_EQ(::sched_getaffinity(0, sizeof mask, &mask), 0);
    return mask;
}

TEST_P(same_cpu, a_task_runs_with_the_affinity_of_the_process) {
    const ::cpu_set_t ours = affinity();
    std::atomic<unsigned> others{0};
    const auto preemptions = compute(4 * procs(), [&](unsigned) {
        const ::cpu_set_t mine = affinity();
        if (!CPU_EQUAL(&mine, &ours)) ++others;
    });
    EXPECT_EQ(others, 0u);
    EXPECT_GT(preemptions, 0u);
}

TEST_P(same_cpu, and_with_that_which_it_has_given_its_thread) {
    const ::cpu_set_t ours = affinity();
    ::cpu_set_t last;
    CPU_ZERO(&last);
    for (int cpu = CPU_SETSIZE - 1; cpu >= 0 && CPU_COUNT(&last) == 0; --cpu)
        if (CPU_ISSET(static_cast<unsigned>(cpu), &ours)) CPU_SET(static_cast<unsigned>(cpu), &last);
    std::atomic<unsigned> others{0};
    std::atomic<bool> begun{false};
    compute(4, [&](unsigned i) {
        if (i == 0 && !begun.exchange(true)) {
            EXPECT_EQ(::sched_setaffinity(0, sizeof last, &last), 0);
        }
        const ::cpu_set_t mine = affinity();
        if (i == 0 && !CPU_EQUAL(&mine, &last)) ++others;
    });
    EXPECT_EQ(others, 0u);
}

TEST_P(same_cpu, or_wherever_the_kernel_has_it_when_that_may_not_be_said) {
    passes_in_child([&] {
        refuse(SYS_sched_setaffinity, EPERM);
        EXPECT_GT(compute(4 * procs(), [](unsigned) {}), 0u);
    });
}

struct same_cpu_of_one_p : same_cpu {};
INSTANTIATE_TEST_SUITE_P(procs, same_cpu_of_one_p, ::testing::Values(1u), [](const auto& of) { return std::to_string(of.param); });

TEST_P(same_cpu_of_one_p, most_turns_begin_where_the_last_has_ended) {
    std::atomic<unsigned> who{0}, turns{0}, stays{0};
    std::atomic<int> where{::sched_getcpu()};
    compute(4, [&](unsigned i) {
        const int cpu = ::sched_getcpu(), before = where.exchange(cpu);
        if (who.exchange(i) == i) return;
        ++turns;
        if (cpu == before) ++stays;
    });
    EXPECT_GT(turns, 20u);
    EXPECT_GT(2 * stays, turns) << stays << " of " << turns;
    std::cout << stays << " of " << turns << std::endl;
}

} // namespace
