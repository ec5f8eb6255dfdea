// fork() in a program that has a runtime: the child may exec or _exit; what needs the runtime there is refused loudly, and
// the parent goes on as if nothing had been.
//
// ctest: no-tsan it supports no threads in a forked child: ends it, or, told not to, lets it hang with epoll
#include "support.hpp"

#include <mpg/chan.hpp>
#include <mpg/sync.hpp>
#include <mpg/time.hpp>

#include <functional>
#include <string>
#include <sys/wait.h>
#include <unistd.h>

namespace {

using namespace std::chrono_literals;

struct fork_child : mpg::test::with_procs {
    /// Forks in a task, runs f in the child, and lets the parent's runtime do some work afterwards.
    mpg::test::child_result forked(const std::function<void()>& f) {
        return mpg::test::run_in_child([&] {
            return run([&] {
                mpg::chan<int> c(1);
                mpg::sleep_for(1ms);
                const ::pid_t child = ::fork();
                if (child == 0) {
                    f();
                    ::_exit(7);
                }
                for (int i = 0; i < 100; ++i) { // timers, wake-ups and tasks of the parent
                    mpg::go([c, i] { c.send(i); });
                    if (c.recv() != i) return 90;
                }
                mpg::sleep_for(1ms);
                int status = 0;
                if (mpg::blocking([&] { return ::waitpid(child, &status, 0); }) != child) return 91;
                return WIFEXITED(status) ? WEXITSTATUS(status) : 92;
            });
        });
    }
    void expect_refused(const char* what, const std::function<void()>& f) {
        SCOPED_TRACE(what);
        auto c = forked(f);
        EXPECT_EQ(c.exit_code, 2) << c;
        EXPECT_NE(c.err.find("fatal error: the runtime was used in a child of fork()"), std::string::npos) << c;
    }
};
MPG_TEST_PROCS(fork_child);

TEST_P(fork_child, may_exit) {
    auto c = forked([] {});
    EXPECT_EQ(c.exit_code, 7) << c;
}

TEST_P(fork_child, may_exec) {
    auto c = forked([] { ::execl("/bin/sh", "sh", "-c", "exit 5", nullptr); });
    EXPECT_EQ(c.exit_code, 5) << c;
}

TEST_P(fork_child, may_not_use_the_runtime) {
    expect_refused("go", [] { mpg::go([] {}); });
    expect_refused("yield", [] { mpg::yield(); });
    expect_refused("sleep", [] { mpg::sleep_for(1ms); });
    expect_refused("channel", [] { mpg::chan<int>().recv(); });
    expect_refused("join", [] { mpg::spawn([] {}).join(); });
    expect_refused("blocking", [] { mpg::blocking([] {}); });
}

TEST_P(fork_child, of_a_plain_thread_may_run_its_own) {
    auto c = mpg::test::run_in_child([&] {
        mpg::options o;
        o.procs = procs();
        mpg::runtime rt(o);
        if (rt.run([] { return 1; }) != 1) return 90;
        const ::pid_t child = ::fork();
        if (child == 0) {
            const int got = run([] { return mpg::spawn([] { return 6; }).join(); });
            ::_exit(got); // rt is not stopped: its threads are the parent's
        }
        if (rt.run([] { return mpg::spawn([] { return 3; }).join(); }) != 3) return 91;
        int status = 0;
        ::waitpid(child, &status, 0);
        return WIFEXITED(status) ? WEXITSTATUS(status) : 92;
    });
    EXPECT_EQ(c.exit_code, 6) << c;
}

TEST_P(fork_child, may_leave_a_runtime_object_behind) {
    auto c = mpg::test::run_in_child([&] {
        ::pid_t child;
        {
            mpg::options o;
            o.procs = procs();
            mpg::runtime rt(o);
            rt.run([] {});
            child = ::fork();
        } // the child's destructor has nothing to end
        if (child == 0) ::_exit(4);
        int status = 0;
        ::waitpid(child, &status, 0);
        return WIFEXITED(status) ? WEXITSTATUS(status) : 92;
    });
    EXPECT_EQ(c.exit_code, 4) << c;
}

} // namespace
