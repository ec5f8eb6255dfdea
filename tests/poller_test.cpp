// Which poller a runtime gets, and what each must keep to.
//
// ctest: label:concurrent
// ctest: no-vptr that check needs a pipe, and where no descriptor is left it reports what is not there
#include "io_support.hpp"
#include "refuse.hpp"

#include <mpg/chan.hpp>
#include <mpg/time.hpp>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <fcntl.h>
#include <grp.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <thread>
#include <unistd.h>

using namespace mpg::test;
using namespace std::chrono_literals;
using mpg::netpoll;

namespace {

mpg::options with(netpoll backend, unsigned procs = 2) {
    mpg::options o;
    o.procs = procs;
    o.backend = backend;
    return o;
}

netpoll chosen(std::string* reason = nullptr, mpg::options o = with(netpoll::automatic)) {
    mpg::runtime rt(o);
    if (reason) *reason = rt.stats().poller_reason;
    return rt.stats().poller;
}

/// A connection over which both sides talk, each in a task.
void exchange() {
    auto p = connect_local();
    auto echo = mpg::spawn([&] {
        std::byte one;
        while (auto n = p.server.read(std::span(&one, 1)))
            if (*n == 0 || !p.server.write(std::span(&one, 1))) break;
    });
    for (int i = 0; i != 50; ++i) {
        std::byte one{};
        ASSERT_TRUE(p.client.write(std::span(&one, 1)));
        ASSERT_EQ(*p.client.read(std::span(&one, 1)), 1u);
    }
    p.client.close();
    echo.join();
}

} // namespace

TEST(poller_choice, prefers_io_uring) {
    passes_in_child([] {
        ::unsetenv("MPG_NETPOLL");
        std::string reason;
        EXPECT_EQ(chosen(&reason), netpoll::io_uring) << reason;
        EXPECT_EQ(reason, "");
        EXPECT_EQ(chosen(nullptr, with(netpoll::epoll)), netpoll::epoll);
    });
}

TEST(poller_choice, is_overridden_by_the_environment) {
    passes_in_child([] {
        ::setenv("MPG_NETPOLL", "epoll", 1);
        EXPECT_EQ(chosen(), netpoll::epoll);
        EXPECT_EQ(chosen(nullptr, with(netpoll::io_uring)), netpoll::epoll);
        ::setenv("MPG_NETPOLL", "io_uring", 1);
        EXPECT_EQ(chosen(nullptr, with(netpoll::epoll)), netpoll::io_uring);
    });
}

struct refused_call {
    const char* name;
    long number;
    int error;
};

struct poller_refused : ::testing::TestWithParam<refused_call> {};
INSTANTIATE_TEST_SUITE_P(calls, poller_refused,
                         ::testing::Values(refused_call{"setup_eperm", SYS_io_uring_setup, EPERM},
                                           refused_call{"setup_enosys", SYS_io_uring_setup, ENOSYS},
                                           refused_call{"enter_eperm", SYS_io_uring_enter, EPERM},
                                           refused_call{"enter_enosys", SYS_io_uring_enter, ENOSYS}),
                         [](const auto& of) { return std::string(of.param.name); });

TEST_P(poller_refused, falls_back_to_epoll_and_says_why) {
    passes_in_child([] {
        ::unsetenv("MPG_NETPOLL");
        refuse(GetParam().number, GetParam().error);
        std::string reason;
        EXPECT_EQ(chosen(&reason), netpoll::epoll);
        EXPECT_NE(reason.find("io_uring"), std::string::npos) << reason;
        EXPECT_NE(reason.find(std::strerror(GetParam().error)), std::string::npos) << reason;
        mpg::run(with(netpoll::automatic), exchange);
    });
}

TEST_P(poller_refused, wanted_all_the_same_ends_the_start_with_a_clear_error) {
    const auto child = run_in_child([] {
        ::unsetenv("MPG_NETPOLL");
        refuse(GetParam().number, GetParam().error);
        mpg::run(with(netpoll::io_uring), [] {});
    });
    EXPECT_NE(child.exit_code, 0) << child;
    EXPECT_NE(child.err.find("io_uring"), std::string::npos) << child;
    EXPECT_NE(child.err.find(std::strerror(GetParam().error)), std::string::npos) << child;
}

// Rings, buffers and files are not registered, so that a filter which lets the other two calls through takes nothing away.
TEST(poller_choice, needs_no_registration_with_io_uring) {
    for (int error : {EPERM, ENOSYS})
        passes_in_child([error] {
            ::unsetenv("MPG_NETPOLL");
            refuse(SYS_io_uring_register, error);
            std::string reason;
            EXPECT_EQ(chosen(&reason), netpoll::io_uring) << reason;
            EXPECT_EQ(reason, "");
            mpg::run(with(netpoll::automatic), exchange);
        });
}

TEST(poller_choice, works_without_epoll_pwait2) {
    for (int error : {EPERM, ENOSYS})
        passes_in_child([error] {
            refuse(SYS_epoll_pwait2, error);
            mpg::run(with(netpoll::epoll), [] {
                exchange();
                const auto start = mpg::clock::now();
                mpg::sleep_for(3ms);
                EXPECT_GE(mpg::clock::now() - start, 3ms);
            });
        });
}

TEST(poller_choice, few_descriptors_are_enough_for_fewer_processors) {
    passes_in_child([] {
        ::unsetenv("MPG_NETPOLL");
        ::rlimit limit{40, 40};
        ::setrlimit(RLIMIT_NOFILE, &limit);
        std::string reason;
        EXPECT_EQ(chosen(&reason, with(netpoll::automatic, 4)), netpoll::io_uring) << reason;
        mpg::run(with(netpoll::automatic, 4), exchange);
    });
}

TEST(poller_choice, without_any_descriptor_tasks_run_and_io_fails) {
    passes_in_child([] {
        ::unsetenv("MPG_NETPOLL");
        int sockets[2];
        ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), 0);
        mpg::net::tcp_listener l = listen_local();
        ::rlimit limit{static_cast<rlim_t>(l.native_handle() + 1), 64};
        ::setrlimit(RLIMIT_NOFILE, &limit);
        std::string reason;
        EXPECT_EQ(chosen(&reason), netpoll::none);
        EXPECT_NE(reason.find("epoll"), std::string::npos) << reason;
        EXPECT_NE(reason.find(std::strerror(EMFILE)), std::string::npos) << reason;
        mpg::run(with(netpoll::automatic), [&] {
            const auto start = mpg::clock::now();
            auto t = mpg::spawn([] { mpg::sleep_for(5ms); });
            t.join();
            EXPECT_GE(mpg::clock::now() - start, 5ms);
            EXPECT_EQ(l.accept().error(), std::errc::too_many_files_open);
        });
    });
}

TEST(poller_choice, a_limit_on_locked_memory_does_not_end_the_start) {
    if (::getuid() != 0) GTEST_SKIP() << "needs to change the user";
    for (rlim_t kib : {0u, 64u, 8192u})
        passes_in_child([kib] {
            ::unsetenv("MPG_NETPOLL");
            ::rlimit limit{kib << 10, kib << 10};
            ::setrlimit(RLIMIT_MEMLOCK, &limit);
            ASSERT_EQ(::setgroups(0, nullptr), 0);
            ASSERT_EQ(::setuid(61'234), 0);
            mpg::runtime rt(with(netpoll::automatic, 4));
            EXPECT_TRUE(rt.stats().poller == netpoll::io_uring || rt.stats().poller == netpoll::epoll);
            EXPECT_EQ(rt.stats().poller == netpoll::io_uring, rt.stats().poller_reason.empty());
            rt.run(exchange);
        });
}

/// One task registers a descriptor on its P and then blocks, so that the P has nothing to do; another one, on the other P, waits
/// for that descriptor.
void wait_for_what_another_has_registered(netpoll backend) {
    auto o = with(backend);
    o.preempt_after = 0ms; // each stays on its P
    mpg::runtime rt(o);
    int gate[2];
    ASSERT_EQ(::pipe(gate), 0);
    rt.run([&] {
        auto p = connect_local();
        std::atomic<bool> other_runs{false}, blocks{false}, got{false};
        std::byte one{};
        auto other = mpg::spawn([&] {
            other_runs = true;
            while (!blocks) {} // holds its P
            std::byte b;
            EXPECT_EQ(p.server.read(std::span(&b, 1)).value_or(9), 1u);
            got = true;
        });
        auto first = mpg::spawn([&] {
            while (!other_runs) {}
            std::byte b;
            EXPECT_EQ(p.server.read(std::span(&b, 1)).value_or(9), 1u);
            mpg::blocking([&] {
                blocks = true;
                EXPECT_EQ(::read(gate[0], &b, 1), 1);
            });
        });
        std::thread writer([&] {
            const auto wait_for = [&](std::size_t waiting) { // this task in blocking()
                EXPECT_TRUE(eventually([&] { return rt.stats().tasks_waiting == waiting; }));
            };
            wait_for(1); // the first
            EXPECT_EQ(::send(p.client.native_handle(), &one, 1, 0), 1);
            EXPECT_TRUE(eventually([&] { return blocks.load(); }));
            wait_for(1); // the other
            EXPECT_EQ(::send(p.client.native_handle(), &one, 1, 0), 1);
            EXPECT_TRUE(eventually([&] { return got.load(); }, 10s)) << "nobody looks at where it waits";
            EXPECT_EQ(::write(gate[1], &one, 1), 1);
        });
        mpg::blocking([&] { writer.join(); });
        first.join();
        other.join();
    });
    ::close(gate[0]);
    ::close(gate[1]);
}
TEST(poller_of_another, is_polled_though_its_processor_has_nothing_to_do_with_epoll) {
    wait_for_what_another_has_registered(netpoll::epoll);
}
TEST(poller_of_another, is_polled_though_its_processor_has_nothing_to_do_with_io_uring) {
    wait_for_what_another_has_registered(netpoll::io_uring);
}

struct poller : with_pollers {};
MPG_TEST_IO(poller);

TEST_P(poller, sleeps_until_the_next_timer) {
    run([] {
        const auto start = mpg::clock::now();
        mpg::sleep_for(10ms);
        const auto took = mpg::clock::now() - start;
        EXPECT_GE(took, 10ms);
        EXPECT_LT(took, 5s);
    });
}

TEST_P(poller, a_foreign_thread_wakes_it) {
    const int rounds = static_cast<int>(scaled(2'000));
    run([&] {
        mpg::chan<int> there, back;
        std::thread foreign([&] {
            for (int i = 0; i != rounds; ++i) {
                there.send(i);
                EXPECT_EQ(back.recv(), i);
            }
        });
        for (int i = 0; i != rounds; ++i) {
            EXPECT_EQ(there.recv(), i);
            back.send(i);
        }
        mpg::blocking([&] { foreign.join(); });
    });
}

TEST_P(poller, timers_and_io_and_wake_ups_do_not_hold_each_other_up) {
    run([] {
        auto l = listen_local();
        std::vector<mpg::task<void>> tasks;
        for (int i = 0; i != 10; ++i)
            tasks.push_back(mpg::spawn([] {
                for (int k = 0; k != 20; ++k) mpg::sleep_for(1ms);
            }));
        for (int i = 0; i != 10; ++i)
            tasks.push_back(mpg::spawn([&] {
                auto p = connect_local();
                for (int k = 0; k != 100; ++k) {
                    std::byte one{};
                    ASSERT_TRUE(p.client.write(std::span(&one, 1)));
                    ASSERT_EQ(*p.server.read(std::span(&one, 1)), 1u);
                }
            }));
        for (auto& t : tasks) t.join();
    });
}

TEST_P(poller, more_operations_at_once_than_a_ring_has_places) {
    passes_in_child([this] {
        ::rlimit limit{};
        ::getrlimit(RLIMIT_NOFILE, &limit);
        limit.rlim_cur = limit.rlim_max;
        ::setrlimit(RLIMIT_NOFILE, &limit);
        const std::size_t pairs = std::min<std::size_t>(3'000, (limit.rlim_cur - 50) / 2);
        run([&] {
            auto l = listen_local();
            std::vector<tcp_pair> all;
            for (std::size_t i = 0; i != pairs; ++i) all.push_back(connect_local(l));
            std::vector<mpg::task<std::size_t>> readers;
            for (auto& p : all)
                readers.push_back(mpg::spawn([&p] {
                    std::byte one;
                    return p.server.read(std::span(&one, 1)).value_or(99);
                }));
            for (int i = 0; i != 5; ++i) mpg::yield();
            for (auto& p : all) ASSERT_TRUE(p.client.write(bytes("x"))); // all complete in one round
            for (auto& r : readers) EXPECT_EQ(r.join(), 1u);
        });
    });
}

TEST_P(poller, two_runtimes_at_once_share_a_connection) {
    auto p = run([] { return connect_local(); });
    const netpoll other = GetParam().backend == netpoll::epoll ? netpoll::io_uring : netpoll::epoll;
    std::thread second([&] {
        mpg::run(with(other), [&] {
            for (int i = 0; i != 200; ++i) {
                std::byte one;
                ASSERT_EQ(*p.server.read(std::span(&one, 1)), 1u);
                ASSERT_TRUE(p.server.write(std::span(&one, 1)));
            }
        });
    });
    run([&] {
        for (int i = 0; i != 200; ++i) {
            std::byte one{};
            ASSERT_TRUE(p.client.write(std::span(&one, 1)));
            ASSERT_EQ(*p.client.read(std::span(&one, 1)), 1u);
        }
    });
    second.join();
}

// One runtime waits to read where another has registered the stream, and ends first.
TEST_P(poller, a_stream_moves_to_the_runtime_that_is_left) {
    auto p = run([] { return connect_local(); });
    mpg::chan<void> reading;
    std::thread second;
    run([&] {
        p.server.set_read_deadline(mpg::clock::now() + 1ms);
        std::byte one;
        EXPECT_EQ(p.server.read(std::span(&one, 1)).error(),
                  mpg::errc::deadline_exceeded); // registers it here
        p.server.set_read_deadline(std::nullopt);
        second = std::thread([&] {
            mpg::run(setup(), [&] {
                mpg::go([&] { reading.send(); });
                std::byte b;
                EXPECT_EQ(*p.server.read(std::span(&b, 1)), 1u);
            });
        });
        reading.recv();
    });
    ASSERT_TRUE(p.client.write(bytes("x")));
    second.join();
}
