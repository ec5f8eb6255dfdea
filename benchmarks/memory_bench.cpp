// Resident memory of a task, of a million. Twin: twins/go/memory.go.
//
// The figure is the counter `bytes`, not the time: growth of the resident set, divided by the number of
// tasks. The counter `page_tables` is the growth of the page tables, which no resident set shows. Run one
// case a process (with
// --benchmark_filter, as compare.py does): a second case would find memory that the first one has left in
// malloc.
#include "support.hpp"

#include <mpg/chan.hpp>
#include <mpg/sync.hpp>
#include <mpg/task.hpp>

#include <fstream>
#include <string>

namespace {

constexpr std::int64_t tasks = 1'000'000;

struct memory {
    double resident = 0, page_tables = 0;
};

memory now() {
    memory m;
    std::ifstream status("/proc/self/status");
    for (std::string word; status >> word;) {
        if (word == "VmRSS:") status >> m.resident;
        if (word == "VmPTE:") status >> m.page_tables;
    }
    m.resident *= 1024;
    m.page_tables *= 1024;
    return m;
}

void report(benchmark::State& state, memory before, memory after) {
    state.counters["bytes"] = (after.resident - before.resident) / tasks;
    state.counters["page_tables"] = (after.page_tables - before.page_tables) / tasks;
}

template <class Create> void count(benchmark::State& state, mpg::options o, Create create) {
    mpg::run(o, [&] {
        memory before = now();
        while (state.KeepRunningBatch(state.max_iterations)) create();
        report(state, before, now());
    });
}

template <class Case> bool add(const std::string& name, unsigned procs, Case run) {
    benchmark::RegisterBenchmark((name + "/procs:" + std::to_string(procs)).c_str(), run)
        ->UseRealTime()
        ->MeasureProcessCPUTime()
        ->Iterations(1)
        ->Unit(benchmark::kMillisecond);
    return true;
}

// A task that waits for a channel: its record, its stack as far as touched, its place in the queue.
void blocked_task(benchmark::State& state, unsigned procs) {
    mpg::chan<void> never;
    mpg::wait_group started;
    started.add(tasks);
    count(state, bench::with_procs(procs), [&] {
        for (std::int64_t i = 0; i < tasks; ++i) {
            mpg::go([&started, never] {
                started.done();
                never.recv();
            });
        }
        started.wait();
    });
}
const bool blocked_1 = add("memory/blocked_task", 1, [](benchmark::State& s) { blocked_task(s, 1); });
const bool blocked_2 = add("memory/blocked_task", 2, [](benchmark::State& s) { blocked_task(s, 2); });

// A task that was created and has not run: one P, whose only task does not let go of it.
const bool unstarted = add("memory/unstarted_task", 1, [](benchmark::State& state) {
    mpg::options o = bench::with_procs(1);
    o.preempt_after = std::chrono::nanoseconds(0);
    count(state, o, [] {
        for (std::int64_t i = 0; i < tasks; ++i) mpg::go([] {});
    });
});

} // namespace
