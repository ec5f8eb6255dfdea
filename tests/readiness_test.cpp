// What the poller is told of input that nobody waits for: little, and nothing is lost by that.
// ctest: own-macros
// ctest: label:concurrent
#define MPG_IO_SYSCALLS "faults.hpp"
#include "faults.hpp"
#include "io_support.hpp"

#include <mpg/context.hpp>
#include <mpg/time.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <random>
#include <string>
#include <thread>
#include <vector>

using namespace mpg::test;
using namespace std::chrono_literals;

struct readiness : with_pollers {
  protected:
    static bool by_epoll() { return GetParam().backend == mpg::netpoll::epoll; }
    /// Bytes that come one by one while nobody reads, until `enough(how many)`. How many.
    template <class F> static std::size_t ignored(tcp_pair& p, F enough) {
        return mpg::blocking([&, fd = p.client.native_handle()] {
            std::size_t n = 0;
            for (; !enough(n); ++n) {
                EXPECT_EQ(::send(fd, "x", 1, MSG_NOSIGNAL), 1);
                std::this_thread::sleep_for(200us);
            }
            return n;
        });
    }
    /// As many as it takes until the poller wants to hear no more of them. They are read.
    static void make_deaf(tcp_pair& p) {
        wait_once(p);
        fault told(call::epoll_ctl, EIO, 0);
        std::vector<std::byte> all(ignored(p, [&](std::size_t n) { return by_epoll() ? told.calls() != 0 : n == 20; }));
        EXPECT_TRUE(read_full(p.server, all));
    }
    /// So that its descriptor is registered.
    static void wait_once(tcp_pair& p) {
        auto reader = mpg::spawn([&] {
            std::byte one;
            EXPECT_EQ(*p.server.read(std::span(&one, 1)), 1u);
        });
        EXPECT_TRUE(eventually([&] { return mpg::runtime::current()->stats().tasks_waiting >= 1; }));
        EXPECT_TRUE(p.client.write(bytes("x")));
        reader.join();
    }
};
MPG_TEST_IO(readiness);

/// The thread sleeps while a task waits for room to write, as in a proxy whose one side is slow.
TEST_P(readiness, input_that_nobody_waits_for_wakes_no_thread_for_each_packet) {
    run([&] {
        auto input = connect_local(), output = connect_local();
        wait_once(input);
        const std::vector<std::byte> much(64 << 20);
        auto writer = mpg::spawn([&] { EXPECT_TRUE(output.client.write(much)); });
        EXPECT_TRUE(eventually([&] { return mpg::runtime::current()->stats().tasks_waiting >= 1; }));
        constexpr std::size_t packets = 300;
        {
            fault slept(call::epoll_pwait2, EIO, 0);
            ignored(input, [](std::size_t n) { return n == packets; });
            EXPECT_LT(slept.calls(), packets / 10);
        }
        std::vector<std::byte> all(packets), rest(much.size());
        EXPECT_TRUE(read_full(input.server, all));
        EXPECT_TRUE(read_full(output.server, rest));
        writer.join();
    });
}

/// What comes afterwards is told again: a byte, the end, a reset, a deadline.
TEST_P(readiness, who_was_not_told_is_told_when_it_waits) {
    run([&] {
        enum class next { byte, end, reset, deadline, close };
        for (next what : {next::byte, next::end, next::reset, next::deadline, next::close}) {
            auto p = connect_local();
            make_deaf(p);
            auto reader = mpg::spawn([&] {
                std::byte one;
                return p.server.read(std::span(&one, 1));
            });
            EXPECT_TRUE(eventually([&] { return mpg::runtime::current()->stats().tasks_waiting >= 1; }));
            switch (what) {
            case next::byte:
                EXPECT_TRUE(p.client.write(bytes("y")));
                EXPECT_EQ(reader.join().value_or(99), 1u);
                break;
            case next::end:
                p.client.shutdown_write();
                EXPECT_EQ(reader.join().value_or(99), 0u);
                break;
            case next::reset:
                (void)p.client.set_linger(0s);
                p.client.close();
                EXPECT_EQ(reader.join().error(), std::errc::connection_reset);
                break;
            case next::deadline:
                p.server.set_read_deadline(mpg::clock::now());
                EXPECT_EQ(reader.join().error(), mpg::errc::deadline_exceeded);
                break;
            case next::close:
                p.server.close();
                EXPECT_EQ(reader.join().error(), mpg::errc::closed);
                break;
            }
        }
    });
}

/// The two sides take turns at being late, so that input comes in each state of the slot. Nothing is lost: else it hangs.
TEST_P(readiness, late_readers_miss_nothing) {
    run([&] {
        auto p = connect_local();
        constexpr int rounds = 2000;
        const int n = scaled(rounds);
        std::atomic<int> got{0};
        std::thread sender([&, fd = p.client.native_handle()] {
            std::mt19937 random(static_cast<unsigned>(seed()));
            for (int round = 0, sent = 0; round != n; ++round) {
                for (int i = static_cast<int>(random() % 12); i >= 0; --i, ++sent) {
                    EXPECT_EQ(::send(fd, "x", 1, MSG_NOSIGNAL), 1);
                    for (const auto until = mpg::clock::now() + 1us * (random() % 16); mpg::clock::now() < until;) {
                    }
                }
                while (random() % 2 && got.load() != sent) std::this_thread::yield(); // now and then all must be there
            }
            ::shutdown(fd, SHUT_WR);
        });
        std::mt19937 random(static_cast<unsigned>(seed()) + 1);
        for (std::byte some[5];;) {
            if (random() % 4 == 0) mpg::sleep_for(1us * (random() % 128)); // the poller looks meanwhile
            const auto r = p.server.read(some);
            if (!r || *r == 0) break;
            got += static_cast<int>(*r);
        }
        mpg::blocking([&] { sender.join(); });
        EXPECT_GE(got.load(), n);
    });
}

/// The kernel refuses to tell again: the read says so, and the next one works.
TEST_P(readiness, a_refusal_to_tell_again_is_the_reads_error) {
    run([&] {
        auto p = connect_local();
        make_deaf(p);
        std::byte one;
        if (by_epoll()) {
            fault refused(call::epoll_ctl, ENOMEM, 1);
            EXPECT_EQ(p.server.read(std::span(&one, 1)).error(), std::errc::not_enough_memory);
            EXPECT_EQ(refused.hits(), 1);
        }
        EXPECT_TRUE(p.client.write(bytes("y")));
        EXPECT_EQ(p.server.read(std::span(&one, 1)).value_or(0), 1u);
    });
}
