// What it costs that a context ends operations of sockets.
//
// The figures are the counters: the CPU time of the process, all threads, from the cancel to the return of the last
// operation, in us; the least and the median of the rounds. Nothing else runs meanwhile. `cold`: what the processor keeps of
// memory (but for the last level, which may be shared and large) has been taken by other memory just before.
#include "support.hpp"

#include <mpg/context.hpp>
#include <mpg/net.hpp>
#include <mpg/sync.hpp>
#include <mpg/time.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <ctime>
#include <exception>
#include <span>
#include <string>
#include <sys/resource.h>
#include <utility>
#include <vector>

namespace {

using mpg::net::tcp_stream;

constexpr int operations = 1000, rounds = 41;

double cpu_us() {
    ::timespec t;
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return 1e6 * static_cast<double>(t.tv_sec) + 1e-3 * static_cast<double>(t.tv_nsec);
}

std::vector<std::pair<tcp_stream, tcp_stream>> connections(int n) {
    ::rlimit files{};
    ::getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = std::min<::rlim_t>(files.rlim_max, 4096);
    ::setrlimit(RLIMIT_NOFILE, &files);
    std::vector<std::pair<tcp_stream, tcp_stream>> all;
    auto listener = mpg::net::tcp_listener::bind("127.0.0.1:0");
    for (int i = 0; i != n; ++i) {
        auto near = tcp_stream::connect(listener->local_endpoint());
        auto far = listener->accept();
        if (!near || !far) std::abort();
        all.emplace_back(std::move(*near), std::move(*far));
    }
    return all;
}

/// Writes to each line of more memory than a second level holds, and to more pages than it has translations for.
void take_caches() {
    static std::vector<char> other(64u << 20);
    for (std::size_t i = 0; i < other.size(); i += 64) ++other[i];
    benchmark::ClobberMemory();
}

// One iteration: a thousand reads, each of a socket of its own, end because of one context.
void cancel(benchmark::State& state, unsigned procs, mpg::netpoll poller, bool cold) {
    auto o = bench::with_procs(procs);
    o.backend = poller;
    std::vector<double> took;
    mpg::run(o, [&] {
        auto all = connections(operations / 2);
        while (state.KeepRunning()) {
            auto ctx = mpg::with_cancel(mpg::context::background());
            mpg::wait_group reads;
            for (auto& [near, far] : all)
                for (tcp_stream* s : {&near, &far})
                    reads.go([&ctx, s] {
                        std::byte one;
                        if (s->read(std::span(&one, 1), ctx).error() != mpg::errc::cancelled) std::abort();
                    });
            // Until all wait, and what was to be told to the kernel has been.
            while (mpg::runtime::current()->stats().tasks_waiting < operations) mpg::yield();
            mpg::sleep_for(std::chrono::milliseconds(1));
            if (cold) take_caches();
            const double before = cpu_us();
            ctx.cancel();
            reads.wait();
            took.push_back(cpu_us() - before);
        }
    });
    std::sort(took.begin(), took.end());
    state.counters["least_cpu_us"] = took.front();
    state.counters["cpu_us"] = took[took.size() / 2];
}

const bool registered = [] {
    for (const auto& [name, poller] : {std::pair("io_uring", mpg::netpoll::io_uring), std::pair("epoll", mpg::netpoll::epoll)})
        for (const bool cold : {false, true})
            for (unsigned n : bench::all_procs)
                benchmark::RegisterBenchmark(("net/cancel/" + std::string(name) + "/operations:1000" + (cold ? "/cold" : "") +
                                              "/procs:" + std::to_string(n)).c_str(),
                                             [n, poller, cold](benchmark::State& state) {
                                                 try {
                                                     cancel(state, n, poller, cold);
                                                 } catch (const std::exception& e) { // the system has no such poller
                                                     state.SkipWithError(e.what());
                                                 }
                                             })
                    ->UseRealTime()
                    ->MeasureProcessCPUTime()
                    ->Iterations(bench::fixed_iterations() ? bench::fixed_iterations() : rounds);
    return true;
}();

} // namespace
