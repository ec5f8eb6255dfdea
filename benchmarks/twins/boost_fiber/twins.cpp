// The twins of the benchmarks in Boost.Fiber, where it has the operation: same names, same definitions of one
// iteration. How the program is used: twin.hpp.
//
// procs 1 is its round-robin scheduler on one thread, procs 2 its shared_work on two. Its buffered_channel
// wants a power of two as its capacity and holds one less: we take the next above what the case says.
#include "../twin.hpp"

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

template <class Channel> void ping_pong(Channel& ping, Channel& pong, std::int64_t n) {
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

void condition_variable(std::int64_t n) {
    fibers::mutex m;
    fibers::condition_variable changed;
    int turn = 0;
    auto play = [&](int mine) {
        for (std::int64_t k = 0; k < n; ++k) {
            std::unique_lock lock(m);
            changed.wait(lock, [&] { return turn == mine; });
            turn = 1 - mine;
            changed.notify_one();
        }
    };
    fiber other(play, 1);
    play(0);
    other.join();
}

void sleep_storm(std::int64_t) {
    std::vector<fiber> all;
    for (int i = 0; i < 10'000; ++i) {
        all.emplace_back([] {
            for (int k = 0; k < 20; ++k) boost::this_fiber::sleep_for(std::chrono::milliseconds(1));
        });
    }
    for (auto& f : all) f.join();
}

const std::vector<twin::benchmark> all = {
    {"task/yield", yield},
    {"task/spawn_wait", spawn_wait},
    {"task/spawn_join", spawn_join},
    {"chan/ping_pong/cap:0",
     [](std::int64_t n) {
         fibers::unbuffered_channel<int> ping, pong;
         ping_pong(ping, pong, n);
     }},
    {"chan/ping_pong/cap:1",
     [](std::int64_t n) {
         fibers::buffered_channel<int> ping(2), pong(2);
         ping_pong(ping, pong, n);
     }},
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
    {"chan/prod_cons/cap:1000",
     [](std::int64_t n) {
         fibers::buffered_channel<int> c(1024);
         prod_cons(c, n);
     }},
    {"chan/mpmc/cap:100", mpmc},
    {"sync/mutex/uncontended", mutex_uncontended},
    {"sync/mutex/contended", mutex_contended},
    {"sync/condition_variable/ping_pong", condition_variable},
    {"program/sleep_storm", sleep_storm, 1},
};

/// f on the main fiber of a set of `procs` threads that share their fibers.
void with_threads(int procs, const std::function<void()>& f) {
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
        f();
        std::lock_guard guard(m);
        done = true;
        changed.notify_all();
    });
    first.join();
    for (auto& t : threads) t.join();
}

} // namespace

int main(int argc, char** argv) { return twin::main(argc, argv, all, with_threads); }
