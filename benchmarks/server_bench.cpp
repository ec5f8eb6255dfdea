// A health server as its operator sees it: time from exec to the first 200, resident memory with 64
// connections, size of the program. Which one: bench::health_server(); compare.py runs this once with ours
// and once with the twin's (twins/go/health).
#include "server_process.hpp"

#include <benchmark/benchmark.h>

#include <chrono>
#include <system_error>

namespace {

bool is_healthy(int fd) {
    return fd >= 0 && bench::ask(fd, bench::get_healthz, '\n').rfind("HTTP/1.1 200", 0) == 0;
}

// One iteration: exec, until a 200 for the first GET /healthz has come.
void first_200(benchmark::State& state) {
    for (auto _ : state) {
        const auto begin = std::chrono::steady_clock::now();
        bench::server_process server(bench::health_server(), {}, 0);
        const int fd = server.connect();
        const bool ok = is_healthy(fd);
        const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
        if (fd >= 0) ::close(fd);
        if (!ok) return state.SkipWithError("the server did not answer");
        state.SetIterationTime(took.count());
    }
}
BENCHMARK(first_200)
    ->Name("server/first_200")
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond)
    ->Iterations(50);

// 64 connections, each of which has made one request and stays open. The figure is the counter `mib`.
void resident(benchmark::State& state) {
    for (auto _ : state) {
        bench::server_process server(bench::health_server(), {}, 0);
        std::vector<int> connections;
        bool ok = true;
        for (int i = 0; ok && i < 64; ++i) {
            connections.push_back(server.connect());
            ok = is_healthy(connections.back());
        }
        state.counters["mib"] = server.resident_kib() / 1024;
        for (int fd : connections) ::close(fd);
        if (!ok) return state.SkipWithError("the server did not answer");
    }
}
BENCHMARK(resident)->Name("server/resident/connections:64")->Unit(benchmark::kMillisecond)->Iterations(1);

// The size of the program's file. The figure is the counter `bytes`.
void size(benchmark::State& state) {
    std::error_code error;
    for (auto _ : state)
        state.counters["bytes"] =
            static_cast<double>(std::filesystem::file_size(bench::health_server(), error));
    if (error) state.SkipWithError("no such server");
}
BENCHMARK(size)->Name("server/size")->Iterations(1);

} // namespace
