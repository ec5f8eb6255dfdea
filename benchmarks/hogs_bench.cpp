// Tasks that compute and never call the library, more of them than there are Ps. Twin: twins/go/hogs.go.
//
// The figures are counters, not the time; a run of a case takes seconds, whatever --benchmark_min_time says.
#include "support.hpp"

#include <mpg/sync.hpp>
#include <mpg/task.hpp>
#include <mpg/time.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <ctime>
#include <limits>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace std::chrono_literals;
using clock_type = std::chrono::steady_clock;

constexpr unsigned hogs_per_proc = 4;

/// A counter for each hog, on a cache line of its own.
struct alignas(64) turns {
    std::atomic<std::uint64_t> n{0};
};

/// Runs observe() beside the hogs, once all of them have begun, and returns how often each of them went round.
template <class Observe> std::vector<std::uint64_t> beside_hogs(unsigned procs, Observe observe) {
    std::atomic<bool> on{true};
    std::vector<turns> counts(hogs_per_proc * procs);
    mpg::wait_group ended;
    for (turns& mine : counts) {
        ended.go([&] {
            while (on.load(std::memory_order_relaxed)) mine.n.fetch_add(1, std::memory_order_relaxed);
        });
    }
    for (const turns& one : counts)
        while (one.n == 0) mpg::sleep_for(1ms);
    std::vector<std::uint64_t> result;
    for (const turns& one : counts) result.push_back(one.n);
    observe();
    on = false;
    ended.wait();
    for (std::size_t i = 0; i < counts.size(); ++i) result[i] = counts[i].n - result[i];
    return result;
}

void add(const std::string& name, void (*run)(benchmark::State&, unsigned procs)) {
    for (unsigned procs : bench::all_procs)
        benchmark::RegisterBenchmark((name + "/procs:" + std::to_string(procs)).c_str(),
                                     [=](benchmark::State& state) { run(state, procs); })
            ->UseRealTime()
            ->MeasureProcessCPUTime()
            ->Iterations(1)
            ->Unit(benchmark::kMillisecond);
}

// A task wakes every 10 ms, 300 times, at times that are fixed beforehand: how late it is. One that is late by more than
// a period is late for the next one, too.
void tick(benchmark::State& state, unsigned procs) {
    constexpr std::size_t ticks = 300;
    std::vector<double> late;
    bench::measure(state, bench::with_procs(procs), [&](std::int64_t) {
        beside_hogs(procs, [&] {
            auto due = clock_type::now();
            for (std::size_t i = 0; i < ticks; ++i) {
                due += 10ms;
                mpg::sleep_until(due);
                late.push_back(std::chrono::duration<double, std::milli>(clock_type::now() - due).count());
            }
        });
    });
    std::sort(late.begin(), late.end());
    state.counters["p50_ms"] = late[ticks / 2];
    state.counters["p99_ms"] = late[ticks * 99 / 100];
    state.counters["max_ms"] = late.back();
}

// Two seconds: what the one who got most of the CPUs has got, as a multiple of what the one has got who got least.
void share(benchmark::State& state, unsigned procs) {
    std::vector<std::uint64_t> got;
    bench::measure(state, bench::with_procs(procs), [&](std::int64_t) {
        got = beside_hogs(procs, [] { mpg::sleep_for(2s); });
    });
    const auto [least, most] = std::minmax_element(got.begin(), got.end());
    state.counters["most_to_least"] = static_cast<double>(*most) / static_cast<double>(std::max<std::uint64_t>(*least, 1));
}

double cpu_seconds(::clockid_t of) {
    ::timespec t;
    ::clock_gettime(of, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

[[gnu::noinline]] void compute(std::uint64_t rounds) {
    for (std::uint64_t i = 0; i < rounds; ++i) asm volatile("" ::: "memory");
}

/// So many rounds of compute() are 50 ms of CPU.
std::uint64_t rounds_of_50ms() {
    constexpr std::uint64_t some = 20'000'000;
    double best = 1e9;
    for (int i = 0; i < 5; ++i) {
        const double begin = cpu_seconds(CLOCK_THREAD_CPUTIME_ID);
        compute(some);
        best = std::min(best, cpu_seconds(CLOCK_THREAD_CPUTIME_ID) - begin);
    }
    return static_cast<std::uint64_t>(0.050 / best * some);
}

struct batch_cost {
    double wall = 0, cpu = 0;
    std::size_t threads = 0;
};

/// So many tasks at once, each of which computes for 50 ms.
batch_cost run_batch(mpg::options o, unsigned tasks, std::uint64_t rounds) {
    batch_cost cost;
    mpg::run(o, [&] {
        mpg::runtime& rt = *mpg::runtime::current();
        std::atomic<bool> on{true};
        std::thread watch([&] {
            while (on) {
                cost.threads = std::max(cost.threads, rt.stats().threads);
                std::this_thread::sleep_for(2ms);
            }
        });
        const auto begin = clock_type::now();
        const double cpu = cpu_seconds(CLOCK_PROCESS_CPUTIME_ID);
        mpg::wait_group ended;
        for (unsigned i = 0; i < tasks; ++i) ended.go([=] { compute(rounds); });
        ended.wait();
        cost.wall = std::chrono::duration<double>(clock_type::now() - begin).count();
        cost.cpu = cpu_seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu;
        on = false;
        mpg::blocking([&] { watch.join(); });
    });
    return cost;
}

// A batch in eleven parts, each with preemption and then without: the largest number of threads, and what preemption costs in
// wall time and in CPU time. Others use the machine, too, and make parts longer, never shorter: so the shortest of each kind are
// compared. All 10,000 tasks, which are 500 s of CPU and as much again without preemption: MPG_BENCH_TASKS=10000.
void batch(benchmark::State& state, unsigned procs) {
    const char* given = std::getenv("MPG_BENCH_TASKS");
    const auto tasks = given ? static_cast<unsigned>(std::strtoul(given, nullptr, 10)) : 132;
    constexpr unsigned parts = 11;
    const std::uint64_t rounds = rounds_of_50ms();
    const double never = std::numeric_limits<double>::infinity();
    batch_cost with{never, never, 0}, without = with;
    const auto shortest = [](batch_cost& of, const batch_cost& part) {
        of = {std::min(of.wall, part.wall), std::min(of.cpu, part.cpu), std::max(of.threads, part.threads)};
    };
    while (state.KeepRunningBatch(state.max_iterations)) {
        for (unsigned part = 0; part < parts; ++part) {
            mpg::options o = bench::with_procs(procs);
            shortest(with, run_batch(o, std::max(tasks / parts, 1u), rounds));
            o.preempt_after = 0ms;
            shortest(without, run_batch(o, std::max(tasks / parts, 1u), rounds));
        }
    }
    state.counters["threads"] = static_cast<double>(with.threads);
    state.counters["loss_percent"] = 100 * (with.wall / without.wall - 1);
    state.counters["cpu_loss_percent"] = 100 * (with.cpu / without.cpu - 1);
}

/// CPU time of so many tasks at once, of which each computes for so long; how often one was preempted.
struct turn {
    double cpu = 0;
    std::uint64_t preemptions = 0;
};
turn run_turn(mpg::options o, unsigned tasks, std::uint64_t rounds) {
    turn t;
    mpg::run(o, [&] {
        const double begin = cpu_seconds(CLOCK_PROCESS_CPUTIME_ID);
        mpg::wait_group ended;
        for (unsigned i = 0; i < tasks; ++i) ended.go([=] { compute(rounds); });
        ended.wait();
        t.cpu = cpu_seconds(CLOCK_PROCESS_CPUTIME_ID) - begin;
        t.preemptions = mpg::runtime::current()->stats().preemptions;
    });
    return t;
}

// What one preemption costs in CPU time, and so which part of a slice of 10 ms. Slices of 200 us have fifty times as many, which
// stands out from all that makes a CPU faster or slower meanwhile. Short turns with and without, and the median of their
// differences: $MPG_BENCH_TURNS pairs, 100 when not set, of 4 tasks of 25 ms for each P.
void preemption(benchmark::State& state, unsigned procs) {
    const char* given = std::getenv("MPG_BENCH_TURNS");
    const auto pairs = std::max(given ? static_cast<unsigned>(std::strtoul(given, nullptr, 10)) : 100, 1u);
    const std::uint64_t rounds = rounds_of_50ms() / 2;
    mpg::options without = bench::with_procs(procs), with = without;
    with.preempt_after = 200us;
    without.preempt_after = 0ms;
    std::vector<double> each;
    std::uint64_t preemptions = 0;
    while (state.KeepRunningBatch(state.max_iterations)) {
        for (unsigned i = 0; i < pairs; ++i) {
            turn a, b;
            if (i % 2 == 0) a = run_turn(with, hogs_per_proc * procs, rounds);
            b = run_turn(without, hogs_per_proc * procs, rounds);
            if (i % 2 != 0) a = run_turn(with, hogs_per_proc * procs, rounds);
            preemptions += a.preemptions;
            if (a.preemptions != 0) each.push_back((a.cpu - b.cpu) / static_cast<double>(a.preemptions));
        }
    }
    if (each.empty()) return state.SkipWithError("nobody was preempted");
    std::sort(each.begin(), each.end());
    const auto us = [&](std::size_t part) { return 1e6 * each[std::min(each.size() * part / 4, each.size() - 1)]; };
    state.counters["us"] = us(2);
    state.counters["us_first_quarter"] = us(1);
    state.counters["us_third_quarter"] = us(3);
    state.counters["percent_of_10ms"] = us(2) / 10'000 * 100;
    state.counters["preemptions"] = static_cast<double>(preemptions);
}

const bool registered = (add("hogs/tick", tick), add("hogs/share", share), add("hogs/batch", batch),
                         add("hogs/preemption", preemption), true);

} // namespace
