// A hammer on the sleep and wake protocol: Ps run out of work at random moments, plain threads send, timers
// fire, and each message is the only thing that keeps its loop alive. One lost wake-up and a loop stands
// still for ever.
//
// $MPG_TEST_SECONDS: how long each goes on (2 by default); minutes of it are worth their time.
//
// ctest: label:concurrent
// ctest: timeout:600
#include "support.hpp"

#include <mpg/chan.hpp>
#include <mpg/select.hpp>
#include <mpg/sync.hpp>
#include <mpg/time.hpp>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace std::chrono_literals;
using clock_type = std::chrono::steady_clock;

/// Nothing, a short spin, or a short sleep of the thread: so that the Ps are caught in each stage of going
/// idle.
void random_pause(std::minstd_rand& random) {
    switch (random() % 4) {
    case 0:
        return;
    case 1:
        return std::this_thread::yield();
    case 2:
        for (auto end = clock_type::now() + std::chrono::microseconds(random() % 120);
             clock_type::now() < end;) {
        }
        return;
    default:
        return std::this_thread::sleep_for(std::chrono::microseconds(random() % 250));
    }
}

struct lost_wakeup : mpg::test::with_procs {
    std::atomic<bool> on_{true};
    std::vector<std::atomic<unsigned long>> progress_ = std::vector<std::atomic<unsigned long>>(64);

    static std::chrono::seconds length() {
        const char* given = std::getenv("MPG_TEST_SECONDS");
        return std::chrono::seconds(given ? std::atoi(given) : 2);
    }

    /// Lets the loops run, and ends the process with a message when one of the first n makes no progress for
    /// 30 s: there is no way on from there.
    void watch(std::size_t n) {
        std::vector<unsigned long> last(n, 0);
        std::vector<clock_type::time_point> since(n, clock_type::now());
        const auto end = clock_type::now() + length();
        while (clock_type::now() < end) {
            std::this_thread::sleep_for(10ms);
            for (std::size_t i = 0; i < n; ++i) {
                if (unsigned long now = progress_[i]; now != last[i]) {
                    last[i] = now;
                    since[i] = clock_type::now();
                } else if (clock_type::now() - since[i] > 30s) {
                    std::fprintf(stderr, "stalled: loop %zu after %lu rounds, procs %u, seed %llu\n", i, now,
                                 procs(), static_cast<unsigned long long>(mpg::test::seed()));
                    std::abort();
                }
            }
        }
        on_ = false;
        for (std::size_t i = 0; i < n; ++i) EXPECT_GT(progress_[i], 0u) << "loop " << i;
    }
    std::minstd_rand random(std::size_t i) const {
        return std::minstd_rand(static_cast<unsigned>(mpg::test::seed() + i * 7919));
    }
    mpg::options with_my_procs() const {
        mpg::options o;
        o.procs = procs();
        return o;
    }
};
MPG_TEST_PROCS(lost_wakeup);

TEST_P(lost_wakeup, of_messages_from_plain_threads) {
    mpg::runtime rt(with_my_procs());
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < 3; ++i) {
        mpg::chan<int> there(i), back; // unbuffered, and buffered
        rt.go([there, back] {
            while (auto v = there.recv()) back.send(*v);
            back.close();
        });
        threads.emplace_back([this, i, there, back] {
            auto rnd = random(i);
            for (int k = 0; on_; ++k) {
                there.send(k);
                if (back.recv() != k) std::abort();
                ++progress_[i];
                random_pause(rnd);
            }
            there.close();
            back.recv();
        });
    }
    watch(3);
    for (auto& t : threads) t.join();
}

TEST_P(lost_wakeup, of_tasks_from_plain_threads) {
    mpg::runtime rt(with_my_procs());
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < 3; ++i) {
        threads.emplace_back([this, i, &rt] {
            auto rnd = random(i);
            while (on_) {
                if (rt.spawn([] { return 1; }).join() != 1) std::abort();
                ++progress_[i];
                random_pause(rnd);
            }
        });
    }
    watch(3);
    for (auto& t : threads) t.join();
}

TEST_P(lost_wakeup, of_timers) {
    mpg::runtime rt(with_my_procs());
    std::vector<mpg::task<void>> loops;
    for (std::size_t i = 0; i < 8; ++i) {
        loops.push_back(rt.spawn([this, i] {
            auto rnd = random(i);
            while (on_) {
                mpg::sleep_for(std::chrono::microseconds(rnd() % 400));
                ++progress_[i];
                if (rnd() % 8 == 0) mpg::after(std::chrono::microseconds(rnd() % 200)).recv();
            }
        }));
    }
    watch(8);
    for (auto& t : loops) t.join();
}

TEST_P(lost_wakeup, of_sooner_timers) {
    // A P may be asleep until a far deadline when a nearer one is set, by it or by others.
    mpg::runtime rt(with_my_procs());
    mpg::chan<int> requests;
    std::vector<mpg::task<void>> loops;
    loops.push_back(rt.spawn([this] {
        while (on_) mpg::sleep_for(50ms);
    }));
    loops.push_back(rt.spawn([this, requests] {
        while (auto v = requests.recv()) {
            mpg::sleep_for(std::chrono::microseconds(*v));
            ++progress_[0];
        }
    }));
    std::thread asker([this, requests] {
        auto rnd = random(0);
        while (on_) {
            requests.send(static_cast<int>(rnd() % 300));
            random_pause(rnd);
        }
        requests.close();
    });
    watch(1);
    asker.join();
    for (auto& t : loops) t.join();
}

TEST_P(lost_wakeup, of_tasks_that_wake_each_other) {
    mpg::runtime rt(with_my_procs());
    std::vector<mpg::task<void>> loops;
    for (std::size_t pair = 0; pair < 6; ++pair) {
        mpg::chan<int> there, back;
        loops.push_back(rt.spawn([there, back, this, pair] {
            auto rnd = random(100 + pair);
            while (there.recv()) {
                if (rnd() % 64 == 0) mpg::sleep_for(std::chrono::microseconds(rnd() % 100));
                back.send(0);
            }
        }));
        loops.push_back(rt.spawn([there, back, this, pair] {
            auto rnd = random(pair);
            while (on_) {
                there.send(1);
                back.recv();
                ++progress_[pair];
                if (rnd() % 32 == 0) random_pause(rnd); // a P that is away for a moment
                if (rnd() % 32 == 0) mpg::blocking([&] { random_pause(rnd); });
            }
            there.close();
        }));
    }
    watch(6);
    for (auto& t : loops) t.join();
}

TEST_P(lost_wakeup, of_bursts_that_spread_over_all_ps) {
    mpg::runtime rt(with_my_procs());
    std::thread burster([this, &rt] {
        auto rnd = random(0);
        while (on_) {
            const int n = 1 + static_cast<int>(rnd() % 40);
            mpg::wait_group ended;
            ended.add(n);
            rt.go([n, &ended] {
                for (int k = 0; k < n; ++k) {
                    mpg::go([&ended, k] {
                        if (k % 3 == 0) mpg::yield();
                        if (k % 7 == 0) mpg::sleep_for(10us);
                        ended.done();
                    });
                }
            });
            ended.wait();
            ++progress_[0];
            random_pause(rnd);
        }
    });
    watch(1);
    burster.join();
}

TEST_P(lost_wakeup, of_everything_together) {
    mpg::runtime rt(with_my_procs());
    mpg::chan<int> work(4);
    mpg::chan<void> stop;
    mpg::mutex m;
    mpg::condition_variable cv;
    std::size_t waiting_round = 0;
    std::vector<mpg::task<void>> loops;
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < 4; ++i) { // workers: select of channel, timer, end
        loops.push_back(rt.spawn([=, this] {
            auto rnd = random(i);
            for (bool on = true; on;) {
                mpg::select(mpg::on_recv(work, [](auto) {}),
                            mpg::on_timeout(std::chrono::microseconds(rnd() % 300), [] {}),
                            mpg::on_recv(stop, [&](bool) { on = false; }));
                ++progress_[i];
            }
        }));
    }
    for (std::size_t i = 4; i < 6; ++i) { // plain threads and tasks under one mutex
        threads.emplace_back([&, i] {
            auto rnd = random(i);
            while (on_) {
                int v = 0;
                work.send_for(v, 200us);
                {
                    std::lock_guard guard(m);
                    ++waiting_round;
                    cv.notify_one();
                }
                ++progress_[i];
                random_pause(rnd);
            }
        });
        loops.push_back(rt.spawn([&, i] {
            std::unique_lock lock(m);
            while (on_) {
                cv.wait(lock, [&, seen = waiting_round] { return waiting_round != seen || !on_; });
                ++progress_[i + 2];
            }
        }));
    }
    watch(8);
    stop.close();
    for (auto& t : threads) t.join();
    {
        std::lock_guard guard(m);
        cv.notify_all();
    }
    for (auto& t : loops) t.join();
}

} // namespace
