// What the twins in C++ share: the command line and the clock. A twin is used as the one in Go is:
//
//   twin --list                        names, one a line
//   twin --run NAME --min-time 0.5     measures that case and prints its figures, "name,value" a line
//
// An operation runs with growing n until it takes --min-time, as testing.B and Google Benchmark do it; a
// program runs once. Figures: time and cpu (of the whole process), in ns an iteration.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace twin {

struct benchmark {
    std::string name;
    std::function<void(std::int64_t n)> run;
    std::int64_t iterations = 0; // of a program; 0: an operation
};

/// Runs its argument where the operations must run, with so many threads.
using with_threads = void (*)(int procs, const std::function<void()>&);

inline double cpu_ns() {
    ::timespec t;
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return 1e9 * static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec);
}

inline void measure(const benchmark& b, double min_seconds) {
    for (std::int64_t n = b.iterations ? b.iterations : 1;;) {
        const double cpu_before = cpu_ns();
        const auto begin = std::chrono::steady_clock::now();
        b.run(n);
        const double took = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
        const auto count = static_cast<double>(n);
        if (took >= min_seconds || n >= 1'000'000'000 || b.iterations) {
            std::printf("time,%g\ncpu,%g\n", took * 1e9 / count, (cpu_ns() - cpu_before) / count);
            return;
        }
        n = took > min_seconds / 10 ? static_cast<std::int64_t>(1.4 * count * min_seconds / took) + 1
                                    : n * 10;
    }
}

/// A main(): its exit status.
inline int main(int argc, char** argv, const std::vector<benchmark>& all, with_threads run) {
    bool list = false;
    std::string wanted;
    double min_seconds = 0.5;
    for (int i = 1; i < argc; ++i) {
        const std::string_view argument = argv[i];
        if (argument == "--list")
            list = true;
        else if (argument == "--run" && i + 1 < argc)
            wanted = argv[++i];
        else if (argument == "--min-time" && i + 1 < argc)
            min_seconds = std::atof(argv[++i]);
        else
            return std::fprintf(stderr, "usage: %s --list | --run NAME [--min-time SECONDS]\n", argv[0]), 2;
    }
    for (auto& b : all) {
        for (int procs : {1, 2}) {
            const std::string name = b.name + "/procs:" + std::to_string(procs);
            if (list)
                std::printf("%s\n", name.c_str());
            else if (name == wanted)
                return run(procs, [&] { measure(b, min_seconds); }), 0;
        }
    }
    if (list) return 0;
    return std::fprintf(stderr, "no case %s\n", wanted.c_str()), 2;
}

} // namespace twin
