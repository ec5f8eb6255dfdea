// Operations that wait: hand-off, order, close, time-outs, views and ranges across tasks.
//
// ctest: label:concurrent
#include "support.hpp"

#include <mpg/chan.hpp>

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

namespace {

using mpg::chan;
using mpg::chan_status;
using namespace std::chrono_literals;

struct chan_wait : mpg::test::with_procs {};
MPG_TEST_PROCS(chan_wait);

using clock = std::chrono::steady_clock;

TEST_P(chan_wait, unbuffered_send_meets_recv) {
    run([] {
        chan<int> c;
        auto sender = mpg::spawn([c] {
            for (int i = 0; i < 1000; ++i) c.send(i);
            c.close();
        });
        int expected = 0;
        for (int v : c) EXPECT_EQ(v, expected++);
        EXPECT_EQ(expected, 1000);
        sender.join();
    });
}

TEST_P(chan_wait, unbuffered_send_returns_only_when_received) {
    run([] {
        chan<int> c;
        std::atomic<bool> received{false};
        auto sender = mpg::spawn([&] {
            c.send(1);
            EXPECT_TRUE(received);
        });
        for (int i = 0; i < 100; ++i) mpg::yield();
        EXPECT_EQ(c.size(), 0u);
        received = true;
        EXPECT_EQ(c.recv(), 1);
        sender.join();
    });
}

TEST_P(chan_wait, recv_waits_on_empty_and_send_on_full) { // after the start of Go's TestChan
    run([] {
        for (std::size_t cap = 0; cap < 20; ++cap) {
            chan<int> c(cap);
            std::atomic<int> received{0};
            auto r1 = mpg::spawn([&] { (void)c.recv(), ++received; });
            auto r2 = mpg::spawn([&] { (void)c.recv(), ++received; });
            for (int i = 0; i < 20; ++i) mpg::yield();
            EXPECT_EQ(received, 0);
            int v = 0;
            EXPECT_EQ(c.try_recv(v), chan_status::empty);
            c.send(0);
            c.send(0);
            r1.join();
            r2.join();

            for (std::size_t i = 0; i < cap; ++i) c.send(1);
            std::atomic<int> sent{0};
            auto s = mpg::spawn([&] { c.send(2), ++sent; });
            for (int i = 0; i < 20; ++i) mpg::yield();
            EXPECT_EQ(sent, 0);
            EXPECT_EQ(c.try_send(v), sent == 0 ? chan_status::full : chan_status::ok);
            for (std::size_t i = 0; i < cap; ++i) EXPECT_EQ(c.recv(), 1);
            EXPECT_EQ(c.recv(), 2); // behind those of the buffer
            s.join();
        }
    });
}

// Starts n tasks one after the other, each waiting before the next one starts.
template <class F> std::vector<mpg::task<void>> queue_up(int n, std::atomic<int>& started, F f) {
    std::vector<mpg::task<void>> tasks;
    for (int i = 0; i < n; ++i) {
        tasks.push_back(mpg::spawn([&started, f, i] {
            ++started;
            f(i);
        }));
        EXPECT_TRUE(mpg::test::eventually([&] { return started == i + 1; }));
        for (int k = 0; k < 50; ++k) mpg::yield();
    }
    return tasks;
}

TEST(chan_order, waiting_receivers_are_served_in_order) {
    mpg::test::run_with_procs(1, [] { // one P: a task that yields lets the others run until they wait
        chan<int> c;
        std::atomic<int> started{0};
        std::vector<int> got(20, -1);
        auto tasks = queue_up(20, started, [&, c](int i) { got[static_cast<std::size_t>(i)] = *c.recv(); });
        for (int i = 0; i < 20; ++i) c.send(i);
        for (auto& t : tasks) t.join();
        for (int i = 0; i < 20; ++i) EXPECT_EQ(got[static_cast<std::size_t>(i)], i);
    });
}

TEST(chan_order, waiting_senders_are_served_in_order) {
    mpg::test::run_with_procs(1, [] {
        for (std::size_t cap : {0u, 1u, 4u}) {
            chan<int> c(cap);
            std::atomic<int> started{0};
            auto tasks = queue_up(20, started, [c](int i) { c.send(i); });
            EXPECT_EQ(c.size(), cap);
            for (int i = 0; i < 20; ++i) EXPECT_EQ(c.recv(), i);
            for (auto& t : tasks) t.join();
        }
    });
}

TEST_P(chan_wait, values_of_one_sender_arrive_in_order) {
    run([] {
        for (std::size_t cap : {0u, 1u, 7u, 100u}) {
            chan<std::pair<int, int>> c(cap);
            std::atomic<int> left{4};
            for (int s = 0; s < 4; ++s)
                mpg::go([&left, c, s] {
                    for (int i = 0; i < 500; ++i) c.send({s, i});
                    if (--left == 0) c.close();
                });
            int next[4] = {};
            for (auto [s, i] : c) EXPECT_EQ(i, next[s]++);
            for (int n : next) EXPECT_EQ(n, 500);
        }
    });
}

TEST_P(chan_wait, close_wakes_all_receivers) {
    run([] {
        chan<int> c;
        std::vector<mpg::task<bool>> tasks;
        for (int i = 0; i < 50; ++i) tasks.push_back(mpg::spawn([c] { return c.recv().has_value(); }));
        for (int i = 0; i < 50; ++i) mpg::yield();
        c.close();
        for (auto& t : tasks) EXPECT_FALSE(t.join());
    });
}

TEST_P(chan_wait, close_throws_in_waiting_senders) {
    run([] {
        chan<int> c(1);
        c.send(0);
        std::vector<mpg::task<void>> tasks;
        for (int i = 0; i < 50; ++i) tasks.push_back(mpg::spawn([c] { c.send(1); }));
        for (int i = 0; i < 50; ++i) mpg::yield();
        c.close();
        for (auto& t : tasks) EXPECT_THROW(t.join(), mpg::channel_closed);
        EXPECT_EQ(c.recv(), 0);
        EXPECT_EQ(c.recv(), std::nullopt);
    });
}

TEST_P(chan_wait, close_with_timed_waiters) {
    run([] {
        chan<int> c;
        auto r = mpg::spawn([c] {
            int v = 0;
            return c.recv_for(v, 1h);
        });
        auto r2 = mpg::spawn([c] {
            int v = 0;
            return c.recv_for(v, 1h);
        });
        for (int i = 0; i < 50; ++i) mpg::yield();
        c.close();
        EXPECT_EQ(r.join(), chan_status::closed);
        EXPECT_EQ(r2.join(), chan_status::closed);
        chan<int> d;
        auto s = mpg::spawn([d] {
            int v = 0;
            return d.send_for(v, 1h);
        });
        for (int i = 0; i < 50; ++i) mpg::yield();
        d.close();
        EXPECT_EQ(s.join(), chan_status::closed);
    });
}

TEST_P(chan_wait, timed_forms_time_out) {
    run([] {
        chan<std::string> c;
        std::string v = "mine";
        auto begin = clock::now();
        EXPECT_EQ(c.send_for(v, 5ms), chan_status::timeout);
        EXPECT_EQ(v, "mine");
        EXPECT_EQ(c.recv_for(v, 5ms), chan_status::timeout);
        EXPECT_EQ(v, "mine");
        EXPECT_GE(clock::now() - begin, 10ms);
        EXPECT_EQ(c.try_recv(v), chan_status::empty); // nobody is left behind in the queues
        EXPECT_EQ(c.try_send(v), chan_status::full);
        chan<int> nil = nullptr;
        int i = 0;
        begin = clock::now();
        EXPECT_EQ(nil.send_for(i, 2ms), chan_status::timeout);
        EXPECT_EQ(nil.recv_for(i, 2ms), chan_status::timeout);
        EXPECT_GE(clock::now() - begin, 4ms);
        chan<void> w;
        EXPECT_EQ(w.send_for(1ms), chan_status::timeout);
        EXPECT_EQ(w.recv_for(1ms), chan_status::timeout);
    });
}

TEST_P(chan_wait, timed_forms_succeed) {
    run([] {
        for (std::size_t cap : {0u, 2u}) {
            chan<int> c(cap), back(cap);
            auto t = mpg::spawn([=] {
                for (int i = 0; i < 300; ++i) {
                    int v = -1;
                    EXPECT_EQ(c.recv_for(v, 1h), chan_status::ok);
                    EXPECT_EQ(v, i);
                    EXPECT_EQ(back.send_for(v, std::chrono::nanoseconds::max()), chan_status::ok);
                }
            });
            for (int i = 0; i < 300; ++i) {
                c.send(i);
                EXPECT_EQ(back.recv(), i);
            }
            t.join();
        }
    });
}

TEST_P(chan_wait, expired_waits_race_with_transfers) { // each value arrives once or stays with its sender
    run([] {
        chan<int> c;
        long sent = 0;
        auto receiver = mpg::spawn([c] {
            long sum = 0;
            for (;;) {
                int v = 0;
                switch (c.recv_for(v, 3us)) {
                case chan_status::ok:
                    sum += v;
                    break;
                case chan_status::closed:
                    return sum;
                default:
                    break;
                }
            }
        });
        for (int i = 1; i <= 3000; ++i) {
            int v = i;
            if (c.send_for(v, std::chrono::microseconds(i % 7)) == chan_status::ok) sent += i;
        }
        c.close();
        EXPECT_EQ(receiver.join(), sent);
    });
}

TEST_P(chan_wait, void_channel_synchronises) {
    run([] {
        chan<void> ready, done;
        int shared = 0;
        mpg::go([&shared, ready, done] {
            EXPECT_TRUE(ready.recv());
            EXPECT_EQ(shared, 1);
            shared = 2;
            done.close();
        });
        shared = 1;
        ready.send();
        EXPECT_FALSE(done.recv());
        EXPECT_EQ(shared, 2);
    });
}

// The k-th receive happens before the (k+C)-th send completes: a channel as a counting semaphore.
TEST_P(chan_wait, buffer_limits_like_a_semaphore) {
    run([] {
        constexpr int limit = 3;
        chan<void> places(limit);
        std::atomic<int> inside{0}, most{0};
        int plain[limit * 100] = {};
        std::vector<mpg::task<void>> tasks;
        for (int i = 0; i < 100; ++i)
            tasks.push_back(mpg::spawn([&, i] {
                places.send();
                int now = ++inside;
                for (int m = most; now > m && !most.compare_exchange_weak(m, now);) {
                }
                ++plain[i * limit];
                mpg::yield();
                --inside;
                (void)places.recv();
            }));
        for (auto& t : tasks) t.join();
        EXPECT_LE(most, limit);
    });
}

// The channel may go as soon as the last operation has what it waited for.
TEST_P(chan_wait, channel_dies_right_after_hand_off) {
    run([] {
        for (int i = 0; i < 2000; ++i) {
            auto c = std::make_unique<chan<int>>();
            mpg::go([c = c.get()] { c->send(1); }); // through a reference: this handle is the only one
            EXPECT_EQ(c->recv(), 1);
            c.reset();
        }
    });
}

TEST_P(chan_wait, ping_pong) {
    run([] {
        chan<int> a, b;
        mpg::go([a, b] {
            for (int v : a) b.send(v + 1);
            b.close();
        });
        for (int i = 0; i < 2000; ++i) {
            a.send(i);
            EXPECT_EQ(b.recv(), i + 1);
        }
        a.close();
        EXPECT_EQ(b.recv(), std::nullopt);
    });
}

} // namespace
