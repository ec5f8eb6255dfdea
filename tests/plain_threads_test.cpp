// Plain threads beside tasks, on channels and on everything else: there the OS thread waits.
//
// ctest: label:concurrent
#include "crew.hpp"
#include "support.hpp"

#include <mpg/chan.hpp>
#include <mpg/context.hpp>
#include <mpg/select.hpp>
#include <mpg/sync.hpp>
#include <mpg/time.hpp>

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <thread>
#include <vector>

namespace {

using mpg::chan;
using mpg::chan_status;
using mpg::on_recv;
using mpg::on_send;
using namespace std::chrono_literals;

struct chan_threads : mpg::test::with_procs {};
MPG_TEST_PROCS(chan_threads);

TEST(chan_threads_alone, meet_without_a_runtime) {
    for (std::size_t cap : {0u, 1u, 10u}) {
        chan<std::string> c(cap);
        std::thread sender([c] {
            for (int i = 0; i < 2000; ++i) c.send(std::to_string(i));
            c.close();
        });
        int n = 0;
        for (auto& s : c) EXPECT_EQ(s, std::to_string(n++));
        EXPECT_EQ(n, 2000);
        sender.join();
    }
}

TEST(chan_threads_alone, select_without_a_runtime) {
    chan<int> a, b;
    chan<void> done;
    std::thread peer([=] {
        for (int i = 0; i < 1000; ++i) mpg::select(on_send(a, 1), on_send(b, 2));
        done.close();
    });
    int n = 0;
    for (bool going = true; going;)
        mpg::select(on_recv(a, [&](auto) { ++n; }), on_recv(b, [&](auto) { ++n; }),
                    on_recv(done, [&](bool) { going = false; }));
    EXPECT_EQ(n, 1000);
    peer.join();
}

TEST(chan_threads_alone, timed_waits_need_no_runtime) {
    chan<int> c;
    int v = 0;
    EXPECT_EQ(c.recv_for(v, 1ms), chan_status::timeout);
    EXPECT_EQ(c.send_for(v, 1ms), chan_status::timeout);
    EXPECT_EQ(mpg::select(on_recv(c), mpg::on_timeout(1ms)), 1u);
    EXPECT_EQ(mpg::select(mpg::on_timeout(1ms)), 0u);
    EXPECT_EQ(c.try_send(v), chan_status::full); // and leaves nothing in the queue
    EXPECT_EQ(c.recv_for(v, 0ms), chan_status::timeout);
    std::thread sender([c] { c.send(3); });
    EXPECT_EQ(c.recv_for(v, 1h), chan_status::ok);
    EXPECT_EQ(v, 3);
    sender.join();
}

TEST(chan_threads_alone, timed_waits_outlive_the_runtime) {
    auto rt = std::make_unique<mpg::runtime>(mpg::options{.procs = 2});
    chan<void> comes;
    std::atomic<bool> gone = false;
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i)
        threads.emplace_back([comes, i, &gone] {
            chan<int> c;
            int v = 0;
            comes.send();
            while (!gone) // what is under way when the runtime ends, comes to its end, too
                i % 2 ? void(c.recv_for(v, 20ms)) : void(mpg::select(on_recv(c), mpg::on_timeout(20ms)));
        });
    for (std::size_t i = 0; i < threads.size(); ++i) comes.recv();
    rt.reset();
    gone = true;
    for (auto& t : threads) t.join();
}

TEST_P(chan_threads, both_directions) {
    run([] {
        for (std::size_t cap : {0u, 3u}) {
            chan<int> to_thread(cap), to_task(cap);
            std::thread t([=] {
                for (int v : to_thread) to_task.send(v * 2);
                to_task.close();
            });
            for (int i = 0; i < 500; ++i) {
                to_thread.send(i);
                EXPECT_EQ(to_task.recv(), 2 * i);
            }
            to_thread.close();
            EXPECT_EQ(to_task.recv(), std::nullopt);
            mpg::blocking([&] { t.join(); });
        }
    });
}

TEST_P(chan_threads, timed_and_selecting_threads) {
    run([] {
        chan<int> c, nil = nullptr;
        std::atomic<long> got{0};
        std::vector<std::thread> threads;
        for (int k = 0; k < 2; ++k)
            threads.emplace_back([&, k] {
                for (;;) {
                    int v = 0;
                    chan_status s = chan_status::timeout;
                    if (k == 0)
                        s = c.recv_for(v, 50us);
                    else
                        mpg::select(on_recv(c,
                                            [&](std::optional<int> x) {
                                                s = x ? chan_status::ok : chan_status::closed;
                                                v = x.value_or(0);
                                            }),
                                    on_recv(nil), mpg::on_timeout(50us));
                    if (s == chan_status::closed) return;
                    if (s == chan_status::ok) got += v;
                }
            });
        long sent = 0;
        for (int i = 0; i < 2000; ++i) {
            c.send(i);
            sent += i;
        }
        c.close();
        mpg::blocking([&] {
            for (auto& t : threads) t.join();
        });
        EXPECT_EQ(got, sent);
    });
}

TEST_P(chan_threads, many_threads_and_tasks) {
    run([] {
        chan<int> c(4);
        std::atomic<long> sent{0}, got{0};
        std::atomic<int> senders{6};
        auto send = [&, c](int id) {
            for (int i = 0; i < 400; ++i) {
                c.send(id * 1000 + i);
                sent += id * 1000 + i;
            }
            if (--senders == 0) c.close();
        };
        auto recv = [&, c] {
            for (int v : c) got += v;
        };
        std::vector<std::thread> threads;
        std::vector<mpg::task<void>> tasks;
        for (int i = 0; i < 3; ++i) {
            threads.emplace_back(send, i);
            threads.emplace_back(recv);
            tasks.push_back(mpg::spawn(send, 10 + i));
            tasks.push_back(mpg::spawn(recv));
        }
        for (auto& t : tasks) t.join();
        mpg::blocking([&] {
            for (auto& t : threads) t.join();
        });
        EXPECT_EQ(sent, got);
    });
}

// ---- every primitive at once from plain threads and from tasks

struct threads_and_tasks : mpg::test::with_procs {
    static constexpr unsigned each = 3; // of both kinds

    template <class F> void crew(F work) { mpg::test::crew(each, work); }
};
MPG_TEST_PROCS(threads_and_tasks);

const long rounds = static_cast<long>(mpg::test::scaled(4000));

TEST_P(threads_and_tasks, exclude_each_other) {
    run([&] {
        mpg::mutex m;
        mpg::shared_mutex s;
        long count = 0, a = 0, b = 0;
        crew([&](unsigned) {
            for (long i = 0; i < rounds; ++i) {
                if (i % 8 == 0) {
                    while (!m.try_lock_for(20us)) {
                    }
                } else {
                    m.lock();
                }
                ++count;
                m.unlock();
                if (i % 4 == 0) {
                    std::lock_guard writes(s);
                    ++a, ++b;
                } else {
                    std::shared_lock reads(s);
                    EXPECT_EQ(a, b);
                }
            }
        });
        EXPECT_EQ(count, 2 * each * rounds);
        EXPECT_EQ(a, 2 * each * ((rounds + 3) / 4));
    });
}

TEST_P(threads_and_tasks, wait_for_conditions_of_each_other) {
    run([&] {
        mpg::mutex m;
        mpg::condition_variable not_empty, not_full;
        long held = 0, most = 0, taken = 0;
        crew([&](unsigned index) {
            for (long i = 0; i < rounds; ++i) {
                std::unique_lock lock(m);
                if (index / 2 % 2 == 0) { // two threads and two tasks put; one of each takes for two
                    not_full.wait(lock, [&] { return held < 4; });
                    most = std::max(most, ++held);
                    not_empty.notify_one();
                    continue;
                }
                for (int k = 0; k < 2; ++k) {
                    while (held == 0) (void)not_empty.wait_for(lock, 1ms);
                    --held, ++taken;
                    not_full.notify_one();
                }
            }
        });
        EXPECT_EQ(held, 0);
        EXPECT_LE(most, 4);
        EXPECT_EQ(taken, 4 * rounds);
    });
}

TEST_P(threads_and_tasks, share_places) {
    run([&] {
        mpg::semaphore places(2);
        std::atomic<int> inside{0}, refused{0};
        const auto gone = mpg::with_cancel(mpg::context::background());
        crew([&](unsigned index) {
            for (long i = 0; i < rounds; ++i) {
                if (index < 2) { // gives up now and then
                    if (places.acquire(mpg::with_timeout(gone, 10us))) {
                        ++refused;
                        continue;
                    }
                } else {
                    places.acquire();
                }
                EXPECT_LE(++inside, 2);
                if (i % 16 == 0 && mpg::this_task::inside()) mpg::yield();
                --inside;
                places.release();
            }
        });
        EXPECT_TRUE(places.try_acquire(2));
    });
}

TEST_P(threads_and_tasks, meet) {
    run([&] {
        const long phases = rounds / 4;
        mpg::barrier<> phase(2 * each);
        std::vector<std::atomic<int>> seen(static_cast<std::size_t>(phases));
        std::vector<std::unique_ptr<mpg::once>> once;
        std::vector<std::unique_ptr<mpg::latch>> latches;
        std::vector<int> made(seen.size()); // guarded by its once
        for (std::size_t i = 0; i < seen.size(); ++i) {
            once.push_back(std::make_unique<mpg::once>());
            latches.push_back(std::make_unique<mpg::latch>(2 * each));
        }
        crew([&](unsigned) {
            for (std::size_t i = 0; i < seen.size(); ++i) {
                once[i]->call([&] {
                    if (i % 8 == 0 && mpg::this_task::inside()) mpg::yield();
                    ++made[i];
                });
                EXPECT_EQ(made[i], 1);
                ++seen[i];
                phase.arrive_and_wait();
                EXPECT_EQ(seen[i], static_cast<int>(2 * each));
                latches[i]->arrive_and_wait();
            }
        });
    });
}

TEST_P(threads_and_tasks, end_each_others_waits) {
    run([&] {
        // Each in turn makes a context, the others wait for its end in each way there is.
        for (unsigned turn = 0; turn < 2 * each; ++turn) {
            auto ctx = mpg::with_cancel(mpg::context::background());
            mpg::wait_group waiting;
            waiting.add(2 * each - 1);
            std::atomic<unsigned> ended{0};
            chan<int> never;
            mpg::semaphore none(0);
            crew([&](unsigned index) {
                if (index == turn) {
                    waiting.wait();
                    ctx.cancel();
                    return;
                }
                waiting.done();
                int v = 0;
                if (index % 3 == 0)
                    EXPECT_EQ(never.recv(ctx, v), chan_status::cancelled);
                else if (index % 3 == 1)
                    EXPECT_EQ(none.acquire(ctx), mpg::errc::cancelled);
                else
                    EXPECT_EQ(mpg::select(on_recv(never), mpg::on_done(ctx)), 1u);
                ++ended;
            });
            EXPECT_EQ(ended, 2 * each - 1);
        }
    });
}

TEST_P(threads_and_tasks, stop_and_reset_each_others_timers) {
    run([&] {
        std::atomic<int> called{0}, pending{0};
        for (int i = 0; i < 20; ++i) {
            mpg::timer shared(50us);
            crew([&](unsigned index) {
                if (index < 2) {
                    shared.reset(std::chrono::microseconds(10 * index));
                    shared.stop();
                } else if (index < 4) {
                    mpg::after(std::chrono::microseconds(20)).recv();
                } else {
                    auto f = mpg::after_func(20us, [&] { ++called; });
                    if (index == 5) mpg::sleep_for(20us);
                    if (f.stop()) ++pending;
                }
            });
            shared.reset(0us);
            EXPECT_TRUE(shared.c().recv());
        }
        EXPECT_TRUE(mpg::test::eventually([&] { return called + pending == 40; })) << called << ' ' << pending;
    });
}

TEST_P(threads_and_tasks, select_from_each_other) {
    run([&] {
        chan<long> a, b(2);
        std::atomic<long> sent{0}, got{0};
        std::atomic<unsigned> senders{4};
        crew([&](unsigned index) {
            if (index >= 2) { // two threads and two tasks send
                for (long i = 1; i <= rounds; ++i) {
                    mpg::select(on_send(a, i), on_send(b, i));
                    sent += i;
                }
                if (--senders == 0) a.close(), b.close();
                return;
            }
            chan<long> from_a = a, from_b = b; // nil when it is closed and drained
            auto take = [&](chan<long>& from) {
                return [&](std::optional<long> v) {
                    if (v)
                        got += *v;
                    else
                        from = nullptr;
                };
            };
            while (from_a != nullptr || from_b != nullptr)
                mpg::select(on_recv(from_a, take(from_a)), on_recv(from_b, take(from_b)));
        });
        EXPECT_EQ(got, sent);
    });
}

TEST_P(threads_and_tasks, wait_for_groups_of_each_other) {
    run([&] {
        for (long i = 0; i < rounds / 40; ++i) {
            mpg::wait_group all;
            all.add(2 * each);
            std::atomic<unsigned> waits{0};
            std::atomic<long> started{0};
            crew([&](unsigned index) {
                all.go([&] { ++started; }); // a thread's, too, runs as a task
                all.done();
                if (index % 3 == 0) all.wait();
                if (index % 3 != 0 || started == static_cast<long>(2 * each)) ++waits;
            });
            all.wait();
            EXPECT_EQ(waits, 2 * each);
            EXPECT_EQ(started, static_cast<long>(2 * each));
        }
    });
}

TEST_P(threads_and_tasks, join_what_the_other_has_started) {
    run([&] {
        chan<mpg::task<long>> by_threads(1), by_tasks(1);
        std::atomic<long> sum{0};
        std::atomic<unsigned> threads_left{2}, tasks_left{2};
        crew([&](unsigned index) {
            const bool is_thread = index % 2 == 0;
            if (index < 4) { // two threads and two tasks start; one of each joins
                for (long i = 0; i < rounds / 4; ++i)
                    (is_thread ? by_threads : by_tasks).send(mpg::spawn([i] {
                        if (i % 4 == 0) mpg::yield();
                        return i;
                    }));
                if (--(is_thread ? threads_left : tasks_left) == 0) (is_thread ? by_threads : by_tasks).close();
                return;
            }
            while (auto t = (is_thread ? by_tasks : by_threads).recv()) sum += t->join();
        });
        EXPECT_EQ(sum, 4 * (rounds / 4) * (rounds / 4 - 1) / 2);
    });
}

TEST_P(threads_and_tasks, pass_through_what_grows_and_wait_for_many) {
    run([&] {
        mpg::elastic_chan<long> grows({.low = 4, .high = 16, .max = 64});
        chan<long> fixed(1);
        std::atomic<long> sent{0}, got{0};
        std::atomic<unsigned> senders{4};
        crew([&](unsigned index) {
            if (index >= 2) { // two threads and two tasks send
                for (long i = 1; i <= rounds / 4; ++i) {
                    if (i % 2)
                        grows.send(i);
                    else
                        fixed.send(i);
                    sent += i;
                }
                if (--senders == 0) grows.close(), fixed.close();
                return;
            }
            bool more = true;
            mpg::select_set either;
            either.recv(fixed, [&](std::optional<long> v) {
                got += v.value_or(0);
                more = v.has_value();
            });
            either.timeout(20us, [] {});
            while (more) {
                either.wait();
                mpg::elastic_item<long> item;
                if (grows.recv_for(item, 0us) == chan_status::ok) got += item.value;
            }
            while (auto item = grows.recv()) got += item->value;
        });
        EXPECT_EQ(got, sent);
    });
}

TEST_P(threads_and_tasks, take_from_one_pool) {
    run([&] {
        std::atomic<int> made{0};
        mpg::pool<std::unique_ptr<std::atomic<int>>> slots([&] {
            ++made;
            return std::make_unique<std::atomic<int>>(0);
        });
        std::atomic<int> shared{0};
        crew([&](unsigned index) {
            for (long i = 0; i < rounds; ++i) {
                auto one = slots.get();
                shared += (*one)->fetch_add(1) != 0; // somebody else has it, too
                if (i % 16 == 0 && index % 2 != 0) mpg::yield();
                (*one)->fetch_sub(1);
            }
        });
        EXPECT_EQ(shared, 0);
        EXPECT_LE(made, static_cast<int>(2 * each));
    });
}

// What a thread holds goes with it: by its own thread_locals, after it has waited as a stand-in for a task.
TEST_P(threads_and_tasks, threads_end_with_their_hands_full) {
    run([&] {
        for (int i = 0; i < 20; ++i) {
            chan<int> c, back;
            auto ctx = mpg::with_cancel(mpg::context::background());
            std::atomic<bool> fired{false};
            std::thread holds([&] {
                static thread_local chan<int> last_of_thread(nullptr);
                static thread_local std::unique_ptr<mpg::timer> timer;
                static thread_local std::unique_ptr<mpg::cancel_context> child;
                static thread_local mpg::task<int> unjoined;
                last_of_thread = chan<int>(1);
                last_of_thread.send(1);
                timer = std::make_unique<mpg::timer>(1h);
                child = std::make_unique<mpg::cancel_context>(mpg::with_timeout(ctx, 1h));
                (void)mpg::after_func(10us, [&] { fired = true; });
                EXPECT_EQ(c.recv(), i); // waits
                back.send(i);
            });
            c.send(i);
            EXPECT_EQ(back.recv(), i);
            mpg::blocking([&] { holds.join(); });
            EXPECT_TRUE(mpg::test::eventually([&] { return fired.load(); }));
        }
    });
}

} // namespace
