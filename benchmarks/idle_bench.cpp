// What a process costs that has nothing to do: 64 Ps, all idle. Twin: twins/go/idle.go.
//
// The figures are the counters: `cpu_percent` of one CPU, and `wakes`, the voluntary context switches of all
// threads, a second. The observing thread's own few switches (one a case) are in them.
#include "support.hpp"

#include <mpg/chan.hpp>
#include <mpg/runtime.hpp>

#include <chrono>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>
#include <thread>

namespace {

double cpu_seconds() {
    ::timespec t;
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

double wakes() {
    double sum = 0;
    std::error_code ignored;
    for (auto& thread : std::filesystem::directory_iterator("/proc/self/task", ignored)) {
        std::ifstream status(thread.path() / "status");
        double n = 0;
        for (std::string word; status >> word;)
            if (word == "voluntary_ctxt_switches:" && status >> n) sum += n;
    }
    return sum;
}

void idle(benchmark::State& state) {
    mpg::runtime rt(bench::with_procs(64));
    mpg::chan<int> work(64);
    mpg::chan<void> quiet;
    // All Ps have had work once; then their tasks wait for more, which does not come.
    for (int i = 0; i < 256; ++i) {
        rt.go([work, quiet] {
            work.recv();
            quiet.recv();
        });
    }
    for (int i = 0; i < 256; ++i) work.send(i);
    std::this_thread::sleep_for(std::chrono::seconds(1)); // until spinning has ended: part of the definition
    double cpu = cpu_seconds(), woken = wakes();
    constexpr double seconds = 5;
    while (state.KeepRunningBatch(state.max_iterations))
        std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
    state.counters["cpu_percent"] = 100 * (cpu_seconds() - cpu) / seconds;
    state.counters["wakes"] = (wakes() - woken) / seconds;
    quiet.close();
}

const bool registered = [] {
    benchmark::RegisterBenchmark("idle/procs:64", idle)
        ->UseRealTime()
        ->MeasureProcessCPUTime()
        ->Iterations(1);
    return true;
}();

} // namespace
