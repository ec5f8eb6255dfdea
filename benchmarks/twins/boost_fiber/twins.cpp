// The twins of the benchmarks in Boost.Fiber, where it has the operation: same names, same definitions of one
// iteration. The program is used as the one in Go is: -list, -filter REGEX, -min-time 0.5s; it prints
// "name,ns".
//
// procs 1 is its round-robin scheduler on one thread, procs 2 its shared_work on two. Its buffered_channel
// wants a power of two as its capacity and holds one less: we take the next above what the case says.
#include <boost/fiber/algo/shared_work.hpp>
#include <boost/fiber/all.hpp>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <optional>
#include <regex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace {

namespace fibers = boost::fibers;
using fibers::fiber;

std::int64_t share(std::int64_t n, int index, int tasks) { return n / tasks + (index < n % tasks ? 1 : 0); }

void yield(std::int64_t n) {
    std::vector<fiber> all;
    for (int i = 0; i < 2; ++i) {
        all.emplace_back([count = share(n, i, 2)] {
            for (std::int64_t k = 0; k < count; ++k) boost::this_fiber::yield();
        });
    }
    for (auto& f : all) f.join();
}

void spawn_wait(std::int64_t n) {
    for (std::int64_t left = n; left > 0; left -= 1000) {
        std::vector<fiber> batch;
        for (std::int64_t k = 0; k < std::min<std::int64_t>(left, 1000); ++k) batch.emplace_back([] {});
        for (auto& f : batch) f.join();
    }
}

void spawn_join(std::int64_t n) {
    for (std::int64_t k = 0; k < n; ++k) fiber([] {}).join();
}

void ping_pong(std::int64_t n) {
    fibers::unbuffered_channel<int> ping, pong;
    fiber echo([&] {
        for (int v : ping) pong.push(v);
    });
    for (std::int64_t k = 0; k < n; ++k) {
        ping.push(1);
        pong.value_pop();
    }
    ping.close();
    echo.join();
}

void uncontended(std::int64_t n) {
    fibers::buffered_channel<int> c(128);
    int v;
    for (std::int64_t left = n; left > 0; left -= 100) {
        auto batch = std::min<std::int64_t>(left, 100);
        for (std::int64_t k = 0; k < batch; ++k) c.push(0);
        for (std::int64_t k = 0; k < batch; ++k) c.pop(v);
    }
}

template <class Channel> void prod_cons(Channel& c, std::int64_t n) {
    fiber producer([&] {
        for (std::int64_t k = 0; k < n; ++k) c.push(1);
        c.close();
    });
    int v;
    while (c.pop(v) == fibers::channel_op_status::success) {
    }
    producer.join();
}

void mpmc(std::int64_t n) {
    fibers::buffered_channel<int> c(128);
    std::vector<fiber> all;
    for (int i = 0; i < 50; ++i) {
        all.emplace_back([&, count = share(n, i, 50)] {
            for (std::int64_t k = 0; k < count; ++k) c.push(1);
        });
        all.emplace_back([&, count = share(n, i, 50)] {
            int v;
            for (std::int64_t k = 0; k < count; ++k) c.pop(v);
        });
    }
    for (auto& f : all) f.join();
}

void mutex_contended(std::int64_t n) {
    fibers::mutex m;
    std::vector<fiber> all;
    std::int64_t count = 0;
    for (int i = 0; i < 8; ++i) {
        all.emplace_back([&, rounds = share(n, i, 8)] {
            for (std::int64_t k = 0; k < rounds; ++k) {
                std::lock_guard guard(m);
                ++count;
            }
        });
    }
    for (auto& f : all) f.join();
}

void mutex_uncontended(std::int64_t n) {
    fibers::mutex m;
    for (std::int64_t k = 0; k < n; ++k) std::lock_guard guard(m);
}

struct benchmark {
    std::string name;
    std::function<void(std::int64_t)> run;
};

const std::vector<benchmark> all = {
    {"task/yield", yield},
    {"task/spawn_wait", spawn_wait},
    {"task/spawn_join", spawn_join},
    {"chan/ping_pong/cap:0", ping_pong},
    {"chan/uncontended/cap:100", uncontended},
    {"chan/prod_cons/cap:0",
     [](std::int64_t n) {
         fibers::unbuffered_channel<int> c;
         prod_cons(c, n);
     }},
    {"chan/prod_cons/cap:10",
     [](std::int64_t n) {
         fibers::buffered_channel<int> c(16);
         prod_cons(c, n);
     }},
    {"chan/prod_cons/cap:100",
     [](std::int64_t n) {
         fibers::buffered_channel<int> c(128);
         prod_cons(c, n);
     }},
    {"chan/mpmc/cap:100", mpmc},
    {"sync/mutex/uncontended", mutex_uncontended},
    {"sync/mutex/contended", mutex_contended},
};

double measure(const benchmark& b, double min_seconds) {
    for (std::int64_t n = 1;;) {
        auto begin = std::chrono::steady_clock::now();
        b.run(n);
        double took = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
        if (took >= min_seconds || n >= 1'000'000'000) return took * 1e9 / static_cast<double>(n);
        n = took > min_seconds / 10
                ? static_cast<std::int64_t>(1.4 * static_cast<double>(n) * min_seconds / took) + 1
                : n * 10;
    }
}

/// f on the main fiber of a set of `procs` threads that share their fibers.
double with_threads(int procs, const std::function<double()>& f) {
    double result = 0;
    fibers::mutex m;
    fibers::condition_variable_any changed;
    bool done = false;
    auto schedule = [&] {
        if (procs > 1) fibers::use_scheduling_algorithm<fibers::algo::shared_work>();
    };
    std::vector<std::thread> threads;
    for (int p = 1; p < procs; ++p) {
        threads.emplace_back([&] {
            schedule();
            std::unique_lock lock(m);
            changed.wait(lock, [&] { return done; });
        });
    }
    std::thread first([&] {
        schedule();
        result = f();
        std::lock_guard guard(m);
        done = true;
        changed.notify_all();
    });
    first.join();
    for (auto& t : threads) t.join();
    return result;
}

} // namespace

int main(int argc, char** argv) {
    bool list = false;
    std::string filter;
    double min_seconds = 0.5;
    for (int i = 1; i < argc; ++i) {
        std::string_view argument = argv[i];
        if (argument == "-list")
            list = true;
        else if (argument == "-filter" && i + 1 < argc)
            filter = argv[++i];
        else if (argument == "-min-time" && i + 1 < argc)
            min_seconds = std::atof(argv[++i]);
        else
            return std::fprintf(stderr, "usage: %s [-list] [-filter REGEX] [-min-time SECONDS]\n", argv[0]),
                   2;
    }
    const std::regex wanted(filter);
    for (auto& b : all) {
        for (int procs : {1, 2}) {
            std::string name = b.name + "/procs:" + std::to_string(procs);
            if (!std::regex_search(name, wanted)) continue;
            if (list)
                std::printf("%s\n", name.c_str());
            else
                std::printf("%s,%g\n", name.c_str(),
                            with_threads(procs, [&] { return measure(b, min_seconds); }));
            std::fflush(stdout);
        }
    }
}
