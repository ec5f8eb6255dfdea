// Cancelling, closing and stopping while operations are pending: nothing hangs, no byte is lost, and no
// buffer is written to after its operation has returned.
//
// ctest: label:concurrent
#include "io_support.hpp"

#include <mpg/context.hpp>
#include <mpg/sync.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <ctime>
#include <random>
#include <sys/resource.h>

using namespace mpg::test;
using namespace std::chrono_literals;
using mpg::errc;
using mpg::net::tcp_listener;
using mpg::net::tcp_stream;

namespace {
std::chrono::nanoseconds cpu_time() {
    ::timespec t{};
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return std::chrono::seconds(t.tv_sec) + std::chrono::nanoseconds(t.tv_nsec);
}
} // namespace

struct tcp_cancel : with_pollers {};
MPG_TEST_IO(tcp_cancel);

struct tcp_close : with_pollers {};
MPG_TEST_IO(tcp_close);

struct tcp_stop : with_pollers {};
MPG_TEST_IO(tcp_stop);

TEST_P(tcp_cancel, a_done_context_fails_at_once) {
    run([] {
        auto p = connect_local();
        auto l = listen_local();
        auto ctx = mpg::with_cancel(mpg::context::background());
        ctx.cancel();
        std::array<std::byte, 4> four;
        ASSERT_TRUE(p.client.write(bytes("data")));
        EXPECT_EQ(p.server.read(four, ctx).error(), errc::cancelled);
        EXPECT_EQ(p.server.write(four, ctx).error(), errc::cancelled);
        EXPECT_EQ(p.server.write_some(four, ctx).error(), errc::cancelled);
        EXPECT_EQ(l.accept(ctx).error(), errc::cancelled);
        EXPECT_EQ(tcp_stream::connect(l.local_endpoint(), ctx).error(), errc::cancelled);
        EXPECT_EQ(tcp_stream::connect("127.0.0.1:1", ctx).error(), errc::cancelled);
        EXPECT_EQ(*p.server.read(four), 4u);
    });
}

TEST_P(tcp_cancel, ends_pending_operations) {
    run([] {
        auto p = connect_local();
        auto l = listen_local();
        auto ctx = mpg::with_cancel(mpg::context::background());
        const std::vector<std::byte> big(64 << 20);
        std::vector<mpg::task<std::error_code>> pending;
        pending.push_back(mpg::spawn([&] {
            std::byte one;
            return p.server.read(std::span(&one, 1), ctx).error();
        }));
        pending.push_back(mpg::spawn([&] { // queues behind the first
            std::byte one;
            return p.server.read(std::span(&one, 1), ctx).error();
        }));
        pending.push_back(mpg::spawn([&] { return p.server.write(big, ctx).error(); }));
        pending.push_back(mpg::spawn([&] { return l.accept(ctx).error(); }));
        for (int i = 0; i != 20; ++i) mpg::yield();
        ctx.cancel();
        for (auto& t : pending) EXPECT_EQ(t.join(), errc::cancelled);
    });
}

TEST_P(tcp_cancel, a_context_with_a_deadline_ends_a_read) {
    run([] {
        auto p = connect_local();
        auto ctx = mpg::with_timeout(mpg::context::background(), 20ms);
        std::byte one;
        EXPECT_EQ(p.server.read(std::span(&one, 1), ctx).error(), errc::deadline_exceeded);
    });
}

TEST_P(tcp_cancel, one_who_queues_can_give_up_alone) {
    run([] {
        auto p = connect_local();
        std::byte a, b;
        auto first = mpg::spawn([&] { return p.server.read(std::span(&a, 1)).value_or(99); });
        mpg::yield();
        auto ctx = mpg::with_timeout(mpg::context::background(), 10ms);
        EXPECT_EQ(p.server.read(std::span(&b, 1), ctx).error(), errc::deadline_exceeded);
        ASSERT_TRUE(p.client.write(bytes("x")));
        EXPECT_EQ(first.join(), 1u);
    });
}

/// On as many sockets; and the queues of many readers at few. What it costs is measured at its best, and the bound leaves
/// room for a busy machine: 0.7 ms on io_uring and 0.25 ms on epoll where nothing else runs.
TEST_P(tcp_cancel, one_context_ends_a_thousand_operations) {
    ::rlimit files{};
    ::getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = std::min<::rlim_t>(files.rlim_max, 4096);
    ::setrlimit(RLIMIT_NOFILE, &files);
    constexpr auto most = mpg::base::asan || mpg::base::tsan ? std::chrono::nanoseconds::max() : std::chrono::nanoseconds(5ms);
    run([&] {
        constexpr int streams = 500;
        std::vector<mpg::test::tcp_pair> pairs;
        auto l = listen_local();
        for (int i = 0; i != streams; ++i) pairs.push_back(connect_local(l));
        for (const int sockets : {2 * streams, 100}) {
            auto least = std::chrono::nanoseconds::max();
            for (int round = 0; round != 5; ++round) {
                auto ctx = mpg::with_cancel(mpg::context::background());
                std::atomic<int> cancelled{0};
                mpg::wait_group all;
                for (int i = 0; i != 2 * streams; ++i)
                    all.go([&, at = i % sockets] {
                        auto& s = at % 2 ? pairs[static_cast<std::size_t>(at / 2)].client : pairs[static_cast<std::size_t>(at / 2)].server;
                        std::byte one;
                        cancelled += s.read(std::span(&one, 1), ctx).error() == errc::cancelled;
                    });
                ASSERT_TRUE(eventually([] { return mpg::runtime::current()->stats().tasks_waiting >= 2 * streams; }));
                // In some rounds with the other machines asleep, each in its ring: then the cancels are theirs.
                if (round % 2) {
                    (void)eventually([] {
                        const auto now = mpg::runtime::current()->stats();
                        return now.threads_idle + 1 >= now.threads;
                    }, 1s);
                }
                const auto before = cpu_time();
                ctx.cancel();
                all.wait();
                least = std::min(least, cpu_time() - before);
                ASSERT_EQ(cancelled, 2 * streams);
            }
            EXPECT_LT(least.count(), most.count()) << sockets << " sockets";
        }
        for (auto& p : pairs) { // they work
            std::byte one;
            ASSERT_TRUE(p.client.write(bytes("x")));
            ASSERT_EQ(p.server.read(std::span(&one, 1)), 1u);
        }
    });
}

// A reader is cancelled at random moments while bytes arrive. Each read has its buffer in a frame that is
// poisoned afterwards: a completion that comes late would show. All bytes are counted.
TEST_P(tcp_cancel, races_with_data_lose_no_byte_and_touch_no_dead_buffer) {
    const int rounds = static_cast<int>(scaled(34'000)); // with three numbers of processors: over 100,000 for each poller
    run([&] {
        auto p = connect_local();
        std::atomic<std::size_t> received{0};
        std::size_t sent = 0;
        int cancelled = 0;
        std::mt19937_64 random(seed());
        std::vector<std::byte> arena(64 * 64);
        for (int i = 0; i != rounds; ++i) {
            auto ctx = mpg::with_cancel(mpg::context::background());
            const std::span<std::byte> buffer = std::span(arena).subspan((random() % 64) * 64, 64);
            auto reader = mpg::spawn([&] {
                const auto n = p.server.read(buffer, ctx);
                std::fill(buffer.begin(), buffer.end(), std::byte{0xa5});
                if (n)
                    received += *n;
                else
                    EXPECT_EQ(n.error(), errc::cancelled);
                return n.has_value();
            });
            for (auto n = random() % 4; n != 0; --n) mpg::yield();
            const bool send_first = random() % 2;
            if (send_first && random() % 4) sent += *p.client.write(bytes("z"));
            for (auto n = random() % 3; n != 0; --n) mpg::yield();
            ctx.cancel();
            if (!send_first) sent += *p.client.write(bytes("z"));
            cancelled += !reader.join();
            ASSERT_EQ(std::count(arena.begin(), arena.end(), std::byte{'z'}), 0) << "round " << i;
        }
        p.client.close();
        received += read_all(p.server).size();
        EXPECT_EQ(received, sent);
        EXPECT_GT(cancelled, 0);
        EXPECT_LT(cancelled, rounds);
    });
}

TEST_P(tcp_cancel, races_of_deadlines_with_data_lose_no_byte) {
    const int rounds = static_cast<int>(scaled(5'000));
    run([&] {
        auto p = connect_local();
        std::size_t sent = 0, received = 0;
        auto writer = mpg::spawn([&] {
            std::mt19937_64 random(seed());
            for (int i = 0; i != rounds; ++i) {
                for (auto n = random() % 50; n != 0; --n) mpg::yield();
                sent += *p.client.write(bytes("z"));
            }
            p.client.close();
        });
        std::mt19937_64 random(seed() + 1);
        for (;;) {
            p.server.set_read_deadline(mpg::clock::now() + std::chrono::nanoseconds(random() % 30'000));
            std::byte few[3];
            const auto n = p.server.read(few);
            if (n && *n == 0) break;
            if (n)
                received += *n;
            else
                ASSERT_EQ(n.error(), errc::deadline_exceeded);
        }
        writer.join();
        EXPECT_EQ(received, sent);
    });
}

TEST_P(tcp_close, from_another_task_ends_pending_operations) {
    run([] {
        auto p = connect_local();
        auto l = listen_local();
        const std::vector<std::byte> big(64 << 20);
        std::vector<mpg::task<std::error_code>> pending;
        for (int i = 0; i != 3; ++i) {
            pending.push_back(mpg::spawn([&] {
                std::byte one;
                return p.server.read(std::span(&one, 1)).error();
            }));
            pending.push_back(mpg::spawn([&] { return p.server.write(big).error(); }));
            pending.push_back(mpg::spawn([&] { return l.accept().error(); }));
        }
        for (int i = 0; i != 20; ++i) mpg::yield();
        p.server.close();
        l.close();
        for (auto& t : pending) EXPECT_EQ(t.join(), errc::closed);
        std::byte one;
        EXPECT_EQ(p.server.read(std::span(&one, 1)).error(), errc::closed);
        EXPECT_EQ(p.server.write(big).error(), errc::closed);
        EXPECT_EQ(p.server.shutdown_write(), errc::closed);
        EXPECT_EQ(p.server.set_deadline(std::nullopt), errc::closed);
        EXPECT_EQ(p.server.native_handle(), -1);
        EXPECT_TRUE(p.server.local_endpoint().empty());
        EXPECT_FALSE(p.server.remote_endpoint().empty());
        EXPECT_EQ(l.accept().error(), errc::closed);
        EXPECT_FALSE(l.local_endpoint().empty());
        p.server.close();
        l.close();
        read_all(p.client); // what was sent before, and then the end or a reset: it does not wait for ever
    });
}

TEST_P(tcp_close, from_a_plain_thread_ends_pending_operations) {
    const int rounds = static_cast<int>(scaled(300));
    run([&] {
        auto l = listen_local();
        for (int i = 0; i != rounds; ++i) {
            auto p = connect_local(l);
            auto reader = mpg::spawn([&] {
                std::byte one;
                return p.server.read(std::span(&one, 1)).error();
            });
            mpg::yield();
            std::thread closer([&] { p.server.close(); });
            EXPECT_EQ(reader.join(), errc::closed);
            closer.join();
        }
    });
}

TEST_P(tcp_close, of_a_plain_threads_operation) {
    auto p = run([] { return connect_local(); });
    std::error_code seen;
    std::thread reader([&] {
        std::byte one;
        seen = p.server.read(std::span(&one, 1)).error();
    });
    run([&] {
        for (int i = 0; i != 10; ++i) mpg::yield();
        p.server.close();
    });
    reader.join();
    EXPECT_EQ(seen, errc::closed);
}

// Numbers of descriptors are reused at once: an operation that came too late would read from a stranger.
TEST_P(tcp_close, a_late_operation_never_meets_a_reused_number) {
    const int rounds = static_cast<int>(scaled(3'000));
    run([&] {
        auto l = listen_local();
        std::atomic<bool> stop{false};
        auto stranger = mpg::spawn([&] { // its connections take the numbers that are freed
            while (!stop) {
                auto p = connect_local(l);
                EXPECT_TRUE(p.client.write(bytes("private")));
                std::array<std::byte, 7> seven;
                EXPECT_TRUE(read_full(p.server, seven));
            }
        });
        auto l2 = listen_local();
        for (int i = 0; i != rounds; ++i) {
            auto p = connect_local(l2);
            auto reader = mpg::spawn([&] {
                std::array<std::byte, 16> buffer;
                for (;;) {
                    const auto n = p.server.read(buffer);
                    if (!n) return n.error();
                    ADD_FAILURE() << "read " << *n << " bytes that nobody sent";
                }
            });
            if (i % 3) mpg::yield();
            p.server.close();
            EXPECT_EQ(reader.join(), errc::closed);
        }
        stop = true;
        stranger.join();
    });
}

TEST_P(tcp_stop, unwinds_operations_in_flight) {
    const std::vector<std::byte> big(16 << 20);
    for (int round = 0; round != 20; ++round) {
        std::atomic<int> unwound{0}, started{0};
        struct counter {
            std::atomic<int>& n;
            ~counter() { ++n; }
        };
        run([&] {
            auto l = std::make_shared<tcp_listener>(listen_local());
            for (int i = 0; i != 10; ++i) {
                auto p = std::make_shared<tcp_pair>(connect_local(*l));
                mpg::go([p, &unwound, &started] {
                    counter c{unwound};
                    std::array<std::byte, 64> buffer;
                    ++started;
                    (void)p->server.read(buffer);
                });
                mpg::go([p, &big, &unwound, &started] {
                    counter c{unwound};
                    ++started;
                    (void)p->server.write(big);
                });
            }
            mpg::go([l, &unwound, &started] {
                counter c{unwound};
                ++started;
                (void)l->accept();
            });
            EXPECT_TRUE(eventually([&] { return started == 21; }));
            for (int i = 0; i != round; ++i) mpg::yield();
        });
        EXPECT_EQ(unwound, 21);
    }
}

TEST_P(tcp_stop, a_destructor_that_says_goodbye_can_still_write) {
    auto p = run([] { return connect_local(); });
    run([&] {
        std::atomic<bool> started{false};
        mpg::go([&] {
            struct goodbye {
                tcp_stream& s;
                ~goodbye() { EXPECT_TRUE(s.write(bytes("bye"))); }
            } at_end{p.server};
            std::byte one;
            started = true;
            (void)p.server.read(std::span(&one, 1));
        });
        EXPECT_TRUE(eventually([&] { return started.load(); }));
    });
    p.server.close();
    EXPECT_EQ(read_all(p.client), "bye");
}
