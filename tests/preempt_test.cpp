// Tasks that compute or block without telling anybody: the others go on.
//
// ctest: serial  it counts slices, which the kernel makes longer for all when others want its CPUs
// ctest: no-asan  preemption is off under sanitizers; held_up_test.cpp has what must work there too
// ctest: no-tsan  the same
#include "support.hpp"

#include <mpg/chan.hpp>
#include <mpg/net.hpp>
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
#include <new>
#include <poll.h>
#include <random>
#include <regex>
#include <sched.h>
#include <shared_mutex>
#include <sstream>
#include <stdexcept>
#include <string>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
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
    std::vector<std::atomic<unsigned long>> turns(n);
    std::vector<unsigned long> got(n);
    run([&] {
        mpg::wait_group ended;
        for (unsigned i = 0; i < n; ++i) {
            ended.go([&, i] {
                while (on.load(std::memory_order_relaxed)) turns[i].fetch_add(1, std::memory_order_relaxed);
            });
        }
        const auto have_all_begun = [&] { return std::all_of(turns.begin(), turns.end(), [](auto& t) { return t != 0; }); };
        while (!have_all_begun()) mpg::sleep_for(1ms);
        for (unsigned i = 0; i < n; ++i) got[i] = turns[i];
        // Six slices of 10 ms for each, however much of the CPUs others have.
        const std::clock_t began = std::clock(); // CPU time of the process
        while (std::clock() < began + std::clock_t{n} * 60 * CLOCKS_PER_SEC / 1000) mpg::sleep_for(20ms);
        for (unsigned i = 0; i < n; ++i) got[i] = turns[i] - got[i];
        on = false;
        ended.wait();
    });
    const auto [least, most] = std::minmax_element(got.begin(), got.end());
    EXPECT_GT(*least * 20, *most) << "least " << *least << ", most " << *most;
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

// Who has computed for about a slice goes into a system call at the moment at which it is to be frozen.
// $MPG_TEST_CALLS: so many, instead of some.
TEST_P(preempt, no_system_call_is_interrupted) {
    const char* given = std::getenv("MPG_TEST_CALLS");
    const unsigned enough_calls = given ? static_cast<unsigned>(std::strtoul(given, nullptr, 10)) : 120;
    std::atomic<unsigned> calls{0}, interrupted{0};
    std::atomic<bool> on{true};
    mpg::options o; // the default, unless the kernel's tick is too coarse for that
    o.preempt_after = std::max(o.preempt_after, 2 * std::chrono::nanoseconds(mpg::sched::cpu_alarm::tick()));
    const auto seed = mpg::test::seed();
    const auto stats = run(o, [&] {
        mpg::wait_group ended;
        for (unsigned i = 0; i < 3 * procs(); ++i) {
            ended.go([&, i] {
                std::minstd_rand random(static_cast<unsigned>(seed) + i);
                while (on) {
                    const auto least = o.preempt_after * (random() % 96) / 64;
                    for (const auto begin = thread_cpu(); thread_cpu() - begin < least;)
                        for (int k = 0; k < 200; ++k) asm volatile("" ::: "memory");
                    ::timespec some{0, 100'000};
                    const bool sleeps = random() % 2 == 0;
                    if ((sleeps ? ::nanosleep(&some, nullptr) : ::poll(nullptr, 0, 1)) != 0) ++interrupted;
                    ++calls;
                }
            });
        }
        const auto enough = [&] { return calls > enough_calls && mpg::runtime::current()->stats().preemptions > 10; };
        while (!enough()) mpg::sleep_for(20ms);
        on = false;
        ended.wait();
        return mpg::runtime::current()->stats();
    });
    EXPECT_EQ(interrupted, 0u) << "of " << calls << " calls, beside " << stats.preemptions << " preemptions";
    std::cout << calls << " calls, " << stats.preemptions << " preemptions" << std::endl;
}

TEST(preempt_two_runtimes, each_ends_its_own_slices) {
    std::atomic<int> have_seen_it{0};
    const auto hogs = [&] {
        mpg::options o;
        o.procs = 1;
        mpg::run(o, [&] {
            std::atomic<bool> on{true};
            mpg::wait_group ended;
            for (int i = 0; i < 3; ++i) ended.go([&] { spin(on); });
            EXPECT_TRUE(mpg::test::eventually([] { return mpg::runtime::current()->stats().preemptions > 5; }));
            ++have_seen_it;
            while (have_seen_it != 2) mpg::sleep_for(5ms); // both until both have
            on = false;
            ended.wait();
        });
    };
    std::thread one(hogs), other(hogs);
    one.join();
    other.join();
}

// The timer that asks a thread to freeze.

std::atomic<int> alarms_that_came{0};    // at a thread that they were meant for
std::atomic<int> alarms_gone_astray{0};
thread_local int alarm_of_this_thread = 0; // its address is the value

struct alarm_clock : ::testing::Test {
    struct sigaction before {};
    void SetUp() override {
        alarms_that_came = alarms_gone_astray = 0;
        struct sigaction ours {};
        ours.sa_flags = SA_SIGINFO | SA_RESTART;
        ours.sa_sigaction = [](int, ::siginfo_t* info, void*) {
            const bool ours_to_have = info->si_code == SI_TIMER && info->si_value.sival_ptr == &alarm_of_this_thread;
            ++(ours_to_have ? alarms_that_came : alarms_gone_astray);
        };
        ::sigemptyset(&ours.sa_mask);
        ASSERT_EQ(::sigaction(SIGUSR1, &ours, &before), 0);
    }
    void TearDown() override {
        ::sigaction(SIGUSR1, &before, nullptr);
        EXPECT_EQ(alarms_gone_astray, 0);
    }
    static void compute_until_they_are(int n) {
        EXPECT_TRUE(mpg::test::eventually([&] {
            work_a_little();
            return alarms_that_came >= n;
        }));
    }
};

/// A thread that says who it is, and then waits in a system call until it is told to go on.
struct who_waits {
    std::atomic<int> tid{0};
    int* value = nullptr;
    int pipe[2];
    std::thread thread;
    template <class F> explicit who_waits(F then) {
        EXPECT_EQ(::pipe(pipe), 0);
        thread = std::thread([this, then] {
            value = &alarm_of_this_thread;
            tid = ::gettid();
            ::pollfd f{pipe[0], POLLIN, 0};
            EXPECT_EQ(::poll(&f, 1, -1), 1) << std::strerror(errno);
            then();
        });
        while (mpg::sched::thread_state(tid) != 'S') std::this_thread::yield();
    }
    void go_on() {
        EXPECT_EQ(::write(pipe[1], "x", 1), 1);
        thread.join();
    }
    ~who_waits() {
        ::close(pipe[0]);
        ::close(pipe[1]);
    }
};

TEST_F(alarm_clock, comes_once_to_who_computes_and_does_not_wake_who_waits) {
    mpg::sched::cpu_alarm alarm;
    who_waits thread([] {
        EXPECT_EQ(alarms_that_came, 0);
        compute_until_they_are(1);
    });
    for (int i = 0; i < 3; ++i) EXPECT_TRUE(alarm.set(thread.tid, SIGUSR1, thread.value));
    for (int i = 0; i < 100; ++i) work_a_little(); // another thread's clock goes
    EXPECT_EQ(mpg::sched::thread_state(thread.tid), 'S');
    thread.go_on();
    EXPECT_EQ(alarms_that_came, 1);
}

TEST_F(alarm_clock, comes_however_often_it_is_set_meanwhile_and_again_when_it_has_come) {
    mpg::sched::cpu_alarm alarm;
    who_waits thread([] { compute_until_they_are(3); });
    const int tid = thread.tid;
    std::atomic<bool> on{true};
    std::thread setter([&] { // far more often than there are ticks
        while (on) alarm.set(tid, SIGUSR1, thread.value);
    });
    thread.go_on();
    on = false;
    setter.join();
    EXPECT_GE(alarms_that_came, 3);
}

TEST_F(alarm_clock, of_a_thread_that_has_ended_is_none) {
    mpg::sched::cpu_alarm set_before, never_set;
    int tid = 0, *value = nullptr;
    {
        who_waits thread([] {});
        tid = thread.tid;
        value = thread.value;
        EXPECT_TRUE(set_before.set(tid, SIGUSR1, value));
        thread.go_on();
    }
    const auto gone = [&] { return mpg::sched::thread_state(tid) == 0; }; // a join does not say so much
    ASSERT_TRUE(mpg::test::eventually(gone));
    EXPECT_FALSE(set_before.set(tid, SIGUSR1, value));
    EXPECT_FALSE(never_set.set(tid, SIGUSR1, value));
}

TEST_F(alarm_clock, of_a_forked_child_is_none_and_its_parent_keeps_its_own) {
    mpg::sched::cpu_alarm alarm;
    who_waits thread([] { compute_until_they_are(1); });
    EXPECT_TRUE(alarm.set(thread.tid, SIGUSR1, thread.value));
    const ::pid_t child = ::fork();
    if (child == 0) ::_exit(alarm.set(thread.tid, SIGUSR1, thread.value) ? 1 : 0);
    int status = -1;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
    thread.go_on();
    EXPECT_EQ(alarms_that_came, 1);
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

// Who is frozen may hold malloc's lock: so nobody may be frozen while the monitor allocates, which would then wait for somebody
// whom only it can get on. Here its allocations take long.

std::atomic<mpg::sched::runtime_state*> watched{nullptr};
std::atomic<int> watched_allocations{0}, frozen_meanwhile{0};

void look_at_allocation() noexcept {
    mpg::sched::runtime_state* rt = watched.load();
    if (!rt || mpg::sched::this_machine() || !::pthread_equal(::pthread_self(), rt->monitor_thread)) return;
    ++watched_allocations;
    const auto end = clock_type::now() + 3ms;
    do {
        if (rt->frozen_count.load() != 0) {
            ++frozen_meanwhile;
            return;
        }
    } while (clock_type::now() < end);
}

TEST_P(preempt, nobody_is_frozen_while_the_monitor_allocates) {
    watched_allocations = frozen_meanwhile = 0;
    mpg::options o;
    o.preempt_after = 200us;
    for (int i = 0; i < 10; ++i) {
        run(o, [&] {
            std::atomic<bool> on{true};
            watched = mpg::sched::this_machine()->rt;
            mpg::wait_group ended;
            for (unsigned k = 0; k < 2 * procs(); ++k) {
                ended.go([&, k] {
                    if (k % 2 == 0) ::usleep(300); // loses its P, and then computes without
                    spin(on);
                });
            }
            EXPECT_TRUE(mpg::test::eventually([] { return mpg::runtime::current()->stats().preemptions > 20; }));
            watched = nullptr;
            on = false;
            ended.wait();
        });
    }
    EXPECT_GT(watched_allocations, 0);
    EXPECT_EQ(frozen_meanwhile, 0) << "in " << watched_allocations << " allocations";
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

// What a machine has asked of the kernel goes on while it is frozen: others look for what comes of it.
TEST_P(preempt, what_a_frozen_machine_waits_for_comes) {
    run([&] {
        auto listener = mpg::net::tcp_listener::bind("127.0.0.1:0").value();
        const std::string at = listener.local_endpoint().to_string();
        constexpr int connections = 8;
        std::atomic<bool> on{true};
        std::atomic<int> heard{0};
        mpg::wait_group ended, connected;
        connected.add(connections);
        for (int i = 0; i < connections; ++i) {
            ended.go([&] {
                auto stream = mpg::net::tcp_stream::connect(at).value();
                connected.done();
                for (int k = 0; k < 3; ++k) {
                    std::byte b{};
                    if (stream.read({&b, 1}).value() == 1) ++heard;
                }
            });
        }
        std::vector<mpg::net::tcp_stream> peers;
        for (int i = 0; i < connections; ++i) peers.push_back(listener.accept().value());
        connected.wait();
        for (unsigned i = 0; i < 3 * procs(); ++i) ended.go([&] { spin(on); });
        mpg::runtime& rt = *mpg::runtime::current();
        EXPECT_TRUE(mpg::test::eventually([&] { return rt.stats().tasks_frozen >= procs(); }));
        std::thread elsewhere([&] {
            for (int k = 1; k <= 3; ++k) {
                for (auto& peer : peers) EXPECT_EQ(::send(peer.native_handle(), "x", 1, 0), 1);
                EXPECT_TRUE(mpg::test::eventually([&] { return heard >= k * connections; })); // beside the hogs
            }
        });
        while (heard < 3 * connections) mpg::sleep_for(5ms);
        on = false;
        ended.wait();
        elsewhere.join();
    });
}

// ---- what the program does with signals

TEST_P(preempt, who_blocks_the_signal_holds_up_nobody_but_its_p) {
    ::sigset_t all;
    ::sigfillset(&all);
    std::atomic<bool> on{true}, others_on{true};
    mpg::options o;
    o.preempt_after = 2ms;
    o.procs = procs() + 1;
    mpg::run(o, [&] {
        mpg::runtime& rt = *mpg::runtime::current();
        std::atomic<bool> blocked{false};
        mpg::wait_group ended;
        ended.go([&] {
            ::sigset_t before;
            ::pthread_sigmask(SIG_SETMASK, &all, &before);
            blocked = true;
            spin(on); // on one thread: nobody may take it away
            ::sigset_t now;
            ::pthread_sigmask(SIG_SETMASK, &before, &now);
            EXPECT_EQ(::sigismember(&now, SIGURG), 1);
        });
        while (!blocked) mpg::yield();
        for (unsigned i = 0; i < 3 * procs(); ++i) {
            ended.go([&, i] {
                if (i == 0) ::usleep(1000); // its P is taken: for that, too, a thread is needed
                spin(others_on);
            });
        }
        for (int i = 0; i < 5; ++i) {
            const auto before = rt.stats().preemptions;
            EXPECT_TRUE(mpg::test::eventually([&] { return rt.stats().preemptions > before + 5; }));
        }
        on = false;
        others_on = false;
        ended.wait();
    });
}

/// The program's own handler, which is there before the first runtime: the library looks once who was.
std::atomic<int> urgent{0};
const bool has_own_handler = [] {
    struct sigaction mine {};
    mine.sa_flags = SA_SIGINFO | SA_RESTART;
    mine.sa_sigaction = [](int, ::siginfo_t* info, void*) { urgent += info->si_code == SI_QUEUE ? info->si_value.sival_int : 1000; };
    return ::sigaction(SIGURG, &mine, nullptr) == 0;
}();

TEST(preempt_and_signals, a_handler_of_the_program_gets_what_is_meant_for_it) {
    ASSERT_TRUE(has_own_handler);
    urgent = 0;
    mpg::options o;
    o.procs = 2;
    o.preempt_after = 500us;
    mpg::run(o, [] {
        std::atomic<bool> on{true};
        mpg::wait_group ended;
        for (int i = 0; i < 6; ++i) ended.go([&] { spin(on); });
        for (int i = 0; i < 20; ++i) {
            const int before = urgent;
            ::sigval one{};
            one.sival_int = 1;
            EXPECT_EQ(::sigqueue(::getpid(), SIGURG, one), 0);
            EXPECT_TRUE(mpg::test::eventually([&] { return urgent != before; }));
        }
        EXPECT_TRUE(mpg::test::eventually([] { return mpg::runtime::current()->stats().preemptions > 20; }));
        on = false;
        ended.wait();
    });
    EXPECT_EQ(urgent, 20); // and nothing of what is ours
}

std::atomic<unsigned> raised{0}, on_own_stack{0};
/// A leaf: errno is that of one thread.
[[gnu::noinline]] bool raises_and_keeps_errno(int k) {
    errno = k;
    return ::raise(SIGUSR1) == 0 && errno == k;
}

// On the task's stack, or on the thread's alternate one where the program says so; with preemption in the midst of it.
TEST(preempt_and_signals, handlers_of_the_program_run_in_tasks) {
    for (int flags : {0, SA_ONSTACK}) {
        struct sigaction mine {}, before {};
        mine.sa_flags = flags;
        mine.sa_handler = [](int) {
            const int saved = errno;
            char room[2048]; // some of that stack
            std::memset(room, 1, sizeof room);
            asm volatile("" : : "r"(room) : "memory");
            ::stack_t s{};
            ::sigaltstack(nullptr, &s);
            ++raised;
            on_own_stack += (s.ss_flags & SS_ONSTACK) != 0;
            errno = saved;
        };
        ASSERT_EQ(::sigaction(SIGUSR1, &mine, &before), 0);
        raised = on_own_stack = 0;
        mpg::options o;
        o.procs = 2;
        o.preempt_after = 200us;
        mpg::run(o, [] {
            std::atomic<bool> on{true};
            mpg::wait_group hogs, raisers;
            for (int i = 0; i < 3; ++i) hogs.go([&] { spin(on); });
            for (int i = 0; i < 4; ++i)
                raisers.go([] {
                    for (int k = 0; k < 500; ++k) {
                        EXPECT_TRUE(raises_and_keeps_errno(k));
                        if (k % 64 == 0) mpg::yield();
                    }
                });
            raisers.wait();
            on = false;
            hogs.wait();
        });
        EXPECT_EQ(raised, 2000u);
        EXPECT_EQ(on_own_stack, flags ? 2000u : 0u);
        ASSERT_EQ(::sigaction(SIGUSR1, &before, nullptr), 0);
    }
}

TEST(preempt_and_signals, the_callers_mask_stack_and_handlers_stay_as_they_are) {
    std::vector<char> room(64 << 10);
    ::stack_t mine{}, stack{}, old_stack{};
    mine.ss_sp = room.data();
    mine.ss_size = room.size();
    ASSERT_EQ(::sigaltstack(&mine, &old_stack), 0);
    ::sigset_t some, mask, old_mask;
    ::sigemptyset(&some);
    ::sigaddset(&some, SIGUSR2);
    ::pthread_sigmask(SIG_SETMASK, &some, &old_mask);
    struct sigaction handlers[65] {};
    for (int s = 1; s < 65; ++s)
        if (s != SIGURG && s != SIGSEGV && s != SIGBUS) ::sigaction(s, nullptr, &handlers[s]); // these are ours from the first runtime on
    mpg::run([] {
        for (int i = 0; i < 10; ++i) mpg::yield();
    });
    EXPECT_EQ(::sigaltstack(nullptr, &stack), 0);
    EXPECT_EQ(stack.ss_sp, mine.ss_sp);
    EXPECT_EQ(stack.ss_size, mine.ss_size);
    EXPECT_EQ(stack.ss_flags, 0);
    ::pthread_sigmask(SIG_SETMASK, &old_mask, &mask);
    for (int s = 1; s < 65; ++s) {
        EXPECT_EQ(::sigismember(&mask, s), ::sigismember(&some, s)) << s;
        struct sigaction now {};
        if (s != SIGURG && s != SIGSEGV && s != SIGBUS && ::sigaction(s, nullptr, &now) == 0) {
            EXPECT_EQ(now.sa_handler, handlers[s].sa_handler) << s;
        }
    }
    ASSERT_EQ(::sigaltstack(&old_stack, nullptr), 0);
}

TEST(preempt_off, is_said) {
    mpg::options o;
    o.preempt_after = 0ms;
    std::string reason = mpg::run(o, [] { return mpg::runtime::current()->stats().preemption_reason; });
    EXPECT_NE(reason, "");
}

} // namespace

// What the library calls to make a machine.
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
    look_at_allocation();
    try {
        return ::operator new(bytes);
    } catch (...) {
        return nullptr;
    }
}
