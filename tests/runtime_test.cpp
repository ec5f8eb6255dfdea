// run, runtime, its end, its statistics. What a stop finds: stop_test.cpp.
//
// ctest: label:concurrent
#include "support.hpp"

#include <mpg/chan.hpp>
#include <mpg/context.hpp>
#include <mpg/select.hpp>
#include <mpg/sync.hpp>
#include <mpg/time.hpp>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <mutex>
#include <optional>
#include <pthread.h>
#include <sched.h>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;

struct runtime_run : mpg::test::with_procs {};
MPG_TEST_PROCS(runtime_run);

/// A thread that has blocked all signals (as those that handle them do) may be the one that starts a machine.
TEST(runtime_machines, have_the_signal_mask_of_who_made_the_runtime) {
    for (int round = 0; round != 20; ++round) {
        mpg::run(mpg::options{.procs = 2}, [] {
            mpg::chan<void> wake;
            std::atomic<int> blocked{-1};
            mpg::go([&, wake]() mutable {
                wake.recv();
                ::sigset_t mask;
                ::pthread_sigmask(SIG_BLOCK, nullptr, &mask);
                blocked = ::sigismember(&mask, SIGUSR1);
            });
            mpg::yield(); // it waits
            std::thread sender([&] {
                ::sigset_t all;
                ::sigfillset(&all);
                ::pthread_sigmask(SIG_SETMASK, &all, nullptr);
                wake.send();
            });
            while (blocked < 0) { // this processor is busy, so that another one is needed
            }
            EXPECT_EQ(blocked, 0);
            sender.join();
        });
    }
}

TEST_P(runtime_run, returns_the_result_of_main) {
    EXPECT_EQ(run([] { return 42; }), 42);
    EXPECT_EQ(run([] { return std::string(1000, 'x'); }).size(), 1000u);
}

TEST_P(runtime_run, returns_a_move_only_result) {
    std::unique_ptr<int> result = run([] { return std::make_unique<int>(7); });
    EXPECT_EQ(*result, 7);
}

TEST_P(runtime_run, returns_references_as_references) {
    int x = 1;
    decltype(auto) result = run([&]() -> int& { return x; });
    static_assert(std::is_same_v<decltype(result), int&>);
    EXPECT_EQ(&result, &x);
    decltype(auto) constant = run([&]() -> const int& { return x; });
    static_assert(std::is_same_v<decltype(constant), const int&>);
    EXPECT_EQ(&constant, &x);
}

TEST_P(runtime_run, returns_void_and_takes_a_move_only_main) {
    auto given = std::make_unique<int>(3);
    int seen = 0;
    run([&seen, given = std::move(given)] { seen = *given; });
    EXPECT_EQ(seen, 3);
}

TEST_P(runtime_run, calls_main_as_an_rvalue) {
    struct both {
        int operator()() & { return 1; }
        std::string operator()() && { return "moved"; }
    };
    EXPECT_EQ(run(both{}), "moved");
    struct once_only {
        std::unique_ptr<int> p = std::make_unique<int>(5);
        std::unique_ptr<int> operator()() && { return std::move(p); }
    };
    EXPECT_EQ(*run(once_only{}), 5);
    EXPECT_EQ(run([] { return *mpg::spawn(once_only{}).join(); }), 5);
    std::string s = "x";
    EXPECT_EQ(run([&]() -> std::string&& { return std::move(s); }), "x");
}

TEST_P(runtime_run, handles_outlive_the_runtime) {
    mpg::task<std::string> value, thrown, unwound, never_asked;
    mpg::recv_chan<void> done;
    run([&] {
        value = mpg::spawn([] { return std::string(100, 'v'); });
        thrown = mpg::spawn([]() -> std::string { throw std::runtime_error("thrown"); });
        unwound = mpg::spawn([] {
            mpg::chan<void>().recv();
            return std::string();
        });
        never_asked = mpg::spawn([]() -> std::string { throw 1; });
        done = value.done();
        mpg::yield();
    });
    run([] { mpg::spawn([] {}).join(); }); // another one, maybe at the same address
    EXPECT_FALSE(done.recv());
    EXPECT_TRUE(value.joinable());
    EXPECT_NE(value.id(), 0u);
    try { // started or not when main returned
        EXPECT_EQ(value.join(), std::string(100, 'v'));
    } catch (const mpg::unwound&) {
    }
    EXPECT_FALSE(value.joinable());
    try {
        thrown.join();
    } catch (const std::runtime_error& e) {
        EXPECT_STREQ(e.what(), "thrown");
    } catch (const mpg::unwound&) {
    }
    EXPECT_THROW(run([&] { return unwound.join(); }), mpg::unwound);
}

TEST_P(runtime_run, is_not_stopped_by_its_own_task) {
    mpg::runtime rt({.procs = procs()});
    auto stopped_by = [&] {
        try {
            rt.stop();
        } catch (const std::system_error& e) {
            return e.code() == std::errc::resource_deadlock_would_occur;
        }
        return false;
    };
    EXPECT_TRUE(rt.run(stopped_by));
    EXPECT_TRUE(rt.run([&] { return mpg::blocking(stopped_by); }));
    EXPECT_EQ(rt.run([] { return 3; }), 3);
}

TEST_P(runtime_run, rethrows_the_exception_of_main) {
    EXPECT_THROW(run([] { throw std::out_of_range("x"); }), std::out_of_range);
    EXPECT_THROW(run([]() -> int { throw 5; }), int);
    try {
        run([] {
            mpg::yield();
            throw std::runtime_error("from main");
        });
        FAIL();
    } catch (const std::runtime_error& e) {
        EXPECT_STREQ(e.what(), "from main");
    }
}

TEST_P(runtime_run, main_is_a_task) {
    EXPECT_FALSE(mpg::this_task::inside());
    EXPECT_EQ(mpg::runtime::current(), nullptr);
    run([] {
        EXPECT_TRUE(mpg::this_task::inside());
        EXPECT_NE(mpg::runtime::current(), nullptr);
    });
    EXPECT_FALSE(mpg::this_task::inside());
}

TEST_P(runtime_run, runtimes_follow_one_another) {
    const std::size_t rounds = mpg::test::scaled(procs() == 64 ? 100 : 1000);
    for (std::size_t i = 0; i < rounds; ++i) {
        std::size_t got = run([i] {
            mpg::chan<std::size_t> c;
            mpg::go([c, i] { c.send(i); });
            return c.recv().value();
        });
        ASSERT_EQ(got, i);
    }
}

TEST_P(runtime_run, runtimes_stand_side_by_side) {
    // Four runtimes, each passes what it gets from the one before to the next: one ring of channels through
    // all.
    constexpr int rounds = 200;
    std::vector<mpg::chan<int>> ring;
    for (int r = 0; r < 4; ++r) ring.emplace_back(1);
    std::vector<std::thread> threads;
    for (unsigned r = 0; r < 4; ++r) {
        threads.emplace_back([&, r] {
            run([&, r] {
                if (r == 0) ring[0].send(0);
                for (int i = 0; i < rounds; ++i) {
                    int token = ring[r].recv().value();
                    EXPECT_EQ(token % 4, static_cast<int>(r));
                    if (r != 3 || i != rounds - 1) ring[(r + 1) % 4].send(token + 1);
                }
            });
        });
    }
    for (auto& t : threads) t.join();
}

// Tasks of two runtimes meet in channels without a buffer, and one of the runtimes ends in the midst of it, again and again.
// Nobody is stuck, and no value comes twice.
TEST_P(runtime_run, ends_while_tasks_of_another_meet_its_own) {
    mpg::chan<unsigned> there, back;
    std::vector<std::atomic<unsigned>> arrived(1 << 16);
    std::atomic<unsigned> next{0};
    std::thread other([&] {
        run([&] {
            mpg::wait_group ended;
            for (int i = 0; i < 3; ++i) {
                ended.go([&, i] {
                    for (;;) {
                        std::optional<unsigned> got;
                        if (i == 0)
                            got = there.recv();
                        else // whoever waits for several things at once is withdrawn from all
                            while (mpg::select(mpg::on_recv(there, [&](std::optional<unsigned> v) { got = v; }),
                                               mpg::on_timeout(std::chrono::milliseconds(i))) != 0) {}
                        if (!got) return;
                        back.send(*got);
                    }
                });
            }
            ended.wait();
            back.close();
        });
    });
    const auto count = [&](unsigned v) { EXPECT_EQ(++arrived.at(v), 1u); };
    for (int round = 0; round < 15; ++round) {
        run([&] {
            for (int i = 0; i < 3; ++i) {
                mpg::go([&] {
                    for (;;) {
                        there.send(next++);
                        mpg::select(mpg::on_recv(back, [&](std::optional<unsigned> v) { count(v.value()); }), mpg::on_timeout(50us));
                    }
                });
            }
            for (int i = 0; i < 3 + round % 4; ++i) count(back.recv().value());
        });
    }
    run([&] { // and who comes last is served
        mpg::go([&] {
            for (int i = 0; i < 50; ++i) there.send(next++);
            there.close();
        });
        for (unsigned v : back) count(v);
    });
    other.join();
}

// What a task of one runtime waits for may be another runtime's: a task, a context, a lock.
TEST_P(runtime_run, ends_while_another_waits_for_what_is_its_own) {
    for (int round = 0; round < 10; ++round) {
        mpg::options o;
        o.procs = procs();
        mpg::runtime first(o), second(o);
        mpg::mutex m;
        mpg::chan<void> held, never;
        auto holds = first.spawn([&] {
            std::lock_guard lock(m);
            held.close();
            never.recv(); // is unwound, and so unlocks
        });
        held.recv();
        auto locks = second.spawn([&] {
            std::lock_guard lock(m);
            return 1;
        });
        auto joins = second.spawn([&] {
            try {
                holds.join();
            } catch (const mpg::unwound&) {
                return 2;
            }
            return 0;
        });
        mpg::cancel_context ctx = mpg::with_cancel(mpg::context::background());
        auto ends = first.spawn([&, ctx = mpg::with_timeout(ctx, 1h)] { never.recv(); });
        auto waits = second.spawn([&] {
            ctx.done().recv();
            return 3;
        });
        EXPECT_TRUE(mpg::test::eventually([&] { return second.stats().tasks_waiting == 3; }));
        first.stop();
        ctx.cancel();
        EXPECT_EQ(locks.join(), 1);
        EXPECT_EQ(joins.join(), 2);
        EXPECT_EQ(waits.join(), 3);
        EXPECT_THROW(ends.join(), mpg::unwound);
    }
}

/// What a library may do of which its program knows nothing.
int library_call(unsigned procs, int x) {
    mpg::options o;
    o.procs = procs;
    return mpg::run(o, [x] {
        mpg::chan<int> c;
        mpg::go([c, x] {
            mpg::sleep_for(10us);
            c.send(x);
        });
        return c.recv().value();
    });
}

TEST_P(runtime_run, a_library_has_one_in_its_program_s_threads) {
    std::vector<std::thread> threads;
    for (int t = 0; t < 3; ++t) {
        threads.emplace_back([&, t] {
            if (t == 1) { // as those do that leave signals to another thread
                ::sigset_t all;
                ::sigfillset(&all);
                ::pthread_sigmask(SIG_SETMASK, &all, nullptr);
            }
            for (int i = 0; i < 10; ++i) EXPECT_EQ(library_call(procs(), 100 * t + i), 100 * t + i);
            EXPECT_EQ(mpg::runtime::current(), nullptr);
        });
    }
    for (auto& t : threads) t.join();
    ::pthread_attr_t small; // a thread's stack may be: nothing of the runtime's is on it
    ASSERT_EQ(::pthread_attr_init(&small), 0);
    ASSERT_EQ(::pthread_attr_setstacksize(&small, mpg::test::scaled(2) == 2 ? 64 << 10 : 1 << 20), 0);
    ::pthread_t id;
    unsigned n = procs();
    ASSERT_EQ(::pthread_create(&id, &small,
                               [](void* arg) -> void* {
                                   EXPECT_EQ(library_call(*static_cast<unsigned*>(arg), 7), 7);
                                   return nullptr;
                               },
                               &n), 0);
    ::pthread_join(id, nullptr);
    ::pthread_attr_destroy(&small);
}

TEST_P(runtime_run, a_library_has_one_in_tasks_of_its_program) {
    run([&] {
        auto* mine = mpg::runtime::current();
        mpg::wait_group ended;
        for (int i = 0; i < 6; ++i) {
            ended.go([&, i] {
                const auto id = mpg::this_task::id();
                for (int k = 0; k < 3; ++k) {
                    EXPECT_EQ(i % 2 ? library_call(procs(), i) : mpg::blocking([&] { return library_call(procs(), i); }), i);
                    EXPECT_EQ(mpg::runtime::current(), mine);
                    EXPECT_EQ(mpg::this_task::id(), id);
                    mpg::sleep_for(10us);
                }
            });
        }
        ended.wait();
    });
}

TEST_P(runtime_run, runtime_object_takes_work_from_plain_threads) {
    mpg::options o;
    o.procs = procs();
    mpg::runtime rt(o);
    std::atomic<int> sum{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
        threads.emplace_back([&] {
            for (int i = 0; i < 100; ++i)
                EXPECT_EQ(rt.spawn([&sum](int k) { return sum += k, k; }, i).join(), i);
        });
    }
    for (auto& t : threads) t.join();
    EXPECT_EQ(sum, 4 * 4950);
    EXPECT_EQ(rt.run([] { return 1; }), 1);
    EXPECT_EQ(rt.run([] { return 2; }), 2);
}

TEST_P(runtime_run, runtime_object_starts_and_forgets) {
    mpg::options o;
    o.procs = procs();
    mpg::chan<int> c;
    mpg::runtime rt(o);
    rt.go([c](std::unique_ptr<int> v) { c.send(*v); }, std::make_unique<int>(9));
    EXPECT_EQ(c.recv(), 9);
    rt.stop();
    rt.stop(); // the second one has nothing to do
}

TEST_P(runtime_run, tasks_start_tasks_in_their_own_runtime) {
    std::thread other([&] {
        run([] {
            auto* mine = mpg::runtime::current();
            for (int i = 0; i < 100; ++i)
                EXPECT_EQ(mpg::spawn([] { return mpg::runtime::current(); }).join(), mine);
        });
    });
    run([] {
        auto* mine = mpg::runtime::current();
        for (int i = 0; i < 100; ++i)
            EXPECT_EQ(mpg::spawn([] { return mpg::runtime::current(); }).join(), mine);
    });
    other.join();
}

TEST_P(runtime_run, statistics_count) {
    run([&] {
        auto* rt = mpg::runtime::current();
        EXPECT_EQ(rt->stats().procs, procs());
        EXPECT_EQ(rt->stats().tasks, 1u);
        EXPECT_GE(rt->stats().threads, 1u);
        auto created = rt->stats().tasks_created;
        mpg::chan<void> hold;
        mpg::wait_group ended;
        ended.add(10);
        for (int i = 0; i < 10; ++i) {
            mpg::go([&] {
                hold.recv();
                ended.done();
            });
        }
        EXPECT_TRUE(mpg::test::eventually([&] { return rt->stats().tasks_waiting == 10; }));
        EXPECT_EQ(rt->stats().tasks, 11u);
        EXPECT_EQ(rt->stats().tasks_running, 1u);
        EXPECT_EQ(rt->stats().tasks_created, created + 10);
        EXPECT_GT(rt->stats().stack_bytes_mapped, 0u);
        hold.close();
        ended.wait();
        EXPECT_TRUE(mpg::test::eventually([&] { return rt->stats().tasks == 1; }));
        EXPECT_EQ(rt->stats().tasks_waiting, 0u);
    });
}

TEST_P(runtime_run, statistics_count_exceptions_that_nobody_joined) {
    run([&] {
        auto* rt = mpg::runtime::current();
        EXPECT_EQ(rt->stats().dropped_exceptions, 0u);
        for (int i = 0; i < 5; ++i) mpg::spawn([] { throw std::runtime_error("dropped"); }).detach();
        EXPECT_TRUE(mpg::test::eventually([&] { return rt->stats().dropped_exceptions == 5; }));
        auto joined = mpg::spawn([] { throw std::runtime_error("joined"); });
        EXPECT_THROW(joined.join(), std::runtime_error);
        EXPECT_EQ(rt->stats().dropped_exceptions, 5u);
    });
}

TEST(runtime_procs, come_from_the_environment) {
    ASSERT_EQ(::setenv("MPG_PROCS", "3", 1), 0);
    EXPECT_EQ(mpg::run([] { return mpg::runtime::current()->stats().procs; }), 3u);
    mpg::options o;
    o.procs = 2; // what the program says comes first
    EXPECT_EQ(mpg::run(o, [] { return mpg::runtime::current()->stats().procs; }), 2u);
    ASSERT_EQ(::unsetenv("MPG_PROCS"), 0);
}

TEST(runtime_procs, honour_the_affinity_mask) {
    ::cpu_set_t before, one;
    ASSERT_EQ(::sched_getaffinity(0, sizeof before, &before), 0);
    CPU_ZERO(&one);
    for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; ++cpu)
        if (CPU_ISSET(cpu, &before)) CPU_SET(cpu, &one);
    ASSERT_EQ(::sched_setaffinity(0, sizeof one, &one), 0);
    EXPECT_EQ(mpg::run([] { return mpg::runtime::current()->stats().procs; }), 1u);
    ASSERT_EQ(::sched_setaffinity(0, sizeof before, &before), 0);
    auto procs = mpg::run([] { return mpg::runtime::current()->stats().procs; });
    EXPECT_GE(procs, 1u);
    EXPECT_LE(procs, static_cast<unsigned>(CPU_COUNT(&before)));
}

TEST(runtime_procs, may_be_many_more_than_cpus) {
    mpg::test::run_with_procs(256, [] {
        mpg::wait_group ended;
        std::atomic<int> sum{0};
        for (int i = 0; i < 5000; ++i) {
            ended.go([&sum, i] {
                if (i % 3 == 0) mpg::yield();
                sum += 1;
            });
        }
        ended.wait();
        EXPECT_EQ(sum, 5000);
    });
}

#if !defined(MPG_TSAN) // whose own thread wakes ten times a second

/// Of all threads but the caller's, so far: how often one has waited, and thus been woken.
long waits_of_other_threads() {
    long sum = 0;
    for (auto& thread : std::filesystem::directory_iterator("/proc/self/task")) {
        if (thread.path().filename() == std::to_string(::gettid())) continue;
        std::ifstream status(thread.path() / "status");
        long n = 0;
        for (std::string word; status >> word;)
            if (word == "voluntary_ctxt_switches:" && status >> n) sum += n;
    }
    return sum;
}

// Of what is idle nothing wakes but the monitor, once a second, and that only if all tasks are asleep and somebody waits for them.
TEST(runtime_idle, wakes_at_most_once_a_second) {
    mpg::options o;
    o.procs = 64;
    for (bool somebody_waits : {false, true}) {
        mpg::chan<int> work(64);
        mpg::chan<void> quiet, at_work;
        mpg::runtime rt(o);
        for (int i = 0; i < 256; ++i) { // for all Ps; then these wait for more, which does not come
            rt.go([=] {
                work.recv();
                at_work.send();
                quiet.recv();
            });
        }
        for (int i = 0; i < 256; ++i) work.send(i);
        for (int i = 0; i < 256; ++i) at_work.recv();
        std::thread caller;
        if (somebody_waits) caller = std::thread([&] { rt.run([&] { quiet.recv(); }); });
        long before = waits_of_other_threads(), quarters = 0;
        // The last ones go to sleep after a while; a busy machine takes its time.
        ASSERT_TRUE(mpg::test::eventually([&] {
            std::this_thread::sleep_for(250ms);
            const long now = waits_of_other_threads();
            return std::exchange(before, now) == now && ++quarters == 2;
        }));
        constexpr int seconds = 3;
        std::this_thread::sleep_for(std::chrono::seconds(seconds));
        EXPECT_LE(waits_of_other_threads() - before, somebody_waits ? seconds + 1 : 0);
        quiet.close();
        if (somebody_waits) caller.join();
    }
}

#endif

TEST(runtime_memory, stacks_that_are_not_used_any_more_are_given_back_when_all_is_idle) {
    mpg::options o;
    o.procs = 2;
    mpg::run(o, [] {
        constexpr std::size_t tasks = 5000;
        auto resident = [] { return mpg::runtime::current()->stats().stack_bytes_resident_estimate; };
        {
            mpg::chan<void> gate;
            mpg::wait_group ended;
            for (std::size_t i = 0; i < tasks; ++i) ended.go([gate] { gate.recv(); });
            ASSERT_TRUE(mpg::test::eventually([&] { return mpg::runtime::current()->stats().tasks_waiting >= tasks; }));
            EXPECT_GE(resident(), tasks * 4096);
            gate.close();
            ended.wait();
        }
        for (int i = 0; resident() > tasks * 4096 / 4; ++i) {
            ASSERT_LT(i, 600) << resident();
            mpg::sleep_for(std::chrono::milliseconds(100)); // idle meanwhile
        }
    });
}

} // namespace
