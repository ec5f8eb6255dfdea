#include "support.hpp"

#include <mpg/select.hpp>
#include <mpg/signal.hpp>

#include <csignal>
#include <optional>
#include <stdexcept>
#include <sys/time.h>

struct notify : mpg::test::with_procs {};
MPG_TEST_PROCS(notify);

namespace {
struct ::sigaction in_force(int s) {
    struct ::sigaction a {};
    ::sigaction(s, nullptr, &a);
    return a;
}
} // namespace

TEST_P(notify, delivers_signals_as_values) {
    run([] {
        auto c = mpg::notify({SIGUSR1, SIGUSR2});
        for (int i = 0; i != 100; ++i) {
            ::raise(i % 2 ? SIGUSR1 : SIGUSR2);
            EXPECT_EQ(c.recv(), i % 2 ? SIGUSR1 : SIGUSR2);
        }
    });
}

TEST_P(notify, wakes_a_task_that_waits) {
    run([] {
        auto c = mpg::notify({SIGTERM});
        auto waiting = mpg::spawn([c] { return c.recv(); });
        mpg::yield();
        ::kill(::getpid(), SIGTERM);
        EXPECT_EQ(waiting.join(), SIGTERM);
    });
}

TEST_P(notify, a_task_that_waits_for_a_signal_is_no_deadlock) {
    run([] {
        auto c = mpg::notify({SIGALRM});
        ::itimerval soon{};
        soon.it_value.tv_usec = 20'000; // when all tasks have long been waiting
        ASSERT_EQ(::setitimer(ITIMER_REAL, &soon, nullptr), 0);
        EXPECT_EQ(c.recv(), SIGALRM);
    });
}

TEST_P(notify, works_in_select) {
    run([] {
        auto c = mpg::notify({SIGUSR1});
        std::optional<int> got;
        EXPECT_EQ(mpg::select(mpg::on_recv(c, [&](std::optional<int> s) { got = s; }), mpg::otherwise()), 1u);
        ::raise(SIGUSR1);
        EXPECT_EQ(mpg::select(mpg::on_recv(c, [&](std::optional<int> s) { got = s; })), 0u);
        EXPECT_EQ(got, SIGUSR1);
    });
}

TEST_P(notify, every_channel_that_asked_gets_it) {
    run([] {
        auto a = mpg::notify({SIGUSR1}), b = mpg::notify({SIGUSR1, SIGUSR2});
        ::raise(SIGUSR1);
        EXPECT_EQ(a.recv(), SIGUSR1);
        EXPECT_EQ(b.recv(), SIGUSR1);
        ::raise(SIGUSR2);
        EXPECT_EQ(b.recv(), SIGUSR2);
        EXPECT_EQ(a.size(), 0u);
    });
}

TEST_P(notify, until_the_last_copy_goes) {
    static int seen = 0;
    seen = 0;
    struct ::sigaction mine {};
    mine.sa_handler = [](int) { ++seen; };
    ASSERT_EQ(::sigaction(SIGUSR1, &mine, nullptr), 0);
    run([] {
        auto a = mpg::notify({SIGUSR1});
        auto b = a;
        {
            auto other = mpg::notify({SIGUSR1, SIGUSR2});
            EXPECT_NE(in_force(SIGUSR2).sa_handler, SIG_DFL);
        }
        EXPECT_EQ(in_force(SIGUSR2).sa_handler, SIG_DFL);
        a = mpg::notify({SIGUSR2});
        ::raise(SIGUSR1);
        EXPECT_EQ(b.recv(), SIGUSR1);
    });
    EXPECT_EQ(seen, 0);
    EXPECT_EQ(in_force(SIGUSR2).sa_handler, SIG_DFL);
    ::raise(SIGUSR1); // what was in force before is again
    EXPECT_EQ(seen, 1);
    ::signal(SIGUSR1, SIG_DFL);
}

TEST_P(notify, a_slow_receiver_loses_signals_and_stops_nobody) {
    run([] {
        auto slow = mpg::notify({SIGUSR1}), fast = mpg::notify({SIGUSR1});
        for (int i = 0; i != 1000; ++i) {
            ::raise(SIGUSR1);
            EXPECT_EQ(fast.recv(), SIGUSR1);
        }
        EXPECT_EQ(slow.size(), slow.capacity());
    });
}

TEST_P(notify, comes_and_goes_while_signals_rain) {
    std::atomic<bool> stop{false};
    auto keep = mpg::notify({SIGUSR1}); // so that the default never is in force
    std::thread rain([&] {
        while (!stop) ::kill(::getpid(), SIGUSR1);
    });
    run([] {
        for (int i = 0; i != 200; ++i) {
            auto c = mpg::notify({SIGUSR1, SIGUSR2});
            EXPECT_EQ(c.recv(), SIGUSR1);
        }
    });
    stop = true;
    rain.join();
}

TEST(notify_call, refuses_what_cannot_be_had) {
    for (int s : {0, -1, 65, 1000, SIGKILL, SIGSTOP, SIGSEGV, SIGURG})
        EXPECT_THROW(mpg::notify({SIGUSR1, s}), std::invalid_argument) << s;
    EXPECT_EQ(in_force(SIGUSR1).sa_handler, SIG_DFL);
}

TEST(notify_call, without_a_name_takes_all) {
    auto c = mpg::notify({});
    for (int s : {SIGHUP, SIGINT, SIGPIPE, SIGWINCH, SIGRTMIN + 3}) {
        ::raise(s);
        EXPECT_EQ(c.recv(), s); // on a plain thread
    }
}
