// Channels. Twin: twins/go/chan.go.
#include "support.hpp"

#include <mpg/chan.hpp>
#include <mpg/sync.hpp>
#include <mpg/task.hpp>

#include <cstddef>
#include <string>
#include <thread>

namespace {

// Receives and uses the value, in a register: as an optional it would be put together in memory first.
MPG_ALWAYS_INLINE void take(const mpg::chan<int>& c) {
    int v = *c.recv();
    benchmark::DoNotOptimize(v);
}

// One iteration: a round trip over two channels, to an echoing task and back.
bool ping_pong(std::size_t capacity) {
    return bench::operation("chan/ping_pong/cap:" + std::to_string(capacity), [=](std::int64_t n, unsigned) {
        mpg::chan<int> ping(capacity), pong(capacity);
        mpg::go([ping, pong] {
            while (auto v = ping.recv()) pong.send(*v);
        });
        for (std::int64_t k = 0; k < n; ++k) {
            ping.send(1);
            take(pong);
        }
        ping.close();
    });
}
const bool ping_pong_0 = ping_pong(0);
const bool ping_pong_1 = ping_pong(1);

// One iteration: the same round trip between a task and a thread that is none of the runtime's: each side
// finds the other one asleep, so this is what waking a thread costs, twice.
const bool wake_thread = bench::operation("wake/thread", [](std::int64_t n, unsigned) {
    mpg::chan<int> ping, pong;
    std::thread other([ping, pong] {
        while (auto v = ping.recv()) pong.send(*v);
    });
    for (std::int64_t k = 0; k < n; ++k) {
        ping.send(1);
        take(pong);
    }
    ping.close();
    mpg::blocking([&] { other.join(); });
});

// One iteration: a send and a receive, all by one task: the channel is filled, then emptied, 100 at a time.
const bool uncontended = bench::operation("chan/uncontended/cap:100", [](std::int64_t n, unsigned) {
    mpg::chan<int> c(100);
    for (std::int64_t left = n; left > 0; left -= 100) {
        std::int64_t batch = left < 100 ? left : 100;
        for (std::int64_t k = 0; k < batch; ++k) c.send(0);
        for (std::int64_t k = 0; k < batch; ++k) take(c);
    }
});

// One iteration: one item from one producer to one consumer.
bool prod_cons(std::size_t capacity) {
    return bench::operation("chan/prod_cons/cap:" + std::to_string(capacity), [=](std::int64_t n, unsigned) {
        mpg::chan<int> c(capacity);
        mpg::go([c, n] {
            for (std::int64_t k = 0; k < n; ++k) c.send(1);
            c.close();
        });
        std::int64_t sum = 0;
        while (auto v = c.recv()) sum += *v;
        benchmark::DoNotOptimize(sum);
    });
}
const bool prod_cons_0 = prod_cons(0);
const bool prod_cons_10 = prod_cons(10);
const bool prod_cons_100 = prod_cons(100);
const bool prod_cons_1000 = prod_cons(1000);

// One iteration: one send and one receive. As Go's BenchmarkChanContended: one task a P, all on one channel
// of capacity 100 * procs, each sends 100 and then receives 100.
const bool contended = bench::operation("chan/contended", [](std::int64_t n, unsigned procs) {
    mpg::chan<int> c(100 * procs);
    mpg::wait_group ended;
    ended.add(procs);
    for (unsigned p = 0; p < procs; ++p) {
        mpg::go([c, &ended, rounds = (bench::share(n, p, procs) + 99) / 100] {
            for (std::int64_t r = 0; r < rounds; ++r) {
                for (int k = 0; k < 100; ++k) c.send(0);
                for (int k = 0; k < 100; ++k) take(c);
            }
            ended.done();
        });
    }
    ended.wait();
});

// One iteration: one item of 50 producers and 50 consumers on one channel of capacity 100.
const bool mpmc = bench::operation("chan/mpmc/cap:100", [](std::int64_t n, unsigned) {
    constexpr unsigned side = 50;
    mpg::chan<int> c(100);
    mpg::wait_group ended;
    ended.add(2 * side);
    for (unsigned i = 0; i < side; ++i) {
        mpg::go([c, &ended, count = bench::share(n, i, side)] {
            for (std::int64_t k = 0; k < count; ++k) c.send(1);
            ended.done();
        });
        mpg::go([c, &ended, count = bench::share(n, i, side)] {
            for (std::int64_t k = 0; k < count; ++k) take(c);
            ended.done();
        });
    }
    ended.wait();
});

} // namespace
