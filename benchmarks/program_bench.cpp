// Whole programs, wall time in ms from a warm runtime to the result. Twin: twins/go/program.go.
//
// What is left of a program when its result is there (the sieve's filters, the million) ends with its
// runtime, after the clock has stopped.
#include "support.hpp"

#include <mpg/chan.hpp>
#include <mpg/sync.hpp>
#include <mpg/task.hpp>
#include <mpg/time.hpp>

#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <ctime>
#include <vector>

namespace {

using namespace std::chrono_literals;

void expect(std::int64_t got, std::int64_t wanted) {
    if (got != wanted) std::abort();
}

// 10,000 tasks, each sleeps 20 times for 1 ms. Ideal: 20 ms.
const bool sleep_storm = bench::program("program/sleep_storm", [](unsigned) {
    constexpr int tasks = 10'000;
    mpg::wait_group ended;
    ended.add(tasks);
    for (int i = 0; i < tasks; ++i) {
        mpg::go([&ended] {
            for (int k = 0; k < 20; ++k) mpg::sleep_for(1ms);
            ended.done();
        });
    }
    ended.wait();
});

// A tree of tasks, ten children a node, a million leaves; each node sends the sum of its children to its
// parent over the parent's unbuffered channel.
void skynet_channels_node(mpg::chan<std::int64_t> out, std::int64_t first, std::int64_t size) {
    if (size == 1) return out.send(first);
    mpg::chan<std::int64_t> results;
    for (std::int64_t i = 0; i < 10; ++i)
        mpg::go(skynet_channels_node, results, first + i * (size / 10), size / 10);
    std::int64_t sum = 0;
    for (int i = 0; i < 10; ++i) sum += results.recv().value();
    out.send(sum);
}
const bool skynet_channels = bench::program("program/skynet_channels", [](unsigned) {
    mpg::chan<std::int64_t> out;
    mpg::go(skynet_channels_node, out, 0, 1'000'000);
    expect(out.recv().value(), 499'999'500'000);
});

// The same tree; the parent joins its children.
std::int64_t skynet_join_node(std::int64_t first, std::int64_t size) {
    if (size == 1) return first;
    mpg::task<std::int64_t> children[10];
    for (std::int64_t i = 0; i < 10; ++i)
        children[i] = mpg::spawn(skynet_join_node, first + i * (size / 10), size / 10);
    std::int64_t sum = 0;
    for (auto& child : children) sum += child.join();
    return sum;
}
const bool skynet_join = bench::program(
    "program/skynet_join", [](unsigned) { expect(skynet_join_node(0, 1'000'000), 499'999'500'000); });

// fib(27) by its definition, a task for each node of the tree of calls, children joined by their parent. One
// iteration: one task; the tree has 2 * fib(28) - 1 nodes.
std::int64_t fib_node(std::int64_t n) {
    if (n < 2) return n;
    auto a = mpg::spawn(fib_node, n - 1);
    auto b = mpg::spawn(fib_node, n - 2);
    return a.join() + b.join();
}
const bool fib_join = bench::program(
    "program/fib_join", [](unsigned) { expect(fib_node(27), 196'418); }, 2 * 317'811 - 1);

// All solutions of the queens' problem on a board of 11 by 11: a task for each queen that can be placed,
// joined by the one that placed the queen of the row before. Columns and diagonals under attack are bits.
constexpr unsigned board = 11;
std::int64_t queens(unsigned row, unsigned columns, unsigned left, unsigned right) {
    if (row == board) return 1;
    mpg::task<std::int64_t> children[board];
    unsigned count = 0;
    for (unsigned free = ~(columns | left | right) & ((1u << board) - 1); free != 0; free &= free - 1) {
        const unsigned bit = free & -free;
        children[count++] = mpg::spawn(queens, row + 1, columns | bit, (left | bit) << 1, (right | bit) >> 1);
    }
    std::int64_t sum = 0;
    for (unsigned i = 0; i < count; ++i) sum += children[i].join();
    return sum;
}
const bool nqueens = bench::program("program/nqueens", [](unsigned) { expect(queens(0, 0, 0, 0), 2'680); });

// c += a * b for matrices of 512 by 512 doubles: quarters, four tasks at a time, joined, down to 64 by 64.
constexpr std::size_t order = 512;
void multiply(const double* a, const double* b, double* c, std::size_t n) {
    if (n <= 64) {
        for (std::size_t i = 0; i < n; ++i)
            for (std::size_t k = 0; k < n; ++k)
                for (std::size_t j = 0; j < n; ++j) c[i * order + j] += a[i * order + k] * b[k * order + j];
        return;
    }
    const std::size_t h = n / 2, down = h * order;
    for (std::size_t k : {std::size_t{0}, std::size_t{1}}) {
        const double *left = a + k * h, *top = b + k * down;
        mpg::task<void> quarters[] = {mpg::spawn(multiply, left, top, c, h),
                                      mpg::spawn(multiply, left, top + h, c + h, h),
                                      mpg::spawn(multiply, left + down, top, c + down, h),
                                      mpg::spawn(multiply, left + down, top + h, c + down + h, h)};
        for (auto& quarter : quarters) quarter.join();
    }
}
const bool matmul = bench::program("program/matmul", [](unsigned) {
    const std::vector<double> a(order * order, 1), b(order * order, 2);
    std::vector<double> c(order * order, 0);
    multiply(a.data(), b.data(), c.data(), order);
    for (double x : c) expect(static_cast<std::int64_t>(x), 2 * order);
});

// The prime sieve: a generator and a filter for each prime found, in a chain of unbuffered channels.
const bool sieve = bench::program("program/sieve", [](unsigned) {
    mpg::chan<int> numbers;
    mpg::go([numbers] {
        for (int i = 2;; ++i) numbers.send(i);
    });
    int prime = 0;
    for (int found = 0; found < 2000; ++found) {
        prime = numbers.recv().value();
        mpg::chan<int> left;
        mpg::go([numbers, left, prime] {
            for (;;) {
                int i = numbers.recv().value();
                if (i % prime != 0) left.send(i);
            }
        });
        numbers = left;
    }
    expect(prime, 17'389);
});

// 100 tasks, each blocks its thread 20 times for 1 ms in nanosleep.
void nap() {
    ::timespec ms{0, 1'000'000};
    ::nanosleep(&ms, nullptr);
}
template <class Nap> void nap_all(Nap nap_once) {
    mpg::wait_group ended;
    ended.add(100);
    for (int i = 0; i < 100; ++i) {
        mpg::go([&] {
            for (int k = 0; k < 20; ++k) nap_once();
            ended.done();
        });
    }
    ended.wait();
}
const bool blocking =
    bench::program("program/blocking/announced", [](unsigned) { nap_all([] { mpg::blocking(nap); }); });
const bool blocking_unannounced =
    bench::program("program/blocking/unannounced", [](unsigned) { nap_all(nap); });

// Create a million tasks that block on a channel, until the last one of them has run.
const bool create_1m = bench::program("program/create_1m", [](unsigned) {
    constexpr std::int64_t tasks = 1'000'000;
    mpg::chan<void> never;
    mpg::wait_group started;
    started.add(tasks);
    for (std::int64_t i = 0; i < tasks; ++i) {
        mpg::go([&started, never] {
            started.done();
            never.recv();
        });
    }
    started.wait();
});

} // namespace
