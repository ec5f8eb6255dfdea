// Tasks that compute or block without telling anybody: the others go on.
//
// ctest: no-asan  preemption is off under sanitizers; held_up_test.cpp has what must work there too
// ctest: no-tsan  the same
#include "support.hpp"

#include <mpg/chan.hpp>
#include <mpg/sync.hpp>
#include <mpg/time.hpp>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <exception>
#include <link.h>
#include <condition_variable>
#include <ctime>
#include <map>
#include <mutex>
#include <regex>
#include <sched.h>
#include <shared_mutex>
#include <sstream>
#include <stdexcept>
#include <string>
#include <sys/resource.h>
#include <thread>
#include <tuple>
#include <unistd.h>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using clock_type = std::chrono::steady_clock;

struct preempt : mpg::test::with_procs {};
INSTANTIATE_TEST_SUITE_P(procs, preempt, ::testing::Values(1u, 2u, 4u),
                         [](const auto& of) { return std::to_string(of.param); });

/// Computes until told to stop.
void spin(const std::atomic<bool>& on) {
    for (unsigned long i = 0; on.load(std::memory_order_relaxed); ++i) asm volatile("" ::: "memory");
}

TEST_P(preempt, a_task_that_computes_for_ever_does_not_hold_up_main) {
    std::atomic<bool> on{true};
    mpg::runtime_stats stats = run([&] {
        mpg::wait_group ended;
        for (unsigned i = 0; i < 3 * procs(); ++i) ended.go([&] { spin(on); });
        for (int i = 0; i < 10; ++i) mpg::sleep_for(5ms);
        mpg::runtime_stats s;
        EXPECT_TRUE(mpg::test::eventually([&] { // the kernel may be slow to start as many threads as there are Ps
            s = mpg::runtime::current()->stats();
            return s.tasks_frozen != 0;
        }));
        on = false;
        ended.wait();
        return s;
    });
    EXPECT_EQ(stats.preemption_reason, "");
    EXPECT_GT(stats.preemptions, 0u);
    EXPECT_GT(stats.tasks_frozen, 0u);
}

TEST_P(preempt, the_runtime_stops_under_tasks_that_compute) {
    std::atomic<bool> on{true};
    run([&] {
        for (unsigned i = 0; i < 2 * procs(); ++i) {
            mpg::go([&] {
                spin(on);
                mpg::chan<int>().recv(); // is unwound
            });
        }
        EXPECT_TRUE(mpg::test::eventually([] { return mpg::runtime::current()->stats().tasks_frozen != 0; }));
        on = false;
    });
}

TEST_P(preempt, those_who_compute_share_fairly) {
    std::atomic<bool> on{true};
    const unsigned n = 4 * procs();
    const std::clock_t began = std::clock(); // CPU time of the process
    std::vector<std::atomic<unsigned long>> turns(n);
    run([&] {
        mpg::wait_group ended;
        for (unsigned i = 0; i < n; ++i) {
            ended.go([&, i] {
                while (on.load(std::memory_order_relaxed)) turns[i].fetch_add(1, std::memory_order_relaxed);
            });
        }
        // Four slices of 10 ms for each, however much of the CPUs others have.
        while (std::clock() < began + std::clock_t{n} * 40 * CLOCKS_PER_SEC / 1000) mpg::sleep_for(20ms);
        on = false;
        ended.wait();
    });
    auto [least, most] = std::minmax_element(turns.begin(), turns.end(),
                                             [](auto& a, auto& b) { return a.load() < b.load(); });
    EXPECT_GT(least->load() * 20, most->load()) << "least " << *least << ", most " << *most;
}

void work_a_little() {
    for (int i = 0; i < 50'000; ++i) asm volatile("" ::: "memory");
}

/// CPU time of the calling thread. No task changes threads while it computes.
std::chrono::nanoseconds thread_cpu() {
    ::timespec t{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return std::chrono::seconds(t.tv_sec) + std::chrono::nanoseconds(t.tv_nsec);
}

// $MPG_TEST_HOGS: so many of 50 ms, as `scripts/soak MINUTES hogs` runs it.
TEST_P(preempt, the_number_of_threads_stays_bounded) {
    const char* given = std::getenv("MPG_TEST_HOGS");
    const auto tasks = given ? static_cast<unsigned>(std::strtoul(given, nullptr, 10)) : 200u;
    const auto each = given ? 50ms : 15ms;
    std::atomic<std::size_t> most{0}, frozen{0};
    run([&] {
        mpg::wait_group ended;
        std::atomic<bool> on{true};
        for (unsigned i = 0; i < tasks; ++i) {
            ended.go([&] {
                for (const auto begin = thread_cpu(); thread_cpu() - begin < each;)
                    for (int k = 0; k < 10'000; ++k) asm volatile("" ::: "memory");
            });
        }
        std::thread watch([&, rt = mpg::runtime::current()] {
            while (on) {
                const auto s = rt->stats();
                most = std::max<std::size_t>(most, s.threads);
                frozen = std::max<std::size_t>(frozen, s.tasks_frozen);
                std::this_thread::sleep_for(2ms);
            }
        });
        ended.wait();
        on = false;
        mpg::blocking([&] { watch.join(); });
    });
    EXPECT_LE(most, procs() * 8 + 64);
    EXPECT_GT(frozen, 0u);
    std::cout << "at most " << most << " threads, " << frozen << " of them frozen" << std::endl;
}

// Tasks that have not begun are many, and each will compute for longer than a slice. Who is woken meanwhile does not stand
// behind all of them: it goes first at the latest at the second visit of each P to the scheduler.

/// How many begin while wait(how many have begun) waits; it returns from which number on they count.
template <class Wait> unsigned begun_before(unsigned procs, unsigned hogs, Wait wait) {
    std::atomic<unsigned> begun{0}, meanwhile{0};
    mpg::options o;
    o.procs = procs;
    mpg::run(o, [&] {
        std::atomic<bool> on{true};
        mpg::wait_group ended;
        for (unsigned i = 0; i < hogs; ++i) {
            ended.go([&] {
                ++begun;
                spin(on);
            });
        }
        const unsigned from = wait(begun);
        meanwhile = begun.load() - from;
        on = false;
        ended.wait();
    });
    return meanwhile;
}

TEST_P(preempt, a_sleeper_goes_before_those_that_have_not_begun) {
    const unsigned hogs = 30 * procs();
    EXPECT_LT(begun_before(procs(), hogs, [](auto&) {
        mpg::sleep_for(1ms);
        return 0u;
    }), hogs / 2);
}

TEST_P(preempt, who_is_woken_by_a_plain_thread_goes_before_those_that_have_not_begun) {
    const unsigned hogs = 30 * procs();
    EXPECT_LT(begun_before(procs(), hogs, [&](std::atomic<unsigned>& begun) {
        mpg::chan<unsigned> c;
        std::thread sender([&] { c.send(begun.load()); });
        const unsigned from = c.recv().value();
        sender.join(); // is about to end
        return from;
    }), hogs / 2);
}

// Sleepers, and who is woken by them, go before hogs of any number, also before those that have begun, once, by a channel and
// are beyond what may be frozen. In slices and not in time, since others use the machine: of a period of 1 ms nine in ten end
// before each P has ended five, which are 50 ms.
struct preempt_sleepers : mpg::test::with_procs {};
INSTANTIATE_TEST_SUITE_P(procs, preempt_sleepers, ::testing::Values(1u, 2u), // not more than there are CPUs
                         [](const auto& of) { return std::to_string(of.param); });

TEST_P(preempt_sleepers, and_whom_they_wake_are_on_time_beside_hogs_that_a_channel_has_woken) {
    const unsigned hogs = 30 * procs();
    constexpr unsigned sleepers = 5, each = 20;
    std::vector<std::uint64_t> waited;
    run([&] {
        mpg::runtime& rt = *mpg::runtime::current();
        std::atomic<bool> on{true};
        mpg::wait_group ended;
        mpg::chan<void> gate;
        for (unsigned i = 0; i < hogs; ++i) {
            ended.go([&] {
                gate.recv();
                spin(on);
            });
        }
        while (rt.stats().tasks_waiting < hogs) mpg::yield();
        mpg::chan<std::uint64_t> slept;
        for (unsigned i = 0; i < sleepers; ++i) {
            ended.go([&] {
                for (unsigned k = 0; k < each; ++k) {
                    const auto before = rt.stats().preemptions;
                    mpg::sleep_for(1ms);
                    slept.send(before);
                }
            });
        }
        mpg::sleep_for(1ms);
        gate.close();
        while (waited.size() < sleepers * each) {
            const auto before = slept.recv().value();
            waited.push_back(rt.stats().preemptions - before);
        }
        on = false;
        ended.wait();
    });
    std::sort(waited.begin(), waited.end());
    EXPECT_LE(waited[waited.size() * 9 / 10], 5 * procs());
    std::cout << "slices in a period: half " << waited[waited.size() / 2] << ", nine in ten " << waited[waited.size() * 9 / 10]
              << ", all " << waited.back() << std::endl;
}

// Whoever wakes them, those of whom it is not known that they compute little are no way around the limit.
TEST_P(preempt_sleepers, who_compute_when_the_clock_has_woken_them_are_no_way_around_the_limit_of_threads) {
    std::atomic<std::size_t> most{0};
    mpg::options o;
    o.preempt_after = 2ms;
    run(o, [&] {
        mpg::wait_group ended;
        std::atomic<bool> on{true};
        for (unsigned i = 0; i < 80 + 40 * procs(); ++i) {
            ended.go([] {
                mpg::sleep_for(1ms);
                for (const auto begin = thread_cpu(); thread_cpu() - begin < 10ms;) work_a_little();
            });
        }
        std::thread watch([&, rt = mpg::runtime::current()] {
            while (on) {
                most = std::max<std::size_t>(most, rt->stats().threads);
                std::this_thread::sleep_for(2ms);
            }
        });
        ended.wait();
        on = false;
        mpg::blocking([&] { watch.join(); });
    });
    EXPECT_LE(most, procs() * 8 + 64);
}

// The other way round: those that have not begun have their turns although somebody is always woken.
TEST_P(preempt, who_has_not_begun_begins_beside_more_hogs_than_may_be_frozen) {
    std::atomic<bool> on{true};
    run([&] {
        mpg::wait_group ended;
        for (unsigned i = 0; i < 12 * procs(); ++i) ended.go([&] { spin(on); });
        EXPECT_TRUE(mpg::test::eventually([&] { return mpg::runtime::current()->stats().tasks_frozen >= 8 * procs(); }));
        for (int i = 0; i < 3; ++i) mpg::spawn([] {}).join();
        on = false;
        ended.wait();
    });
}

TEST_P(preempt, who_has_not_begun_begins_beside_those_that_are_woken_again_and_again) {
    std::atomic<bool> on{true};
    run([&] {
        mpg::wait_group ended;
        for (unsigned i = 0; i < 4 * procs(); ++i) {
            ended.go([&] {
                while (on) {
                    mpg::sleep_for(1us);
                    for (const auto begin = thread_cpu(); thread_cpu() - begin < 8ms;) work_a_little();
                }
            });
        }
        mpg::sleep_for(1ms);
        std::atomic<unsigned> done{0};
        for (unsigned i = 0; i < 4 * procs(); ++i) ended.go([&] { ++done; });
        while (done != 4 * procs()) mpg::sleep_for(5ms);
        on = false;
        ended.wait();
    });
}

/// Of all other threads.
long voluntary_switches() {
    ::rusage all{}, own{};
    ::getrusage(RUSAGE_SELF, &all);
    ::getrusage(RUSAGE_THREAD, &own);
    return all.ru_nvcsw - own.ru_nvcsw;
}

// The clock says that a slice has ended, but the thread has not had so much of its CPU: others use it. Nothing can be done
// meanwhile, and to look again and again would take the CPU from everybody.
TEST(preempt_on_a_busy_cpu, the_monitor_does_not_look_all_the_time) {
    ::cpu_set_t before, one;
    ASSERT_EQ(::sched_getaffinity(0, sizeof before, &before), 0);
    CPU_ZERO(&one);
    for (int cpu = 0; CPU_COUNT(&one) == 0; ++cpu)
        if (CPU_ISSET(cpu, &before)) CPU_SET(cpu, &one);
    ASSERT_EQ(::sched_setaffinity(0, sizeof one, &one), 0); // and for all threads that are made from here on
    std::atomic<bool> on{true};
    std::vector<std::thread> others;
    for (int i = 0; i < 4; ++i) others.emplace_back([&] { spin(on); });
    mpg::options o;
    o.procs = 1;
    const auto [looks, preemptions, took] = mpg::run(o, [&] {
        mpg::wait_group ended;
        for (int i = 0; i < 3; ++i) ended.go([&] { spin(on); });
        mpg::runtime& rt = *mpg::runtime::current();
        auto result = mpg::blocking([&] {
            const auto count = [&] { return std::pair(voluntary_switches(), rt.stats().preemptions); };
            while (count().second < 5) ::usleep(20'000);
            const auto begin = count();
            const auto since = clock_type::now();
            while (count().second < begin.second + 20) ::usleep(20'000);
            const auto end = count();
            return std::tuple(end.first - begin.first, end.second - begin.second, clock_type::now() - since);
        });
        on = false;
        ended.wait();
        return result;
    });
    for (auto& t : others) t.join();
    ASSERT_EQ(::sched_setaffinity(0, sizeof before, &before), 0);
    // Some for each, and one in 10 ms, or sooner where a thread is about to have had its slice.
    EXPECT_LT(looks, 50 * static_cast<long>(preemptions) + took / 5ms);
    std::cout << looks << " switches for " << preemptions << " preemptions in " << took / 1ms << " ms" << std::endl;
}

TEST_P(preempt, a_hand_over_of_one_who_then_computes_is_taken_by_others) {
    std::atomic<bool> on{true};
    run([&] {
        mpg::chan<int> c;
        auto hog = mpg::spawn([&] {
            c.send(1); // the receiver goes into runnext
            spin(on);
        });
        EXPECT_EQ(c.recv(), 1);
        on = false;
        hog.join();
    });
}

// What a frozen task may be in the middle of: each does its own thing at slices of 100 us, and checks that nothing of
// it was disturbed.
TEST_P(preempt, anything_may_be_interrupted) {
    std::atomic<bool> on{true};
    std::mutex shared;
    std::map<int, std::string> values;
    mpg::options o;
    o.preempt_after = 100us;
    run(o, [&] {
        mpg::wait_group ended;
        for (int id = 0; id < 12; ++id) {
            ended.go([&, id] {
                static thread_local int owner = 0;
                std::vector<std::string> keep;
                double x = 0.5 + id;
                for (unsigned long k = 0; on.load(std::memory_order_relaxed); ++k) {
                    owner = id;
                    keep.push_back(std::string(20 + k % 900, static_cast<char>('a' + id)));
                    if (keep.back()[k % 20] != 'a' + id) std::abort();
                    if (keep.size() > 50) keep.erase(keep.begin());
                    try {
                        if (k % 3 == 0) throw std::runtime_error(std::to_string(id));
                        if (k % 3 == 1) throw id;
                    } catch (const std::runtime_error& e) {
                        if (std::stoi(e.what()) != id) std::abort();
                    } catch (int thrown) {
                        if (thrown != id) std::abort();
                    }
                    if (owner != id) std::abort(); // no suspension since: the same thread, alone
                    if (k % 8 == 0) {
                        std::lock_guard guard(shared);
                        values[static_cast<int>(k % 64)] = std::to_string(k);
                        if (values.size() > 64) std::abort();
                    }
                    if (k % 16 == 0) {
                        std::ostringstream text;
                        text << id << ' ' << k;
                        static const std::regex form("([0-9]+) ([0-9]+)");
                        std::smatch m;
                        std::string s = text.str();
                        if (!std::regex_match(s, m, form) || std::stoi(m[1]) != id) std::abort();
                    }
                    x = std::sqrt(x * x + 1e-9);
                    if (!(x > 0.4 + id)) std::abort();
                    errno = id;
                    if (errno != id) std::abort();
                    if (k % 64 == 0) mpg::yield();
                }
            });
        }
        mpg::sleep_for(1s);
        on = false;
        ended.wait();
    });
}

// A task that waits for another one's lock or signal blocks its thread, and may be frozen with the lock held.
TEST_P(preempt, locks_and_conditions_of_the_language_hold) {
    constexpr int pairs = 5, each = 3000, room = 4;
    std::shared_mutex both;
    long a = 0, b = 0; // equal, guarded by both
    std::mutex m;
    std::condition_variable not_empty, not_full;
    std::vector<long> queue; // guarded by m
    long taken = 0;          // guarded by m
    mpg::options o;
    o.preempt_after = 100us;
    run(o, [&] {
        mpg::wait_group ended;
        for (int id = 0; id < pairs; ++id) {
            ended.go([&, id] {
                for (int i = 1; i <= each; ++i) {
                    if (i % 4 == id % 4) {
                        std::lock_guard writes(both);
                        ++a;
                        for (int k = 0; k < 2000; ++k) asm volatile("" ::: "memory");
                        ++b;
                    } else {
                        std::shared_lock reads(both);
                        if (a != b) std::abort();
                    }
                    std::unique_lock lock(m);
                    not_full.wait(lock, [&] { return queue.size() < room; });
                    queue.push_back(i);
                    not_empty.notify_one();
                }
            });
            ended.go([&] {
                for (int i = 1; i <= each; ++i) {
                    std::unique_lock lock(m);
                    while (!not_empty.wait_for(lock, 5ms, [&] { return !queue.empty(); })) {}
                    taken += queue.back();
                    queue.pop_back();
                    not_full.notify_one();
                    lock.unlock();
                    for (int k = 0; k < 2000; ++k) asm volatile("" ::: "memory");
                }
            });
        }
        ended.wait();
    });
    EXPECT_EQ(a, b);
    EXPECT_EQ(a, pairs * each / 4);
    EXPECT_EQ(taken, long{pairs} * each * (each + 1) / 2);
}

// Where a task may stand when it is frozen: it and another that needs the same thing both get on.

/// Runs f(on) in more tasks than there are Ps, at slices of 200 us, until each has been frozen in it a few times.
template <class F> void frozen_within(unsigned procs, F f) {
    mpg::options o;
    o.procs = procs;
    o.preempt_after = 200us;
    const auto stats = mpg::run(o, [&] {
        std::atomic<bool> on{true};
        mpg::wait_group ended;
        for (unsigned i = 0; i < 2 * procs + 1; ++i) ended.go([&] { f(on); });
        const bool enough = mpg::test::eventually([] { return mpg::runtime::current()->stats().preemptions > 50; });
        EXPECT_TRUE(enough);
        on = false;
        ended.wait();
        return mpg::runtime::current()->stats();
    });
    EXPECT_GT(stats.preemptions, 50u);
}

// A machine that is asked to give its P to a frozen one, and cannot: who was to get the P must not wait for that one alone.

/// One task is frozen and then promised the P of a second one, which stands where nobody may be frozen. `rest(on)` is what
/// that one does afterwards; on: the first has not gone on so far.
template <class F> void promised_to_a_frozen_one(F rest) {
    mpg::options o;
    o.procs = 1;
    o.preempt_after = 200us;
    mpg::run(o, [&] {
        std::atomic<bool> promised{false}, on{true};
        mpg::wait_group ended;
        ended.go([&] {
            while (!promised) {}
            on = false;
        });
        ended.go([&] {
            const auto& frozen = mpg::sched::this_machine()->rt->frozen_count;
            while (frozen.load() == 0) {}
            {
                mpg::sched::runtime_section here;
                while (frozen.load() != 0) {}
                promised = true;
                work_a_little();
            }
            rest(on);
        });
        ended.wait();
    });
}

TEST(preempt_promise, one_that_ends_although_its_p_was_promised) {
    for (int i = 0; i < 20; ++i) promised_to_a_frozen_one([](std::atomic<bool>&) {});
}

TEST(preempt_promise, one_that_goes_on_although_its_p_was_promised) {
    for (int i = 0; i < 20; ++i)
        promised_to_a_frozen_one([](std::atomic<bool>& on) {
            while (on) {}
        });
}

TEST_P(preempt, in_a_catch_block) {
    frozen_within(procs(), [](const std::atomic<bool>& on) {
        for (int k = 0; on; ++k) {
            try {
                throw k;
            } catch (int outer) {
                try {
                    throw std::runtime_error("inner");
                } catch (const std::exception& e) {
                    work_a_little();
                    if (std::strcmp(e.what(), "inner") != 0) std::abort();
                }
                work_a_little();
                if (outer != k || std::uncaught_exceptions() != 0) std::abort();
            }
        }
    });
}

TEST_P(preempt, in_a_destructor_while_an_exception_flies) {
    struct slow {
        ~slow() {
            work_a_little();
            if (std::uncaught_exceptions() != 1) std::abort();
        }
    };
    frozen_within(procs(), [](const std::atomic<bool>& on) {
        while (on) {
            try {
                slow s;
                throw 1;
            } catch (int) {
            }
        }
    });
}

/// Unoptimised, so that each level has a frame; comes close to the end of the stack.
[[gnu::noinline, gnu::optimize("O0")]] int deep(int n, std::uintptr_t low) {
    volatile char here = 0;
    if (reinterpret_cast<std::uintptr_t>(&here) < low + (12 << 10)) { // from here on the handler's frame alone would not fit
        work_a_little();
        return n;
    }
    return deep(n + 1, low) + here;
}

TEST_P(preempt, near_the_end_of_the_stack) {
    frozen_within(procs(), [](const std::atomic<bool>& on) {
        volatile char here = 0;
        const std::uintptr_t low = reinterpret_cast<std::uintptr_t>(&here) - (246 << 10); // 256 KiB less guard and what is above us
        int levels = 0;
        while (on) {
            const int n = deep(0, low);
            if (levels != 0 && n != levels) std::abort();
            levels = n;
        }
    });
}

// It holds a lock of the C library that every throw in another task needs.
TEST_P(preempt, inside_dl_iterate_phdr) {
    frozen_within(procs(), [](const std::atomic<bool>& on) {
        while (on) {
            ::dl_iterate_phdr(
                [](::dl_phdr_info*, std::size_t, void*) {
                    work_a_little();
                    return 0;
                },
                nullptr);
            try {
                throw 1;
            } catch (int) {
            }
        }
    });
}

TEST_P(preempt, inside_printf) {
    std::FILE* file = std::tmpfile();
    ASSERT_NE(file, nullptr);
    std::atomic<long> written{0};
    frozen_within(procs(), [&](const std::atomic<bool>& on) {
        while (on) {
            if (std::ftell(file) > 10'000'000) std::rewind(file);
            for (int i = 0; i < 500; ++i) written += std::fprintf(file, "%d %s %.17g\n", i, "text", 0.1 * i) > 0;
        }
    });
    EXPECT_GT(written, 0);
    EXPECT_EQ(std::ferror(file), 0);
    std::fclose(file);
}

TEST(preempt_off, is_said) {
    mpg::options o;
    o.preempt_after = 0ms;
    std::string reason = mpg::run(o, [] { return mpg::runtime::current()->stats().preemption_reason; });
    EXPECT_NE(reason, "");
}

} // namespace
