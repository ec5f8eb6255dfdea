// Deadlines: set before, during and after an operation.
#include "io_support.hpp"

#include <array>

using namespace mpg::test;
using namespace std::chrono_literals;
using mpg::errc;

struct tcp_deadline : with_pollers {};
MPG_TEST_IO(tcp_deadline);

TEST_P(tcp_deadline, passed_before_fails_also_with_data_there) {
    run([] {
        auto p = connect_local();
        ASSERT_TRUE(p.client.write(bytes("data")));
        std::array<std::byte, 2> two;
        ASSERT_TRUE(p.server.read(two)); // the rest is there
        ASSERT_FALSE(p.server.set_read_deadline(mpg::clock::now() - 1s));
        EXPECT_EQ(p.server.read(two).error(), errc::deadline_exceeded);
        EXPECT_EQ(p.server.read(two).error(), std::errc::timed_out);
        EXPECT_TRUE(p.server.write(bytes("x"))); // the other direction is not affected
        ASSERT_FALSE(p.server.set_read_deadline(std::nullopt));
        EXPECT_EQ(*p.server.read(two), 2u);
        ASSERT_FALSE(p.server.set_deadline(mpg::time_point{}));
        EXPECT_EQ(p.server.read(two).error(), errc::deadline_exceeded);
        EXPECT_EQ(p.server.write(two).error(), errc::deadline_exceeded);
        EXPECT_EQ(p.server.write_some(two).error(), errc::deadline_exceeded);
    });
}

TEST_P(tcp_deadline, ends_a_read_in_time) {
    run([] {
        auto p = connect_local();
        const auto start = mpg::clock::now();
        ASSERT_FALSE(p.server.set_read_deadline(start + 20ms));
        std::byte one;
        EXPECT_EQ(p.server.read(std::span(&one, 1)).error(), errc::deadline_exceeded);
        EXPECT_GE(mpg::clock::now() - start, 20ms);
        EXPECT_LT(mpg::clock::now() - start, 10s);
    });
}

TEST_P(tcp_deadline, ends_a_write_in_time) {
    run([] {
        auto p = connect_local();
        const std::vector<std::byte> big(64 << 20);
        ASSERT_FALSE(p.client.set_write_deadline(mpg::clock::now() + 20ms));
        EXPECT_EQ(p.client.write(big).error(), errc::deadline_exceeded); // nobody reads
        iovec piece{const_cast<std::byte*>(big.data()), big.size()};
        ASSERT_FALSE(p.client.set_write_deadline(mpg::clock::now() + 20ms));
        EXPECT_EQ(p.client.writev(std::span(&piece, 1)).error(), errc::deadline_exceeded);
    });
}

TEST_P(tcp_deadline, set_from_elsewhere_ends_a_pending_read) {
    run([] {
        auto p = connect_local();
        auto reader = mpg::spawn([&] {
            std::byte one;
            return p.server.read(std::span(&one, 1)).error();
        });
        for (int i = 0; i != 10; ++i) mpg::yield();
        ASSERT_FALSE(p.server.set_read_deadline(mpg::clock::now() - 1s));
        EXPECT_EQ(reader.join(), errc::deadline_exceeded);
    });
}

/// Starts a read with a deadline in 20 ms, then moves the deadline to `to`. A machine that stands still for
/// so long gives it another try, since then there is no telling which came first.
mpg::task<mpg::result<std::size_t>> read_and_move(mpg::test::tcp_pair& p, std::optional<mpg::time_point> to) {
    for (;; p = connect_local()) {
        const auto first = mpg::clock::now() + 20ms;
        EXPECT_FALSE(p.server.set_read_deadline(first));
        auto reader = mpg::spawn([&s = p.server] {
            std::byte one;
            return s.read(std::span(&one, 1));
        });
        mpg::yield();
        EXPECT_FALSE(p.server.set_read_deadline(to));
        if (mpg::clock::now() < first) return reader;
        p.server.close();
        (void)reader.join();
    }
}

TEST_P(tcp_deadline, moved_later_while_a_read_is_pending) {
    run([] {
        auto p = connect_local();
        const auto end = mpg::clock::now() + 90ms;
        auto reader = read_and_move(p, end);
        EXPECT_EQ(reader.join().error(), errc::deadline_exceeded);
        EXPECT_GE(mpg::clock::now(), end);
    });
}

TEST_P(tcp_deadline, cleared_while_a_read_is_pending) {
    run([] {
        auto p = connect_local();
        auto reader = read_and_move(p, std::nullopt);
        std::byte never;
        ASSERT_FALSE(p.client.set_read_deadline(mpg::clock::now() + 60ms)); // as a clock
        EXPECT_EQ(p.client.read(std::span(&never, 1)).error(), errc::deadline_exceeded);
        ASSERT_TRUE(p.client.write(bytes("x")));
        EXPECT_EQ(reader.join(), 1u);
    });
}

TEST_P(tcp_deadline, ends_accept) {
    run([] {
        auto l = listen_local();
        ASSERT_FALSE(l.set_deadline(mpg::clock::now() + 20ms));
        EXPECT_EQ(l.accept().error(), errc::deadline_exceeded);
        ASSERT_FALSE(l.set_deadline(std::nullopt));
        connect_local(l);
    });
}

TEST_P(tcp_deadline, ends_everybody_who_queues_for_the_stream) {
    run([] {
        auto p = connect_local();
        ASSERT_FALSE(p.server.set_read_deadline(mpg::clock::now() + 20ms));
        std::vector<mpg::task<std::error_code>> readers;
        for (int i = 0; i != 5; ++i)
            readers.push_back(mpg::spawn([&] {
                std::byte one;
                return p.server.read(std::span(&one, 1)).error();
            }));
        for (auto& r : readers) EXPECT_EQ(r.join(), errc::deadline_exceeded);
    });
}

TEST_P(tcp_deadline, of_many_streams_all_pass) {
    run([] {
        auto l = listen_local();
        std::vector<tcp_pair> pairs;
        for (int i = 0; i != 50; ++i) pairs.push_back(connect_local(l));
        std::vector<mpg::task<std::error_code>> readers;
        for (auto& p : pairs)
            for (int round = 0; round != 1; ++round)
                readers.push_back(mpg::spawn([&p] {
                    std::error_code e;
                    for (int i = 1; i != 20; ++i) {
                        p.server.set_read_deadline(mpg::clock::now() + std::chrono::microseconds(100 * i));
                        std::byte one;
                        e = p.server.read(std::span(&one, 1)).error();
                        if (e != errc::deadline_exceeded) break;
                    }
                    return e;
                }));
        for (auto& r : readers) EXPECT_EQ(r.join(), errc::deadline_exceeded);
    });
}

TEST_P(tcp_deadline, works_on_plain_threads_without_a_runtime) {
    auto p = run([] { return connect_local(); });
    const auto start = mpg::clock::now();
    p.server.set_read_deadline(start + 20ms);
    std::byte one;
    EXPECT_EQ(p.server.read(std::span(&one, 1)).error(), errc::deadline_exceeded);
    EXPECT_GE(mpg::clock::now() - start, 20ms);
    p.server.set_read_deadline(std::nullopt);
    std::error_code seen;
    std::thread reader([&] { seen = p.server.read(std::span(&one, 1)).error(); });
    p.server.set_read_deadline(mpg::clock::now() + 20ms);
    reader.join();
    EXPECT_EQ(seen, errc::deadline_exceeded);
}
