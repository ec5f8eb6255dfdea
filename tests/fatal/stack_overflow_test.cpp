// A task that overruns its stack: who it was is said, and the process dies of the signal.
//
// ctest: lines
// ctest: no-asan AddressSanitizer reports the fault itself
// ctest: no-tsan ThreadSanitizer does, too
#include "support.hpp"

#include <mpg/debug.hpp>
#include <mpg/sync.hpp>

#include <csignal>
#include <string>
#include <thread>
#include <vector>
#include <sys/wait.h>
#include <unistd.h>

namespace {

struct stack_overflow : mpg::test::with_procs {};
MPG_TEST_PROCS(stack_overflow);

[[gnu::noinline]] int overrun_the_stack(int n) {
    volatile char frame[200] = {};
    return n < 0 ? frame[0] : overrun_the_stack(n + 1) + frame[n % 200];
}

TEST_P(stack_overflow, names_the_task_and_dies_of_the_signal) {
    auto child = mpg::test::run_in_child([&] {
        run([] {
            mpg::spawn([] {
                mpg::this_task::set_name("digger");
                return overrun_the_stack(0);
            }).join();
            mpg::spawn([] { return 0; }).join();
        });
    });
    EXPECT_EQ(child.signal, SIGSEGV) << child;
    EXPECT_NE(child.err.find("fatal error: task "), std::string::npos) << child;
    EXPECT_NE(child.err.find(" stack overflow"), std::string::npos) << child;
    EXPECT_NE(child.err.find("digger"), std::string::npos) << child;
    EXPECT_NE(child.err.find("stack of 256 KiB"), std::string::npos) << child;
    EXPECT_NE(child.err.find("overrun_the_stack"), std::string::npos) << child;
}

TEST_P(stack_overflow, is_found_beyond_a_large_frame_with_a_large_guard) {
    auto child = mpg::test::run_in_child([&] {
        mpg::options o;
        o.guard_size = 64 << 10;
        run(o, [] {
            mpg::wait_group ended;
            ended.go([] {
                volatile char* at = static_cast<char*>(__builtin_alloca(150 << 10));
                *at = 1;
                at = static_cast<char*>(__builtin_alloca(60 << 10)); // its low end lies in the guard
                *at = 1;
            });
            ended.wait();
        });
    });
    EXPECT_EQ(child.signal, SIGSEGV) << child;
    EXPECT_NE(child.err.find(" stack overflow"), std::string::npos) << child;
}

// The child has the stack of the task that has forked, and none of the runtime's other threads.
TEST_P(stack_overflow, is_named_in_a_child_of_fork) {
    auto child = mpg::test::run_in_child([&] {
        return run([] {
            mpg::this_task::set_name("forker");
            const ::pid_t forked = ::fork();
            if (forked == 0) ::_exit(overrun_the_stack(0) & 1);
            int status = 0;
            mpg::blocking([&] { ::waitpid(forked, &status, 0); });
            return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
        });
    });
    EXPECT_EQ(child.exit_code, SIGSEGV) << child;
    EXPECT_NE(child.err.find(" stack overflow"), std::string::npos) << child;
    EXPECT_NE(child.err.find("forker"), std::string::npos) << child;
    EXPECT_NE(child.err.find("overrun_the_stack"), std::string::npos) << child;
}

// The stack is none of a task: as in a program without a runtime.
TEST_P(stack_overflow, of_a_plain_thread_is_not_taken_for_a_tasks) {
    auto child = mpg::test::run_in_child([&] {
        run([] { mpg::blocking([] { std::thread([] { overrun_the_stack(0); }).join(); }); });
    });
    EXPECT_EQ(child.signal, SIGSEGV) << child;
    EXPECT_EQ(child.err.find("stack overflow"), std::string::npos) << child;
}

TEST_P(stack_overflow, of_a_plain_thread_goes_to_the_handler_of_the_program) {
    auto child = mpg::test::run_in_child([&] {
        struct sigaction own {};
        own.sa_handler = [](int) { ::_exit(33); };
        own.sa_flags = SA_ONSTACK;
        ::sigaction(SIGSEGV, &own, nullptr);
        run([] {
            mpg::blocking([] {
                std::thread([] {
                    std::vector<char> room(64 << 10);
                    ::stack_t aside{room.data(), 0, room.size()};
                    ::sigaltstack(&aside, nullptr);
                    overrun_the_stack(0);
                }).join();
            });
        });
    });
    EXPECT_EQ(child.exit_code, 33) << child;
}

TEST_P(stack_overflow, other_faults_are_no_overflow) {
    auto child = mpg::test::run_in_child([&] {
        run([] {
            volatile int* nowhere = nullptr;
            asm volatile("" : "+r"(nowhere));
            *nowhere = 1;
        });
    });
    EXPECT_EQ(child.signal, SIGSEGV) << child;
    EXPECT_EQ(child.err, "") << child;
}

TEST_P(stack_overflow, other_faults_go_to_the_handler_of_the_program) {
    auto child = mpg::test::run_in_child([&] {
        ::signal(SIGSEGV, [](int) { ::_exit(33); });
        run([] {
            volatile int* nowhere = nullptr;
            asm volatile("" : "+r"(nowhere));
            *nowhere = 1;
        });
    });
    EXPECT_EQ(child.exit_code, 33) << child;
}

} // namespace
