// Resident memory of a task, of so many. Twin: twins/go/memory.go.
//
// The figure is the counter `bytes`, not the time: growth of the resident set, divided by the number of
// tasks. The counter `page_tables` is the growth of the page tables, which no resident set shows. Run one
// case a process (with --benchmark_filter, as scripts/bench does): a second case would find memory that the
// first one has left in malloc.
#include "support.hpp"

#include <mpg/chan.hpp>
#include <mpg/sync.hpp>
#include <mpg/task.hpp>

#include <fstream>
#include <string>

namespace {

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

void report(benchmark::State& state, memory before, memory after, std::int64_t tasks) {
    const auto n = static_cast<double>(tasks);
    state.counters["bytes"] = (after.resident - before.resident) / n;
    state.counters["page_tables"] = (after.page_tables - before.page_tables) / n;
}

template <class Create>
void count(benchmark::State& state, mpg::options o, std::int64_t tasks, Create create) {
    mpg::run(o, [&] {
        memory before = now();
        while (state.KeepRunningBatch(state.max_iterations)) create();
        report(state, before, now(), tasks);
    });
}

template <class Case> bool add(const std::string& name, std::int64_t tasks, unsigned procs, Case run) {
    const std::string full = name + "/tasks:" + std::to_string(tasks) + "/procs:" + std::to_string(procs);
    benchmark::RegisterBenchmark(full.c_str(), [=](benchmark::State& state) { run(state, tasks, procs); })
        ->UseRealTime()
        ->MeasureProcessCPUTime()
        ->Iterations(1)
        ->Unit(benchmark::kMillisecond);
    return true;
}

// A task that waits for a channel: its record, its stack as far as touched, its place in the queue.
void blocked_task(benchmark::State& state, std::int64_t tasks, unsigned procs) {
    mpg::chan<void> never;
    mpg::wait_group started;
    started.add(tasks);
    count(state, bench::with_procs(procs), tasks, [&] {
        for (std::int64_t i = 0; i < tasks; ++i) {
            mpg::go([&started, never] {
                started.done();
                never.recv();
            });
        }
        started.wait();
    });
}
const bool blocked = [] {
    for (unsigned procs : bench::all_procs)
        for (int tasks : {10'000, 100'000, 1'000'000}) add("memory/blocked_task", tasks, procs, blocked_task);
    return true;
}();

// A task that was created and has not run: one P, whose only task does not let go of it.
void unstarted_task(benchmark::State& state, std::int64_t tasks, unsigned procs) {
    mpg::options o = bench::with_procs(procs);
    o.preempt_after = std::chrono::nanoseconds(0);
    count(state, o, tasks, [=] {
        for (std::int64_t i = 0; i < tasks; ++i) mpg::go([] {});
    });
}
const bool unstarted = add("memory/unstarted_task", 1'000'000, 1, unstarted_task);

} // namespace
