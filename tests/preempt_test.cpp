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
#include <cstring>
#include <ctime>
#include <map>
#include <mutex>
#include <regex>
#include <sstream>
#include <stdexcept>
#include <string>
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
        mpg::runtime_stats s = mpg::runtime::current()->stats();
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
        mpg::sleep_for(30ms);
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

TEST_P(preempt, the_number_of_threads_stays_bounded) {
    const unsigned tasks = 200;
    std::atomic<std::size_t> most{0};
    run([&] {
        mpg::wait_group ended;
        for (unsigned i = 0; i < tasks; ++i) {
            ended.go([&] {
                for (auto end = clock_type::now() + 15ms; clock_type::now() < end;) asm volatile("" ::: "memory");
            });
        }
        mpg::task<void> watch = mpg::spawn([&] {
            for (int i = 0; i < 100; ++i) {
                most = std::max<std::size_t>(most, mpg::runtime::current()->stats().threads);
                mpg::sleep_for(5ms);
            }
        });
        ended.wait();
        watch.join();
    });
    EXPECT_LE(most, procs() * 8 + 64);
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

TEST(preempt_off, is_said) {
    mpg::options o;
    o.preempt_after = 0ms;
    std::string reason = mpg::run(o, [] { return mpg::runtime::current()->stats().preemption_reason; });
    EXPECT_NE(reason, "");
}

} // namespace
