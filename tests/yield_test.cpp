// yield, and fairness without it: who runs must let the others, the timers and the fresh tasks have their
// turn.
//
// ctest: label:concurrent
#include "support.hpp"

#include <mpg/chan.hpp>
#include <mpg/select.hpp>
#include <mpg/sync.hpp>
#include <mpg/time.hpp>

#include <atomic>
#include <ctime>
#include <string>
#include <vector>

namespace {

using namespace std::chrono_literals;

struct yield : mpg::test::with_procs {};
MPG_TEST_PROCS(yield);

TEST(yield_order, goes_to_the_back_of_the_queue) {
    std::string turns;
    mpg::test::run_with_procs(1, [&] {
        mpg::wait_group ended;
        for (char name : {'a', 'b', 'c'}) {
            ended.go([&turns, name] {
                for (int i = 0; i < 10; ++i) {
                    turns += name;
                    mpg::yield();
                }
            });
        }
        ended.wait();
    });
    ASSERT_EQ(turns.size(), 30u);
    for (std::size_t i = 3; i < turns.size(); ++i) EXPECT_EQ(turns[i], turns[i - 3]) << turns;
}

TEST(yield_order, returns_when_there_is_nobody_else) {
    mpg::test::run_with_procs(1, [] {
        for (int i = 0; i < 1000; ++i) mpg::yield();
    });
}

TEST(yield_order, is_harmless_on_a_plain_thread) { mpg::yield(); }

TEST_P(yield, lets_a_waiting_sender_through) {
    for (bool locked : {false, true}) {
        run([locked] {
            mpg::chan<void> stop, stopped;
            mpg::go([=] {
                std::optional<mpg::thread_lock> lock;
                if (locked) lock.emplace();
                for (bool on = true; on;)
                    mpg::select(mpg::on_recv(stop,
                                             [&](bool) {
                                                 stopped.send();
                                                 on = false;
                                             }),
                                mpg::otherwise([] { mpg::yield(); }));
            });
            mpg::sleep_for(5ms);
            stop.send();
            stopped.recv();
        });
    }
}

TEST_P(yield, many_tasks_make_progress_alike) {
    run([] {
        constexpr int tasks = 100, turns = 200;
        std::vector<std::atomic<int>> count(tasks);
        mpg::wait_group ended;
        for (int i = 0; i < tasks; ++i) {
            ended.go([&count, i] {
                for (int k = 0; k < turns; ++k) {
                    ++count[static_cast<std::size_t>(i)];
                    mpg::yield();
                }
            });
        }
        ended.wait();
        for (auto& c : count) EXPECT_EQ(c, turns);
    });
}

TEST_P(yield, tasks_that_start_themselves_again_starve_nobody) {
    run([] {
        struct again {
            std::atomic<bool>* on;
            mpg::wait_group* ended;
            void operator()() const {
                if (*on)
                    mpg::go(*this);
                else
                    ended->done();
            }
        };
        std::atomic<bool> on{true};
        mpg::wait_group ended;
        ended.add(4);
        for (int i = 0; i < 4; ++i) mpg::go(again{&on, &ended});
        for (int i = 0; i < 20; ++i) {
            mpg::sleep_for(100us);
            mpg::spawn([] {}).join();
            mpg::chan<int> c;
            mpg::go([c] { c.send(1); });
            EXPECT_EQ(c.recv(), 1);
        }
        on = false;
        ended.wait();
    });
}

TEST_P(yield, pairs_that_wake_each_other_starve_neither_tasks_nor_timers) {
    run([] {
        std::atomic<bool> on{true};
        mpg::wait_group ended;
        for (int pair = 0; pair < 2; ++pair) {
            mpg::chan<int> ping, pong;
            ended.go([&, ping, pong] {
                while (on) {
                    ping.send(1);
                    pong.recv();
                }
                ping.close();
            });
            ended.go([ping, pong] {
                while (ping.recv()) pong.send(1);
            });
        }
        int runs = 0;
        for (int i = 0; i < 20; ++i) {
            mpg::yield();
            runs += mpg::spawn([] { return 1; }).join();
        }
        EXPECT_EQ(runs, 20);
        mpg::sleep_for(1ms);
        on = false;
        ended.wait();
    });
}

// A timer must be served although channel operations always find something ready.
TEST_P(yield, timers_fire_beside_busy_channels) {
    run([] {
        mpg::chan<int> c;
        mpg::chan<void> done;
        mpg::wait_group ended;
        for (int i = 0; i < 2; ++i) {
            ended.go([c, done] {
                for (bool on = true; on;)
                    mpg::select(mpg::on_send(c, 1), mpg::on_recv(done, [&](bool) { on = false; }));
            });
        }
        auto timer = mpg::after(20ms);
        for (bool on = true; on;)
            mpg::select(mpg::on_recv(c, [](auto) {}), mpg::on_recv(timer, [&](auto) { on = false; }));
        done.close();
        ended.wait();
    });
}

TEST_P(yield, timers_fire_beside_tasks_that_serve_each_other) {
    run([] {
        mpg::chan<int> c;
        mpg::wait_group ended;
        for (int i = 0; i < 2; ++i) {
            ended.go([c] {
                auto timer = mpg::after(20ms);
                for (bool on = true; on;)
                    mpg::select(mpg::on_send(c, 1), mpg::on_recv(c, [](auto) {}),
                                mpg::on_recv(timer, [&](auto) { on = false; }));
            });
        }
        ended.wait();
    });
}

// Two pairs on one P: who hands over by runnext inherits the rest of the slice, so that the pair that works
// long between its hand-overs does not get a thousand times more than the other.
TEST(yield_slice, is_shared_by_tasks_that_hand_over_to_each_other) {
    long heavy = 0, light = 0;
    mpg::test::run_with_procs(1, [&] {
        mpg::chan<void> done, heavy_wake, light_wake;
        auto body = [done](long limit, long* count, mpg::chan<void> wake) {
            for (bool on = true; on;)
                mpg::select(mpg::on_recv(done, [&](bool) { on = false; }), mpg::on_recv(wake, [&](bool) {
                                for (long i = 0; i < limit; ++i) {
                                    ++*count;
                                    asm volatile("" ::: "memory");
                                }
                                mpg::select(mpg::on_send(wake),
                                            mpg::on_recv(done, [&](bool) { on = false; }));
                            }));
        };
        mpg::wait_group ended;
        const long much = static_cast<long>(mpg::test::scaled(1'000'000)); // a fraction of a slice
        for (int i = 0; i < 2; ++i) {
            ended.go([=, &heavy] { body(much, &heavy, heavy_wake); });
            ended.go([=, &light] { body(1'000, &light, light_wake); });
        }
        heavy_wake.send();
        light_wake.send();
        // As long as it takes to run for so long, whatever else this machine does.
        for (const std::clock_t until = std::clock() + CLOCKS_PER_SEC * 3 / 10; std::clock() < until;) mpg::sleep_for(10ms);
        done.close();
        ended.wait();
    });
    EXPECT_LT(heavy / 20, light);
    EXPECT_LT(light / 20, heavy);
}

// Tasks that wait for each other by spinning run only if all of them run at once, each on a P of its own.
TEST(yield_parallelism, all_runnable_tasks_run_at_once) {
    static constexpr unsigned tasks = 4;
    for (bool nested : {false, true}) {
        for (bool loaded : {false, true}) {
            mpg::test::run_with_procs(tasks, [=] {
                for (int round = 0; round < 5; ++round) {
                    if (loaded) { // all Ps have just been busy
                        std::atomic<unsigned> there{0};
                        mpg::wait_group ended;
                        for (unsigned p = 0; p < tasks; ++p) {
                            ended.go([&] {
                                ++there;
                                while (there != tasks) std::this_thread::yield();
                            });
                        }
                        ended.wait();
                    }
                    std::atomic<unsigned> turn{0};
                    mpg::wait_group ended;
                    auto body = [&turn](unsigned p) {
                        for (unsigned i = 0; i < 3; ++i) {
                            while (turn != tasks * i + p) std::this_thread::yield();
                            ++turn;
                        }
                    };
                    if (nested) {
                        for (unsigned p = 0; p < tasks; p += 2) {
                            ended.go([&ended, body, p] {
                                ended.go([body, p] { body(p); });
                                ended.go([body, p] { body(p + 1); });
                            });
                        }
                    } else {
                        for (unsigned p = 0; p < tasks; ++p) ended.go([body, p] { body(p); });
                    }
                    ended.wait();
                    EXPECT_EQ(turn, 3 * tasks);
                }
            });
        }
    }
}

// Two tasks that meet by spinning: neither may sit in a queue while a P has nothing to do.
TEST(yield_parallelism, no_task_waits_in_a_queue_while_a_p_is_idle) {
    mpg::test::run_with_procs(4, [] {
        const std::size_t rounds = mpg::test::scaled(5000);
        for (std::size_t i = 0; i < rounds; ++i) {
            std::atomic<int> met{0};
            auto body = [&met] {
                ++met;
                while (met < 2) std::this_thread::yield();
            };
            auto a = mpg::spawn(body), b = mpg::spawn(body);
            mpg::chan<void> both(2);
            auto first = a.done(), second = b.done();
            first.recv();
            second.recv();
        }
    });
}

TEST_P(yield, task_count_returns_to_where_it_was) {
    run([] {
        auto* rt = mpg::runtime::current();
        for (int round = 0; round < 20; ++round) {
            mpg::wait_group ended;
            for (int i = 0; i < 100; ++i) ended.go([] { mpg::yield(); });
            ended.wait();
        }
        EXPECT_TRUE(mpg::test::eventually([&] { return rt->stats().tasks == 1; }));
    });
}

} // namespace
