// What Go's own tests try (test/chan, runtime/chan_test.go, sync, context, time), told anew for this library,
// where the other tests here do not tell it already.
//
// ctest: label:concurrent
#include "support.hpp"

#include <mpg/mpg.hpp>

#include <array>
#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace {

using mpg::chan;
using mpg::context;
using mpg::on_recv;
using mpg::on_send;
using namespace std::chrono_literals;

struct go_scenarios : mpg::test::with_procs {};
MPG_TEST_PROCS(go_scenarios);

// Whether f, in a task of its own, has ended after everybody else had his turn many times.
template <class F> bool blocks(F f) {
    chan<void> ended(1);
    mpg::go([f, ended] {
        f();
        ended.send();
    });
    for (int i = 0; i < 200; ++i) {
        if (ended.size() != 0) return false;
        mpg::yield();
    }
    return ended.size() == 0;
}
template <class F> void ends(F f) {
    auto task = mpg::spawn(f);
    task.join();
}

// test/chan/select3.go: which operation blocks on which channel, alone and in a select.
TEST_P(go_scenarios, what_blocks_on_what) {
    run([] {
        chan<int> nil(nullptr), empty, room(10), full(1), closed(1), closed_full(1);
        full.send(0);
        closed.close();
        closed_full.send(5);
        closed_full.close();
        auto send = [](chan<int> c) { return [c] { c.send(7); }; };
        auto recv = [](chan<int> c) { return [c] { (void)c.recv(); }; };
        EXPECT_TRUE(blocks(send(nil)));
        EXPECT_TRUE(blocks(recv(nil)));
        EXPECT_TRUE(blocks(send(empty)));
        EXPECT_TRUE(blocks(recv(chan<int>())));
        EXPECT_TRUE(blocks(recv(chan<int>(3))));
        EXPECT_TRUE(blocks(send(full)));
        ends(send(room));
        ends(recv(room));
        ends(recv(closed));
        ends(recv(closed_full));
        EXPECT_THROW(ends(send(closed)), mpg::channel_closed);
        EXPECT_TRUE(blocks([] { mpg::select(); }));
        EXPECT_TRUE(blocks([=] { mpg::select(on_send(nil, 7), on_recv(nil)); }));
        EXPECT_TRUE(blocks([] { mpg::select(on_recv(chan<int>())); }));
        EXPECT_TRUE(blocks([=] { mpg::select(on_send(full, 7), on_recv(nil)); }));
        ends([=] { mpg::select(on_recv(nil), on_send(nil, 7), mpg::otherwise()); });
        ends([=] { mpg::select(on_send(room, 7), on_recv(nil)); });
        ends([=] { mpg::select(on_recv(closed), on_send(full, 1)); });
        EXPECT_THROW(ends([=] { mpg::select(on_send(closed, 7)); }), mpg::channel_closed);
    });
}

// test/chan/select6.go: a select that was served elsewhere takes only its own waiter out of a queue, also the
// last one.
TEST_P(go_scenarios, failed_cases_leave_the_queue_as_it_was) {
    run([] {
        chan<bool> c1, c2, c3, c4;
        auto last = mpg::spawn([=] { (void)c1.recv(); });
        auto both = mpg::spawn([=] {
            mpg::select(on_recv(c1, [](std::optional<bool>) { ADD_FAILURE() << "c1"; }),
                        on_recv(c2, [&](std::optional<bool>) { c4.send(true); }));
        });
        for (int i = 0; i < 50; ++i) mpg::yield();
        c2.send(true);
        (void)c4.recv();
        auto behind = mpg::spawn(
            [=] { mpg::select(on_recv(c1, [&](std::optional<bool>) { c3.send(true); }), on_recv(c2)); });
        c1.send(true);
        c1.send(true);
        (void)c3.recv();
        last.join();
        both.join();
        behind.join();
    });
}

// test/chan/select7.go: every way to receive meets a sender that came before, and one that comes after.
TEST_P(go_scenarios, every_receive_meets_every_sender) {
    run([] {
        auto loop = [](chan<int> c) {
            for (int v = 0;;) {
                if (c.try_recv(v) == mpg::chan_status::ok) return v;
                mpg::yield();
            }
        };
        auto plain = [](chan<int> c) { return *c.recv(); };
        auto one = [](chan<int> c) {
            int v = 0;
            mpg::select(on_recv(c, [&](std::optional<int> got) { v = *got; }));
            return v;
        };
        auto many = [](chan<int> c) {
            int v = 0;
            mpg::select(on_recv(c, [&](std::optional<int> got) { v = *got; }), on_recv(chan<int>()));
            return v;
        };
        auto with_otherwise = [](chan<int> c) {
            for (int v = 0;; mpg::yield())
                if (mpg::select(on_recv(c, [&](std::optional<int> got) { v = *got; }), mpg::otherwise()) == 0)
                    return v;
        };
        auto try_all = [](auto receive) {
            for (std::size_t capacity : {0u, 1u, 10u})
                for (int early : {0, 1}) {
                    chan<int> c(capacity);
                    auto wait = [](int n) {
                        for (int i = 0; i < 30 * n; ++i) mpg::yield();
                    };
                    auto sender = mpg::spawn([=] {
                        wait(early);
                        c.send(1);
                    });
                    wait(1 - early);
                    EXPECT_EQ(receive(c), 1);
                    sender.join();
                    auto selecting = mpg::spawn([=] {
                        wait(early);
                        EXPECT_EQ(mpg::select(on_recv(chan<int>()), on_send(c, 2)), 1u);
                    });
                    wait(1 - early);
                    EXPECT_EQ(receive(c), 2);
                    selecting.join();
                }
        };
        try_all(loop);
        try_all(plain);
        try_all(one);
        try_all(many);
        try_all(with_otherwise);
    });
}

// runtime: TestSelectStress. Four channels, each with a plain sender and receiver, and a pair of selects over
// all.
TEST_P(go_scenarios, selects_and_plain_operations_over_four_channels) {
    run([] {
        const int n = static_cast<int>(mpg::test::scaled(2000));
        std::array<chan<int>, 4> c{chan<int>(), chan<int>(), chan<int>(2), chan<int>(3)};
        mpg::wait_group ended;
        for (auto& each : c) {
            ended.go([=] {
                for (int i = 0; i < n; ++i) each.send(0);
            });
            ended.go([=] {
                for (int i = 0; i < n; ++i) (void)each.recv();
            });
        }
        auto select_all = [&](auto select_one) {
            ended.go([=] {
                std::array<int, 4> left{n, n, n, n};
                auto open = c;
                for (int i = 0; i < 4 * n; ++i)
                    if (std::size_t k = select_one(open); --left[k] == 0) open[k] = nullptr;
            });
        };
        select_all([](auto& o) {
            return mpg::select(on_send(o[0], 0), on_send(o[1], 0), on_send(o[2], 0), on_send(o[3], 0));
        });
        select_all(
            [](auto& o) { return mpg::select(on_recv(o[0]), on_recv(o[1]), on_recv(o[2]), on_recv(o[3])); });
        ended.wait();
    });
}

// runtime: TestPseudoRandomSend, for each size of the buffer.
TEST_P(go_scenarios, two_ready_sends_alternate_at_random) {
    run([] {
        constexpr int n = 400;
        for (std::size_t capacity : {0u, 100u}) {
            chan<int> c(capacity);
            std::vector<int> got(n);
            chan<void> ready;
            auto reader = mpg::spawn([&] {
                for (int& v : got) {
                    mpg::yield();
                    v = *c.recv();
                }
            });
            for (int i = 0; i < n; ++i) mpg::select(on_send(c, 0), on_send(c, 1));
            reader.join();
            int ones = 0, changes = 0;
            for (int i = 0; i < n; ++i) {
                ones += got[static_cast<std::size_t>(i)];
                changes += i > 0 && got[static_cast<std::size_t>(i)] != got[static_cast<std::size_t>(i - 1)];
            }
            EXPECT_NEAR(ones, n / 2, 100); // 10 standard deviations
            EXPECT_NEAR(changes, n / 2, 100);
        }
    });
}

// sync: TestCondBroadcast, TestRace and TestCondSignalStealing.
TEST_P(go_scenarios, broadcast_reaches_all_of_every_round) {
    run([] {
        constexpr int n = 50;
        mpg::mutex m;
        mpg::condition_variable cv;
        chan<int> running(n), awake(n);
        bool over = false;
        for (int i = 0; i < n; ++i)
            mpg::go([&, i] {
                std::unique_lock lock(m);
                while (!over) {
                    running.send(i);
                    cv.wait(lock);
                    awake.send(i);
                }
            });
        for (int round = 0; round < 20; ++round) {
            for (int i = 0; i < n; ++i)
                (void)running.recv(); // all wait, or hold the mutex on their way to it
            std::unique_lock lock(m);
            over = round == 19;
            EXPECT_EQ(awake.size(), 0u);
            cv.notify_all();
            lock.unlock();
            std::vector<bool> seen(n);
            for (int i = 0; i < n; ++i) {
                auto who = static_cast<std::size_t>(*awake.recv());
                EXPECT_FALSE(seen[who]);
                seen[who] = true;
            }
        }
    });
}

TEST_P(go_scenarios, a_signal_is_not_stolen_by_one_who_comes_later) {
    run([] {
        for (std::size_t i = 0; i < mpg::test::scaled(500); ++i) {
            mpg::mutex m;
            mpg::condition_variable cv;
            chan<void> waiting(1);
            auto first = mpg::spawn([&] {
                std::unique_lock lock(m);
                waiting.send();
                cv.wait(lock);
            });
            (void)waiting.recv();
            m.lock();
            m.unlock();
            bool ready = false;
            auto polls = mpg::spawn([&] {
                std::unique_lock lock(m);
                cv.wait(lock, [&] { return ready; });
            });
            m.lock();
            m.unlock();
            cv.notify_one(); // for the first
            {
                std::unique_lock lock(m);
                ready = true;
                cv.notify_all();
            }
            first.join();
            polls.join();
        }
    });
}

// context: TestSimultaneousCancels, TestInterlockedCancels, TestLayersCancel and TestLayersTimeout.
TEST_P(go_scenarios, many_contexts_cancelled_at_once) {
    run([] {
        auto root = mpg::with_cancel(context::background());
        std::vector<mpg::cancel_context> all;
        all.push_back(mpg::with_cancel(root));
        for (int i = 0; i < 100; ++i) { // children of every other one
            auto child = mpg::with_cancel(all[static_cast<std::size_t>(i) / 2]);
            all.push_back(std::move(child));
        }
        mpg::wait_group ended;
        for (auto& c : all) {
            ended.go([&] { c.cancel(); });
            ended.go([&] { (void)c.done().recv(); });
        }
        ended.go([&] { root.cancel(); });
        ended.wait();
        for (auto& c : all) EXPECT_EQ(c.err(), mpg::errc::cancelled);
    });
}

TEST_P(go_scenarios, parent_and_child_cancel_each_other_crosswise) {
    run([] {
        for (std::size_t i = 0; i < mpg::test::scaled(500); ++i) {
            auto parent = mpg::with_cancel(context::background());
            auto child = mpg::with_cancel(parent);
            auto a = mpg::spawn([&] {
                parent.cancel();
                (void)child.done().recv();
            });
            auto b = mpg::spawn([&] {
                child.cancel();
                (void)parent.done().recv();
            });
            a.join();
            b.join();
        }
    });
}

template <int N> struct key { using type = int; };

TEST_P(go_scenarios, layers_of_contexts) {
    run([] {
        std::mt19937_64 random(mpg::test::seed());
        for (bool timeout : {false, true})
            for (int round = 0; round < 10; ++round) {
                std::vector<mpg::cancel_context> owners;
                context top = context::background();
                std::optional<int> value;
                for (int layer = 0; layer < 100; ++layer) {
                    switch (random() % 3) {
                    case 0:
                        value = layer;
                        top = mpg::with_value<key<0>>(top, layer);
                        break;
                    case 1:
                        owners.push_back(mpg::with_cancel(top));
                        top = owners.back();
                        break;
                    default:
                        owners.push_back(mpg::with_timeout(
                            top, timeout ? 5ms + std::chrono::milliseconds(random() % 20) : 1h));
                        top = owners.back();
                    }
                }
                if (owners.empty()) continue;
                if (value) {
                    EXPECT_EQ(*top.value<key<0>>(), *value);
                }
                EXPECT_EQ(top.value<key<1>>(), nullptr);
                bool has_deadline = top.deadline().has_value();
                if (timeout && has_deadline) {
                    (void)top.done().recv();
                    EXPECT_EQ(top.err(), mpg::errc::deadline_exceeded);
                } else {
                    EXPECT_FALSE(top.is_done());
                    std::size_t at = random() % owners.size();
                    owners[at].cancel();
                    for (std::size_t i = 0; i < owners.size(); ++i) EXPECT_EQ(owners[i].is_done(), i >= at);
                    EXPECT_EQ(top.err(), mpg::errc::cancelled);
                }
                if (value) {
                    EXPECT_EQ(*top.value<key<0>>(), *value); // done or not
                }
            }
    });
}

// context: TestCancelRemoves, TestChildFinishesFirst. A parent keeps nothing of a child that has gone.
TEST(go_scenarios, a_parent_forgets_its_children) {
    struct held {
        using type = std::shared_ptr<int>;
    };
    auto parent = mpg::with_cancel(context::background());
    auto token = std::make_shared<int>(1);
    for (int i = 0; i < 1000; ++i) {
        auto child = mpg::with_cancel(mpg::with_value<held>(parent, token));
        auto grandchild = mpg::with_cancel(child);
        if (i % 2) grandchild.cancel();
        EXPECT_FALSE(child.is_done());
    }
    EXPECT_EQ(token.use_count(), 1);
    EXPECT_FALSE(parent.is_done());
}

// time: TestAfterStress, TestTimerStopStress, TestSleepZeroDeadlock, TestZeroTimer, TestAdjustTimers.
TEST_P(go_scenarios, timers_beside_sleepers_and_yielders) {
    run([] {
        std::atomic<bool> stop = false;
        auto busy = mpg::spawn([&] {
            while (!stop) {
                std::vector<std::unique_ptr<int>> garbage;
                for (int i = 0; i < 10; ++i) garbage.push_back(std::make_unique<int>(i));
                mpg::sleep_for(100us); // others get the P in between
            }
        });
        auto zero = mpg::spawn([&] {
            while (!stop) {
                mpg::sleep_for(0ns);
                mpg::sleep_for(-1ns);
                mpg::yield();
            }
        });
        for (int i = 0; i < 50; ++i) {
            auto func = mpg::after_func(1h, [] { ADD_FAILURE() << "was stopped"; });
            mpg::timer t(1ms);
            EXPECT_TRUE(t.c().recv().has_value());
            EXPECT_TRUE(func.stop());
        }
        for (int i = 0; i < 1000; ++i) EXPECT_TRUE(mpg::timer(0ns).c().recv().has_value());
        stop = true;
        busy.join();
        zero.join();
    });
}

TEST_P(go_scenarios, timers_that_are_put_off_and_brought_forward_at_random) {
    run([] {
        mpg::wait_group ended;
        for (unsigned t = 0; t < 8; ++t)
            ended.go([t, seed = mpg::test::seed()] {
                std::mt19937_64 random(seed + t);
                std::vector<mpg::timer> timers;
                for (int i = 0; i < 20; ++i) timers.emplace_back(10s);
                for (int i = 0; i < 200; ++i) {
                    auto& one = timers[random() % timers.size()];
                    switch (random() % 4) {
                    case 0:
                        one.reset(std::chrono::milliseconds(random() % 20));
                        break;
                    case 1:
                        one.stop();
                        break;
                    case 2:
                        mpg::sleep_for(std::chrono::microseconds(random() % 300));
                        break;
                    default:
                        (void)one.reset(1us);
                        EXPECT_TRUE(one.c().recv().has_value());
                    }
                }
                for (auto& each : timers) {
                    each.stop();
                    EXPECT_EQ(each.c().size(), 0u);
                }
            });
        ended.wait();
    });
}

// time: TestOverflowSleep, TestTeardown.
TEST_P(go_scenarios, far_deadlines_and_tickers_that_come_and_go) {
    run([] {
        constexpr auto most = std::chrono::nanoseconds::max();
        auto early = mpg::after(25ms);
        EXPECT_EQ(mpg::select(on_recv(mpg::after(most)), on_recv(mpg::after(most - 1ns)), on_recv(early)),
                  2u);
        EXPECT_TRUE(mpg::after(std::chrono::nanoseconds::min()).recv().has_value());
        for (int i = 0; i < 5; ++i) {
            mpg::ticker t(2ms);
            EXPECT_TRUE(t.c().recv().has_value());
            t.stop();
        }
    });
}

} // namespace
