// elastic_chan: growing and shrinking, numbers, policies, counters, heartbeat, select.
#include "support.hpp"

#include <mpg/chan.hpp>
#include <mpg/select.hpp>

#include <atomic>
#include <chrono>
#include <memory>
#include <ranges>
#include <string>
#include <thread>
#include <vector>

namespace {

using mpg::chan_status;
using mpg::elastic_chan;
using mpg::elastic_item;
using mpg::overflow;
using namespace std::chrono_literals;

static_assert(std::ranges::input_range<elastic_chan<int>>);

struct elastic : mpg::test::with_procs {};
MPG_TEST_PROCS(elastic);

TEST(elastic_chan, doubles_up_to_max_and_goes_back_below_low) {
    elastic_chan<std::string> c({.low = 2, .high = 3, .max = 20});
    EXPECT_EQ(c.capacity(), 3u);
    std::vector<std::size_t> capacities;
    for (int i = 0; i < 20; ++i) {
        EXPECT_EQ(c.send(std::to_string(i)), chan_status::ok);
        if (capacities.empty() || capacities.back() != c.capacity()) capacities.push_back(c.capacity());
    }
    EXPECT_EQ(capacities, (std::vector<std::size_t>{3, 6, 12, 20}));
    EXPECT_EQ(c.grown(), 3u);
    EXPECT_EQ(c.high_water(), 20u);
    std::string v = "too much";
    EXPECT_EQ(c.try_send(v), chan_status::full);
    EXPECT_EQ(v, "too much");
    for (int i = 0; i < 20; ++i) {
        EXPECT_EQ(c.capacity(), i < 19 ? 20u : 3u) << i;
        auto item = c.recv();
        ASSERT_TRUE(item);
        EXPECT_EQ(item->value, std::to_string(i));
        EXPECT_EQ(item->seq, static_cast<std::uint64_t>(i));
    }
    EXPECT_EQ(c.capacity(), 3u);
    EXPECT_EQ(c.stats().shrunk, 1u);
    EXPECT_EQ(c.dropped(), 0u);
}

TEST(elastic_chan, keeps_order_over_many_changes) {
    elastic_chan<std::unique_ptr<int>> c({.low = 0, .high = 1, .max = 64});
    int in = 0, out = 0;
    for (int round = 1; round < 200; ++round) {
        for (int i = 0; i < round % 61; ++i)
            if (c.try_send(std::make_unique<int>(in)) == chan_status::ok) ++in;
        for (int i = 0; i < round * 7 % 67 && out < in; ++i) {
            auto item = c.recv();
            EXPECT_EQ(*item->value, out);
            EXPECT_EQ(item->seq, static_cast<std::uint64_t>(out++));
        }
    }
    EXPECT_GT(c.grown(), 20u);
    EXPECT_GT(c.stats().shrunk, 5u);
    EXPECT_EQ(c.size(), static_cast<std::size_t>(in - out));
}

TEST(elastic_chan, drop_oldest_never_waits_and_leaves_a_gap) {
    elastic_chan<int> c({.low = 0, .high = 2, .max = 4}, overflow::drop_oldest);
    for (int i = 0; i < 10; ++i) EXPECT_EQ(c.send(i), chan_status::ok);
    EXPECT_EQ(c.dropped(), 6u);
    EXPECT_EQ(c.size(), 4u);
    std::uint64_t expected = 0, missed = 0;
    c.close();
    for (auto& [value, seq] : c) {
        missed += seq - expected;
        expected = seq + 1;
        EXPECT_EQ(static_cast<int>(seq), value);
    }
    EXPECT_EQ(missed, 6u);
    EXPECT_EQ(expected, 10u);
}

TEST(elastic_chan, reject_answers_full) {
    elastic_chan<std::string> c({.low = 0, .high = 1, .max = 2}, overflow::reject);
    EXPECT_EQ(c.send("a"), chan_status::ok);
    EXPECT_EQ(c.send("b"), chan_status::ok);
    EXPECT_EQ(c.send("c"), chan_status::full);
    std::string v = "d";
    EXPECT_EQ(c.try_send(v), chan_status::full);
    EXPECT_EQ(v, "d");
    EXPECT_EQ(c.rejected(), 2u);
    EXPECT_EQ(c.recv_value(), "a");
    EXPECT_EQ(c.send("e"), chan_status::ok);
    EXPECT_EQ(c.recv_value(), "b");
    EXPECT_EQ(c.recv_value(), "e");
}

TEST(elastic_chan, close_drains_and_ends) {
    elastic_chan<int> c;
    c.send(1);
    c.close();
    EXPECT_TRUE(c.closed());
    EXPECT_THROW(c.close(), mpg::channel_closed);
    EXPECT_THROW(c.send(2), mpg::channel_closed);
    int v = 0;
    EXPECT_EQ(c.try_send(v), chan_status::closed);
    EXPECT_EQ(c.try_recv(v), chan_status::ok);
    EXPECT_EQ(v, 1);
    EXPECT_EQ(c.try_recv(v), chan_status::closed);
    EXPECT_FALSE(c.recv().has_value());
    EXPECT_EQ(c.recv_value(), std::nullopt);
}

TEST(elastic_chan, bad_watermarks_throw) {
    EXPECT_THROW(elastic_chan<int>({.low = 0, .high = 0, .max = 1}), std::invalid_argument);
    EXPECT_THROW(elastic_chan<int>({.low = 0, .high = 2, .max = 1}), std::invalid_argument);
    EXPECT_THROW(elastic_chan<int>({.low = 3, .high = 2, .max = 9}), std::invalid_argument);
    EXPECT_THROW(elastic_chan<int>({}, overflow::block, 0ns), std::invalid_argument);
}

TEST(elastic_chan, items_and_values_by_every_form) {
    elastic_chan<int> c({.low = 0, .high = 4, .max = 8});
    for (int i = 0; i < 4; ++i) c.send(i);
    elastic_item<int> item{};
    int v = -1;
    EXPECT_EQ(c.try_recv(item), chan_status::ok);
    EXPECT_EQ(item.seq, 0u);
    EXPECT_EQ(c.recv_for(v, 1ms), chan_status::ok);
    EXPECT_EQ(v, 1);
    std::uint64_t seq = 0;
    EXPECT_EQ(mpg::select(mpg::on_recv(c, [&](std::optional<elastic_item<int>> x) { seq = x->seq; }),
                          mpg::otherwise()),
              0u);
    EXPECT_EQ(seq, 2u);
    EXPECT_EQ(mpg::select(mpg::on_send(c, 9), mpg::otherwise()), 0u);
    mpg::select_set set;
    set.recv(c).otherwise();
    EXPECT_EQ(set.wait(), 0u);
    EXPECT_EQ(c.recv_value(), 9);
    EXPECT_EQ(set.wait(), 1u);
    elastic_chan<int> copy = c;
    EXPECT_TRUE(copy == c);
}

TEST_P(elastic, block_waits_at_max) {
    run([] {
        elastic_chan<int> c({.low = 0, .high = 1, .max = 4});
        std::atomic<int> sent{0};
        auto sender = mpg::spawn([&] {
            for (int i = 0; i < 100; ++i, ++sent) c.send(i);
            c.close();
        });
        EXPECT_TRUE(mpg::test::eventually([&] { return sent == 4; }));
        for (int i = 0; i < 50; ++i) mpg::yield();
        EXPECT_EQ(sent, 4);
        int v = 7;
        EXPECT_EQ(c.send_for(v, 1ms), chan_status::timeout);
        EXPECT_EQ(v, 7);
        int expected = 0;
        for (auto& item : c) {
            EXPECT_EQ(item.value, expected);
            EXPECT_EQ(item.seq, static_cast<std::uint64_t>(expected++));
        }
        EXPECT_EQ(expected, 100);
        sender.join();
    });
}

TEST_P(elastic, waiting_receivers_get_numbers_too) {
    run([] {
        elastic_chan<int> c({.low = 0, .high = 1, .max = 4});
        auto a = mpg::spawn([&] { return c.recv()->seq; });
        auto b = mpg::spawn([&] {
            std::uint64_t seq = 99;
            mpg::select(mpg::on_recv(c, [&](std::optional<elastic_item<int>> x) { seq = x->seq; }),
                        mpg::on_timeout(1h));
            return seq;
        });
        for (int i = 0; i < 50; ++i) mpg::yield();
        c.send(1);
        c.send(2);
        EXPECT_EQ(a.join() + b.join(), 1u);
        auto end = mpg::spawn([&] { return c.recv().has_value(); });
        for (int i = 0; i < 50; ++i) mpg::yield();
        c.close();
        EXPECT_FALSE(end.join());
    });
}

TEST_P(elastic, heartbeat_tells_the_load_and_ends_with_the_channel) {
    run([] {
        elastic_chan<int> c({.low = 0, .high = 2, .max = 4}, overflow::block, 1ms);
        auto beats = c.heartbeat();
        c.send(1);
        for (;;) {
            auto beat = beats.recv();
            ASSERT_TRUE(beat);
            if (beat->size == 1) break;
        }
        c.send(2);
        while (beats.recv()->accepted != 2) {
        }
        c.close();
        while (beats.recv()) {
        }
        EXPECT_TRUE(elastic_chan<int>().heartbeat() == nullptr);
        { elastic_chan<int> dropped({}, overflow::block, 1us); }
    });
}

TEST_P(elastic, stress_counts_everything) {
    run([] {
        for (overflow policy : {overflow::block, overflow::drop_oldest, overflow::reject}) {
            elastic_chan<std::string> c({.low = 2, .high = 2, .max = 64}, policy, 50us);
            const long each = static_cast<long>(mpg::test::scaled(3000));
            std::atomic<long> accepted{0}, received{0};
            std::atomic<int> left{4};
            std::vector<mpg::task<void>> tasks;
            auto send = [&](int kind) {
                for (long i = 0; i < each; ++i) {
                    std::string v = std::to_string(i) + " padded so that it needs memory";
                    bool ok = kind == 0   ? c.send(v) == chan_status::ok
                              : kind == 1 ? c.send_for(v, 10us) == chan_status::ok
                              : kind == 2 ? mpg::select(mpg::on_send(c, v), mpg::on_timeout(10us)) == 0
                                          : c.try_send(v) == chan_status::ok;
                    accepted += ok;
                    if (i % 16 == 0 && mpg::this_task::inside()) mpg::yield();
                }
                if (--left == 0) c.close();
            };
            for (int kind = 0; kind < 3; ++kind) tasks.push_back(mpg::spawn(send, kind));
            std::thread foreign(send, 3);
            for (int kind = 0; kind < 3; ++kind)
                tasks.push_back(mpg::spawn([&, kind] {
                    std::uint64_t next = 0;
                    for (;;) {
                        elastic_item<std::string> item;
                        chan_status s = chan_status::ok;
                        if (kind == 0) {
                            auto got = c.recv();
                            if (!got) return;
                            item = std::move(*got);
                        } else if (kind == 1) {
                            s = c.recv_for(item, 20us);
                        } else {
                            mpg::select(mpg::on_recv(c, [&](std::optional<elastic_item<std::string>> x) {
                                if (x)
                                    item = std::move(*x);
                                else
                                    s = chan_status::closed;
                            }));
                        }
                        if (s == chan_status::closed) return;
                        if (s != chan_status::ok) continue;
                        EXPECT_GE(item.seq, next);
                        next = item.seq + 1;
                        ++received;
                    }
                }));
            for (auto& t : tasks) t.join();
            mpg::blocking([&] { foreign.join(); });
            auto s = c.stats();
            EXPECT_EQ(static_cast<long>(s.accepted), accepted);
            EXPECT_EQ(received + static_cast<long>(s.dropped), accepted);
            if (policy != overflow::drop_oldest) {
                EXPECT_EQ(s.dropped, 0u);
            }
            EXPECT_LE(s.high_water, 64u);
            EXPECT_EQ(s.size, 0u);
        }
    });
}

} // namespace
