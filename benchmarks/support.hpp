// What every benchmark shares: how a case is named, registered and measured.
//
// Google Benchmark calls a case on a plain thread; what we measure happens in tasks. So the plain thread
// starts a runtime and the *main task* runs the clock: `while (state.KeepRunningBatch(n)) body(n);` reads it
// once before and once after n iterations, in the task, and body repeats the operation in a loop of its own.
// Against the other forms:
//   - `for (auto _ : state)` around a whole mpg::run would measure the start and the end of a runtime;
//   - manual time would need the same two readings, and loses the CPU time;
//   - one KeepRunning() per operation costs a decrement and a branch of memory that the task shares with
//   nobody,
//     but fixes the shape: with a batch, body may spread its n iterations over several tasks, as Go's b.N
//     does.
// The twins in Go do exactly this with b.N, so that both sides carry the same overhead: a loop counter.
//
// Time is wall time. CPU time is that of the whole process (a task may end on another thread than it began
// on), so that spinning shows. Google Benchmark appends `/process_time/real_time` and `/iterations:1` to the
// names; suite/rivals.py takes them off again.
#pragma once

#include "record.hpp"

#include <benchmark/benchmark.h>
#include <mpg/runtime.hpp>

#include <cstdint>
#include <cstdlib>
#include <string>

namespace bench {

/// The numbers of Ps with which each case runs.
inline constexpr unsigned all_procs[] = {1, 2};

inline mpg::options with_procs(unsigned n) {
    mpg::options o;
    o.procs = n;
    record_if_asked(o);
    return o;
}

/// Runs body(n), n iterations, as the main task of a runtime, between two readings of the clock.
template <class Body> void measure(benchmark::State& state, mpg::options o, Body body) {
    mpg::run(o, [&] {
        while (state.KeepRunningBatch(state.max_iterations))
            body(static_cast<std::int64_t>(state.max_iterations));
    });
}

/// $MPG_BENCH_ITERATIONS: an operation runs so often and no more, for tools that count instead of taking
/// time; 0 when it is not set.
inline std::int64_t fixed_iterations() {
    const char* given = std::getenv("MPG_BENCH_ITERATIONS");
    return given ? std::atoll(given) : 0;
}

/// Registers `name/procs:N` for each number of Ps. prepare: what must stand before the clock starts, and
/// stands until it has stopped; body: void(its result&, std::int64_t n, unsigned procs), n iterations.
template <class Prepare, class Body> bool operation(const std::string& name, Prepare prepare, Body body) {
    for (unsigned n : all_procs) {
        auto run = [=](benchmark::State& state) {
            mpg::run(with_procs(n), [&] {
                auto prepared = prepare();
                while (state.KeepRunningBatch(state.max_iterations))
                    body(prepared, static_cast<std::int64_t>(state.max_iterations), n);
            });
        };
        auto* registered = benchmark::RegisterBenchmark((name + "/procs:" + std::to_string(n)).c_str(), run)
                               ->UseRealTime()
                               ->MeasureProcessCPUTime();
        if (auto fixed = fixed_iterations()) registered->Iterations(fixed);
    }
    return true;
}

/// The same where nothing must be prepared. body: void(std::int64_t n, unsigned procs).
template <class Body> bool operation(const std::string& name, Body body) {
    return operation(
        name, [] { return 0; }, [=](int, std::int64_t n, unsigned procs) { body(n, procs); });
}

/// As operation, for a whole program that cannot be cut into smaller pieces: body: void(unsigned procs) runs
/// once and counts as `iterations` of them; with 1 the result is its wall time in ms.
template <class Body> bool program(const std::string& name, Body body, std::int64_t iterations = 1) {
    for (unsigned n : all_procs) {
        auto run = [=](benchmark::State& state) {
            measure(state, with_procs(n), [&](std::int64_t) { body(n); });
        };
        benchmark::RegisterBenchmark((name + "/procs:" + std::to_string(n)).c_str(), run)
            ->UseRealTime()
            ->MeasureProcessCPUTime()
            ->Iterations(iterations)
            ->Unit(iterations == 1 ? benchmark::kMillisecond : benchmark::kNanosecond);
    }
    return true;
}

/// The share of task `index` of n iterations spread over `tasks` of them.
constexpr std::int64_t share(std::int64_t n, unsigned index, unsigned tasks) {
    return n / tasks + (static_cast<std::int64_t>(index) < n % tasks ? 1 : 0);
}

} // namespace bench
