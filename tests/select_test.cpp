// select over cases known at compile time: choice, handlers, closed and nil channels, time-outs.
//
// ctest: label:concurrent
#include "support.hpp"

#include <mpg/chan.hpp>
#include <mpg/select.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <memory>
#include <string>
#include <unordered_set>
#include <vector>

namespace {

using mpg::chan;
using mpg::on_recv;
using mpg::on_send;
using mpg::on_timeout;
using mpg::otherwise;
using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;

struct select_waits : mpg::test::with_procs {};
MPG_TEST_PROCS(select_waits);

// Each of n equally likely outcomes came about as often as the others: within 6 standard deviations.
void expect_uniform(const std::vector<int>& counts) {
    double total = 0;
    for (int c : counts) total += c;
    double p = 1.0 / static_cast<double>(counts.size()), sigma = std::sqrt(total * p * (1 - p));
    for (std::size_t i = 0; i < counts.size(); ++i)
        EXPECT_NEAR(counts[i], total * p, 6 * sigma) << "outcome " << i << " of " << counts.size();
}

TEST(select, ready_case_runs_its_handler_and_gives_its_index) {
    chan<int> a(1), b(1);
    b.send(4);
    int got = 0;
    EXPECT_EQ(mpg::select(on_recv(a), on_recv(b, [&](std::optional<int> v) { got = *v; })), 1u);
    EXPECT_EQ(got, 4);
    bool sent = false;
    EXPECT_EQ(mpg::select(on_recv(a), on_send(b, 5, [&] { sent = true; })), 1u);
    EXPECT_TRUE(sent);
    EXPECT_EQ(b.recv(), 5);
}

// As a program is written that knows its channels to be open. With optimisation compilers look through the wait.
template <class T> void expect_received_unasked(const T& sent) {
    chan<T> a(1), b(1);
    b.send(sent);
    T got{};
    EXPECT_EQ(mpg::select(on_recv(a, [&](std::optional<T> v) { got = *v; }), on_recv(b, [&](auto v) { got = *v; })), 1u);
    EXPECT_EQ(got, sent);
    b.send(sent);
    std::unordered_set<T> known;
    EXPECT_EQ(mpg::select(on_recv(b, [&](std::optional<T> v) { known.insert(*v); }), otherwise()), 0u);
    EXPECT_TRUE(known.contains(sent));
}

TEST(select, handler_may_take_the_value_without_asking) {
    expect_received_unasked<std::string>("text");
    expect_received_unasked<chan<int>>(chan<int>(1));
    expect_received_unasked<std::shared_ptr<int>>(std::make_shared<int>(1));
}

TEST(select, otherwise_when_none_is_ready) {
    chan<int> a, b(1);
    b.send(1);
    bool taken = false;
    EXPECT_EQ(mpg::select(on_recv(a), otherwise([&] { taken = true; })), 1u);
    EXPECT_TRUE(taken);
    EXPECT_EQ(mpg::select(otherwise(), on_recv(a), on_send(b, 2), on_timeout(0ns)), 0u);
    EXPECT_EQ(mpg::select(otherwise()), 0u);
    EXPECT_EQ(mpg::select(on_recv(b), otherwise()), 0u);
    EXPECT_EQ(mpg::select(on_send(b, 1), otherwise()), 0u);
    EXPECT_EQ(mpg::select(on_send(b, 1), otherwise()), 1u);
}

TEST(select, nil_cases_are_never_ready) {
    chan<int> nil = nullptr, b(1);
    for (int i = 0; i < 100; ++i) {
        EXPECT_EQ(mpg::select(on_recv(nil), on_send(nil, 1), on_send(b, 2)), 2u);
        EXPECT_EQ(mpg::select(on_recv(nil), on_recv(b)), 1u);
        EXPECT_EQ(mpg::select(on_recv(nil), on_send(nil, 1), otherwise()), 2u);
        EXPECT_EQ(mpg::select(on_recv(mpg::recv_chan<int>()), otherwise()), 1u);
    }
    EXPECT_EQ(mpg::select(on_recv(nil), on_timeout(0ns)), 1u);
}

TEST(select, receive_of_closed_is_ready) {
    chan<int> c(1);
    chan<void> v;
    c.send(1);
    c.close();
    v.close();
    std::vector<std::optional<int>> got;
    auto keep = [&](std::optional<int> x) { got.push_back(x); };
    mpg::select(on_recv(c, keep), otherwise());
    mpg::select(on_recv(c, keep), otherwise());
    EXPECT_EQ(got, (std::vector<std::optional<int>>{1, std::nullopt}));
    bool flag = true;
    mpg::select(on_recv(v, [&](bool ok) { flag = ok; }));
    EXPECT_FALSE(flag);
}

TEST(select, send_on_closed_throws) {
    chan<int> c(1), never;
    c.close();
    EXPECT_THROW(mpg::select(on_send(c, 1)), mpg::channel_closed);
    EXPECT_THROW(mpg::select(on_send(c, 1), otherwise()), mpg::channel_closed);
    EXPECT_THROW(mpg::select(on_recv(never), on_send(c, 1), otherwise()), mpg::channel_closed);
    EXPECT_THROW(mpg::select(on_send(c, 1), on_timeout(1h)), mpg::channel_closed);
    chan<void> v;
    v.close();
    EXPECT_THROW(mpg::select(on_send(v), otherwise()), mpg::channel_closed);
}

TEST(select, handlers_may_be_left_out_and_may_throw) {
    chan<int> c(1);
    chan<void> v(1);
    mpg::select(on_send(c, 1));
    mpg::select(on_send(v));
    mpg::select(on_recv(v));
    EXPECT_THROW(mpg::select(on_recv(c, [](std::optional<int>) { throw 5; })), int);
    EXPECT_EQ(c.size(), 0u);
    bool sent = false;
    mpg::select(on_send(v, [&] { sent = true; }));
    EXPECT_TRUE(sent);
}

TEST(select, handlers_run_when_everything_is_unlocked) {
    chan<int> c(1), d(1);
    c.send(1);
    mpg::select(on_recv(c,
                        [&](std::optional<int>) {
                            c.send(2);
                            mpg::select(on_recv(c, [&](std::optional<int> v) { EXPECT_EQ(v, 2); }),
                                        on_recv(d));
                            c.close();
                        }),
                on_recv(d));
    EXPECT_TRUE(c.closed());
    chan<int> own(1);
    own.send(1);
    mpg::select(on_recv(own, [&](std::optional<int>) { own = nullptr; }), on_recv(d));
}

TEST(select, chooses_uniformly_among_ready) {
    chan<int> a(1), b(1), c(1), never;
    std::vector<int> counts(4);
    auto count = [&](std::size_t i) { ++counts[i]; };
    for (int i = 0; i < 8000; ++i) {
        int v = 0;
        (void)a.try_send(v), (void)b.try_send(v), (void)c.try_recv(v);
        mpg::select(on_recv(never), on_recv(a, [&](auto) { count(0); }), on_recv(b, [&](auto) { count(1); }),
                    on_send(c, 1, [&] { count(2); }), on_recv(a, [&](auto) { count(3); }));
    }
    expect_uniform(counts);
}

TEST(select, chooses_uniformly_in_fresh_channels) {
    std::vector<int> counts(2);
    for (int i = 0; i < 8000; ++i) {
        chan<int> a(1), b(1);
        a.send(1);
        b.send(1);
        ++counts[mpg::select(on_recv(a), on_recv(b))];
    }
    expect_uniform(counts);
}

TEST(select, closed_sender_is_one_of_the_ready) {
    chan<int> closed(1), ready(1);
    closed.close();
    std::vector<int> counts(2);
    for (int i = 0; i < 4000; ++i) {
        int v = 0;
        (void)ready.try_send(v);
        try {
            mpg::select(on_send(closed, 1), on_recv(ready));
            ++counts[0];
        } catch (const mpg::channel_closed&) {
            ++counts[1];
        }
    }
    expect_uniform(counts);
}

TEST(select, sixty_four_cases_and_mixed_types) {
    chan<std::string> s(1);
    chan<std::unique_ptr<int>> p(1);
    chan<void> v(1);
    for (int i = 0; i < 30; ++i)
        mpg::select(on_send(s, "text"), on_send(p, std::make_unique<int>(3)), on_send(v),
                    on_recv(s, [](std::optional<std::string> x) { EXPECT_EQ(x, "text"); }),
                    on_recv(p, [](std::optional<std::unique_ptr<int>> x) { EXPECT_EQ(**x, 3); }),
                    on_recv(v, [](bool ok) { EXPECT_TRUE(ok); }));
}

TEST(select, stored_cases_may_be_used_again) {
    chan<int> c(4);
    int sum = 0;
    auto recv = on_recv(c, [&](std::optional<int> v) { sum += *v; });
    auto send = on_send(c, 3);
    auto none = otherwise();
    for (int i = 0; i < 4; ++i) mpg::select(send);
    for (int i = 0; i < 4; ++i) EXPECT_EQ(mpg::select(recv, none), 0u);
    EXPECT_EQ(mpg::select(recv, none), 1u);
    EXPECT_EQ(sum, 12);
}

TEST_P(select_waits, time_out) {
    run([] {
        chan<int> a, b;
        auto begin = clock::now();
        bool ran = false;
        EXPECT_EQ(
            mpg::select(on_recv(a), on_send(b, 1), on_timeout(1h), on_timeout(5ms, [&] { ran = true; })), 3u);
        EXPECT_TRUE(ran);
        EXPECT_GE(clock::now() - begin, 5ms);
        EXPECT_EQ(mpg::select(on_timeout(1ms)), 0u);
        EXPECT_EQ(mpg::select(on_timeout(-1ms), on_recv(a)), 0u);
        int v = 0;
        EXPECT_EQ(a.try_send(v), mpg::chan_status::full); // nothing is left in the queues
        EXPECT_EQ(b.try_recv(v), mpg::chan_status::empty);
    });
}

TEST_P(select_waits, time_out_of_max_never_comes) {
    run([] {
        chan<int> c;
        mpg::go([c] {
            for (int i = 0; i < 100; ++i) mpg::yield();
            c.send(1);
        });
        EXPECT_EQ(mpg::select(on_timeout(std::chrono::nanoseconds::max()), on_recv(c)), 1u);
    });
}

TEST_P(select_waits, is_woken_by_each_kind_of_case) {
    run([] {
        chan<int> in, out;
        chan<void> stop;
        auto peer = mpg::spawn([=] {
            int sum = 0;
            for (int i = 0; i < 500; ++i) {
                in.send(i);
                sum += *out.recv();
            }
            stop.close();
            return sum;
        });
        int seen = 0;
        std::optional<int> pending;
        for (bool going = true; going;) {
            chan<int> to = pending ? out : chan<int>(nullptr);
            mpg::select(on_recv(in, [&](std::optional<int> v) { pending = v; }),
                        on_send(to, pending.value_or(0), [&] { pending.reset(); }),
                        on_recv(stop, [&](bool ok) {
                            EXPECT_FALSE(ok);
                            going = false;
                        }));
            ++seen;
        }
        EXPECT_EQ(seen, 1001);
        EXPECT_EQ(peer.join(), 499 * 500 / 2);
    });
}

TEST_P(select_waits, close_wakes_a_waiting_receiver_and_throws_in_a_waiting_sender) {
    run([] {
        chan<int> a, b, never;
        auto receiver = mpg::spawn([=] {
            bool closed = false;
            mpg::select(on_recv(never), on_recv(a, [&](std::optional<int> v) { closed = !v; }));
            return closed;
        });
        auto sender = mpg::spawn([=] { mpg::select(on_recv(never), on_send(b, 1)); });
        for (int i = 0; i < 100; ++i) mpg::yield();
        a.close();
        b.close();
        EXPECT_TRUE(receiver.join());
        EXPECT_THROW(sender.join(), mpg::channel_closed);
    });
}

// Both cases stand in the queues of one channel: they must not find each other.
TEST_P(select_waits, does_not_meet_itself) { // after Go's TestSelfSelect
    run([] {
        for (std::size_t cap : {0u, 10u}) {
            chan<int> c(cap);
            std::array<mpg::task<void>, 2> tasks;
            for (int p = 0; p < 2; ++p)
                tasks[static_cast<std::size_t>(p)] = mpg::spawn([c, p, cap] {
                    for (int i = 0; i < 1000; ++i) {
                        auto check = [&](std::optional<int> v) {
                            if (cap == 0) {
                                EXPECT_NE(v, p) << "received its own value";
                            }
                        };
                        if (p == 0 || i % 2 == 0)
                            mpg::select(on_send(c, p), on_recv(c, check));
                        else
                            mpg::select(on_recv(c, check), on_send(c, p));
                    }
                });
            for (auto& t : tasks) t.join(); // each meeting takes one of both, so they end together
        }
    });
}

// The same channel in two cases, when the value comes while the select waits.
TEST(select_fairness, same_channel_twice_while_waiting) {
    mpg::test::run_with_procs(1, [] {
        chan<int> c, d;
        std::vector<int> counts(2);
        auto receiver = mpg::spawn([&, c, d] {
            for (int i = 0; i < 4000; ++i)
                mpg::select(on_recv(c, [&](auto) { ++counts[0]; }), on_recv(d),
                            on_recv(c, [&](auto) { ++counts[1]; }));
        });
        mpg::yield();
        for (int i = 0; i < 4000; ++i) {
            c.send(i);
            mpg::yield(); // so that it waits again
        }
        receiver.join();
        expect_uniform(counts);
    });
}

TEST(select_fairness, send_and_receive_in_three_cases_while_waiting) {
    mpg::test::run_with_procs(1, [] {
        chan<int> c;
        std::vector<int> counts(3);
        auto selecting = mpg::spawn([&, c] {
            for (int i = 0; i < 3000; ++i)
                mpg::select(on_send(c, 1, [&] { ++counts[0]; }), on_send(c, 2, [&] { ++counts[1]; }),
                            on_send(c, 3, [&] { ++counts[2]; }));
        });
        mpg::yield();
        std::vector<int> values(3);
        for (int i = 0; i < 3000; ++i) {
            ++values[static_cast<std::size_t>(*c.recv() - 1)];
            mpg::yield();
        }
        selecting.join();
        EXPECT_EQ(values, counts);
        expect_uniform(counts);
    });
}

// Both channels hold enough for the whole of it, so that it does not matter who runs when. After Go's
// TestSelectFairness.
TEST_P(select_waits, is_fair_between_busy_channels) {
    run([] {
        constexpr int trials = 10'000;
        chan<int> c1(trials + 1), c2(trials + 1), c3, c4, out;
        for (int i = 0; i <= trials; ++i) {
            c1.send(1);
            c2.send(2);
        }
        chan<void> done;
        auto selecting = mpg::spawn([=] {
            for (bool going = true; going;) {
                int v = 0;
                auto take = [&](std::optional<int> got) { v = *got; };
                mpg::select(on_recv(c3, take), on_recv(c4, take), on_recv(c1, take), on_recv(c2, take));
                mpg::select(on_send(out, v), on_recv(done, [&](bool) { going = false; }));
            }
        });
        int ones = 0;
        for (int i = 0; i < trials; ++i) ones += *out.recv() == 1;
        done.close();
        selecting.join();
        EXPECT_NEAR(ones, trials / 2, 300); // 6 standard deviations
    });
}

// Each of the two channels always holds the token or gives it to the other: so a select with both and an
// otherwise never finds none ready. After Go's TestNonblockSelectRace2, and sharper.
TEST_P(select_waits, otherwise_is_the_truth_of_one_moment) {
    run([] {
        for (int i = 0; i < 300; ++i) {
            chan<int> a(1), b;
            a.send(1);
            auto t = mpg::spawn([=] { b.close(), (void)a.recv(); });
            EXPECT_NE(mpg::select(on_recv(a), on_recv(b), otherwise()), 2u);
            int v = 1;
            (void)a.try_send(v); // for the other's recv, if this side took the first
            t.join();
        }
    });
}

TEST(select_forever, no_cases_or_nil_cases_block) { // a runtime's stop ends them
    mpg::test::run_with_all_procs([] {
        std::atomic<int> begun{0};
        mpg::go([&] { ++begun, mpg::select(), ADD_FAILURE(); });
        mpg::go([&] { ++begun, mpg::select(on_recv(chan<int>(nullptr))), ADD_FAILURE(); });
        mpg::go([&] { ++begun, (void)chan<int>(nullptr).recv(), ADD_FAILURE(); });
        mpg::go([&] { ++begun, chan<int>(nullptr).send(1), ADD_FAILURE(); });
        mpg::go([&] { ++begun, mpg::select_set().wait(), ADD_FAILURE(); });
        EXPECT_TRUE(mpg::test::eventually([&] { return begun == 5; }));
        for (int i = 0; i < 20; ++i) mpg::yield();
    });
}

} // namespace
