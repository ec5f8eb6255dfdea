// Throughput on loopback. Twins: twins/go/echo, twins/go/health, and whatever else $MPG_BENCH_ECHO and
// $MPG_BENCH_SERVER name.
//
// The server is a process of its own: for echo this program again (`net_bench --serve`), for /healthz the
// health server. With procs 1 it has CPU 0 and the client CPU 1; with more nothing is confined. A case runs
// for two seconds after a warm-up. The time of an iteration is wall time a request; what counts are the
// counters: `rate`, requests a second; `cpu_us`, CPU time of the server a request; `p99_us`.
#include "load.hpp"
#include "server_process.hpp"

#include <benchmark/benchmark.h>
#include <mpg/net.hpp>
#include <mpg/runtime.hpp>
#include <mpg/task.hpp>

#include <array>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <iostream>
#include <memory>
#include <optional>
#include <span>
#include <thread>

namespace {

// --- the server
// -----------------------------------------------------------------------------------------------------

void echo(mpg::net::tcp_stream stream) {
    std::array<std::byte, 4096> buffer;
    for (;;) {
        auto n = stream.read(buffer);
        if (!n || *n == 0 || !stream.write(std::span(buffer).first(*n))) return;
    }
}

int serve(std::string_view address, unsigned procs) {
    mpg::options o;
    o.procs = procs;
    return mpg::run(o, [&] {
        auto listener = mpg::net::tcp_listener::bind(address);
        if (!listener) return std::cerr << listener.error().message() << '\n', 1;
        for (;;) {
            auto stream = listener->accept();
            if (!stream) return std::cerr << stream.error().message() << '\n', 1;
            mpg::go(echo, std::move(*stream));
        }
    });
}

// --- the client
// -----------------------------------------------------------------------------------------------------

void measure(benchmark::State& state, const std::string& program, std::vector<std::string> arguments,
             std::string_view request, char last, int connections, unsigned procs) {
    const bool confined = procs == 1 && std::thread::hardware_concurrency() > 1;
    std::unique_ptr<bench::server_process> server;
    std::optional<bench::on_cpu> cpu;
    if (confined) cpu.emplace(0);
    server = std::make_unique<bench::server_process>(program, std::move(arguments), procs);
    cpu.reset();
    if (confined) cpu.emplace(1);
    std::vector<int> all;
    std::size_t answer = 0;
    for (int i = 0; i < connections; ++i) {
        all.push_back(server->connect());
        if (all.back() >= 0) answer = bench::ask(all.back(), request, last).size();
        if (all.back() < 0 || answer == 0) return state.SkipWithError("the server did not answer");
    }
    try {
        bench::load(all, request, answer).run(std::chrono::milliseconds(200));
        for (int& fd : all) { // what the warm-up has left unanswered goes with its connection
            ::close(fd);
            fd = server->connect();
        }
        bench::load load(all, request, answer);
        for (auto _ : state) {
            const double cpu_before = server->cpu_seconds();
            const bench::load_result r = load.run(std::chrono::seconds(2));
            state.SetIterationTime(r.seconds / r.requests);
            state.counters["rate"] = r.requests / r.seconds;
            state.counters["cpu_us"] = 1e6 * (server->cpu_seconds() - cpu_before) / r.requests;
            state.counters["p99_us"] = r.p99_us;
        }
    } catch (const std::exception& e) {
        state.SkipWithError(e.what());
    }
    for (int fd : all) ::close(fd);
}

void add(const std::string& name, int connections, unsigned procs, bool http) {
    auto run = [=](benchmark::State& state) {
        static const std::string line = std::string(63, 'x') + '\n';
        const char* other = std::getenv("MPG_BENCH_ECHO");
        if (http)
            measure(state, bench::health_server(), {}, bench::get_healthz, '\n', connections, procs);
        else if (other)
            measure(state, other, {}, line, '\n', connections, procs);
        else
            measure(state, bench::this_program(), {"--serve"}, line, '\n', connections, procs);
    };
    const std::string full =
        name + "/connections:" + std::to_string(connections) + "/procs:" + std::to_string(procs);
    benchmark::RegisterBenchmark(full.c_str(), run)->UseManualTime()->Iterations(1);
}

} // namespace

int main(int argc, char** argv) {
    if (argc == 6 &&
        std::string_view(argv[1]) == "--serve") // --addr A --procs N, as server_process gives them
        return serve(argv[3], static_cast<unsigned>(std::atoi(argv[5])));
    for (unsigned procs : {1u, 2u})
        for (int connections : {64, 512}) add("net/echo", connections, procs, false);
    for (int connections : {64, 256}) add("net/healthz", connections, 1, true);
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
    benchmark::RunSpecifiedBenchmarks();
}
