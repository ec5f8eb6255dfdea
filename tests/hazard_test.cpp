// What belongs to a task must survive that the task changes threads, many tasks at once: exceptions in
// flight, uncaught_exceptions(), errno, the rounding mode, and the library's own idea of the current task.
//
// Built as it is, with link-time optimisation, and with MPG_HAZARD_SHARED, where the loops come from a shared object:
// see hazard.cmake and consumers/hazards.
#include "support.hpp"

#if defined(MPG_HAZARD_SHARED)
#include "hazard_probe.hpp"
#else
#include "hazard_probe.ipp"
#endif

#include <mpg/sync.hpp>

#include <atomic>
#include <cfenv>
#include <functional>
#include <mutex>
#include <set>
#include <string>
#include <vector>

namespace {

struct hazard_of_moving_tasks : mpg::test::with_procs {
    static constexpr int tasks = 64;
    static constexpr int rounds = static_cast<int>(mpg::test::scaled(400));

    /// Runs `probe(i)` in many tasks at once.
    void all(const std::function<std::string(int)>& probe) {
        run([&] {
            mpg::wait_group ended;
            for (int i = 0; i < tasks; ++i) ended.go([&, i] { EXPECT_EQ(probe(i), ""); });
            ended.wait();
        });
    }
};
MPG_TEST_PROCS(hazard_of_moving_tasks);

// The other tests mean something only if tasks do move: so this one goes on until it has seen enough of it.
TEST_P(hazard_of_moving_tasks, current_task_is_never_remembered) {
    unsigned long wanted = procs() == 1 ? 0 : 100;
    std::atomic<unsigned long> moves{0};
    EXPECT_TRUE(mpg::test::eventually([&] {
        all([&](int) {
            unsigned long mine = 0;
            std::string error = hazard::identity_over_switches(rounds, mine);
            moves += mine;
            return error;
        });
        return moves >= wanted || HasFailure();
    })) << moves
        << " moves";
}

TEST_P(hazard_of_moving_tasks, rethrow_throws_the_task_s_own_exception) {
    all([](int i) { return hazard::rethrow_over_switches(rounds, i); });
}

TEST_P(hazard_of_moving_tasks, uncaught_exceptions_are_the_task_s_own) {
    all([](int) { return hazard::uncaught_over_switches(rounds / 4 + 1); });
}

TEST_P(hazard_of_moving_tasks, errno_is_the_task_s_own) {
    all([](int i) { return hazard::errno_over_switches(rounds, 1000 * i); });
}

TEST_P(hazard_of_moving_tasks, rounding_mode_is_the_task_s_own) {
    constexpr int modes[] = {FE_TONEAREST, FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};
    all([&](int i) { return hazard::rounding_over_switches(rounds, modes[i % 4]); });
    all([&](int i) { return hazard::rounding_over_switches(rounds, modes[(i + 1) % 4]); });
    EXPECT_EQ(std::fegetround(), FE_TONEAREST);
}

TEST_P(hazard_of_moving_tasks, all_at_once) {
    all([](int i) {
        switch (i % 4) {
        case 0:
            return hazard::rethrow_over_switches(rounds, i);
        case 1:
            return hazard::uncaught_over_switches(rounds / 4 + 1);
        case 2:
            return hazard::errno_over_switches(rounds, 1000 * i);
        default:
            return hazard::rounding_over_switches(rounds, FE_UPWARD);
        }
    });
}

} // namespace
