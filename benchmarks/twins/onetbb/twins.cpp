// The twins of the benchmarks in oneTBB: the fork-join ones, which are all that it has; its tasks cannot wait
// for a channel, a timer or a peer. Same names, same definitions. How the program is used: twin.hpp.
//
// An advantage of this rival: the last child of a node is called, not spawned, and a task is a record without
// a stack of its own, as an expert in it would write it.
#include "../twin.hpp"

#include <tbb/global_control.h>
#include <tbb/task_arena.h>
#include <tbb/task_group.h>

#include <algorithm>
#include <cstddef>

namespace {

void expect(std::int64_t got, std::int64_t wanted) {
    if (got != wanted) std::abort();
}

std::int64_t skynet(std::int64_t first, std::int64_t size) {
    if (size == 1) return first;
    std::int64_t results[10];
    tbb::task_group children;
    for (std::int64_t i = 0; i < 9; ++i)
        children.run([&results, i, first, size] { results[i] = skynet(first + i * (size / 10), size / 10); });
    results[9] = skynet(first + 9 * (size / 10), size / 10);
    children.wait();
    std::int64_t sum = 0;
    for (auto r : results) sum += r;
    return sum;
}

std::int64_t fib(std::int64_t n) {
    if (n < 2) return n;
    std::int64_t a;
    tbb::task_group child;
    child.run([&a, n] { a = fib(n - 1); });
    const std::int64_t b = fib(n - 2);
    child.wait();
    return a + b;
}

constexpr unsigned board = 11;

std::int64_t queens(unsigned row, unsigned columns, unsigned left, unsigned right) {
    if (row == board) return 1;
    std::int64_t results[board];
    unsigned count = 0;
    tbb::task_group children;
    for (unsigned free = ~(columns | left | right) & ((1u << board) - 1); free != 0; free &= free - 1) {
        const unsigned bit = free & -free;
        children.run([result = &results[count++], row, c = columns | bit, l = (left | bit) << 1,
                      r = (right | bit) >> 1] { *result = queens(row + 1, c, l, r); });
    }
    children.wait();
    std::int64_t sum = 0;
    for (unsigned i = 0; i < count; ++i) sum += results[i];
    return sum;
}

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
        tbb::task_group quarters;
        quarters.run([=] { multiply(left, top, c, h); });
        quarters.run([=] { multiply(left, top + h, c + h, h); });
        quarters.run([=] { multiply(left + down, top, c + down, h); });
        multiply(left + down, top + h, c + down + h, h);
        quarters.wait();
    }
}

void matmul(std::int64_t) {
    const std::vector<double> a(order * order, 1), b(order * order, 2);
    std::vector<double> c(order * order, 0);
    multiply(a.data(), b.data(), c.data(), order);
    for (double x : c) expect(static_cast<std::int64_t>(x), 2 * order);
}

void spawn_wait(std::int64_t n) {
    for (std::int64_t left = n; left > 0; left -= 1000) {
        tbb::task_group batch;
        for (std::int64_t k = 0; k < std::min<std::int64_t>(left, 1000); ++k) batch.run([] {});
        batch.wait();
    }
}

const std::vector<twin::benchmark> all = {
    {"task/spawn_wait", spawn_wait},
    {"program/skynet_join", [](std::int64_t) { expect(skynet(0, 1'000'000), 499'999'500'000); }, 1},
    {"program/fib_join", [](std::int64_t) { expect(fib(27), 196'418); }, 2 * 317'811 - 1},
    {"program/nqueens", [](std::int64_t) { expect(queens(0, 0, 0, 0), 2'680); }, 1},
    {"program/matmul", matmul, 1},
};

/// In an arena whose threads have started, as a runtime of ours has when its clock starts.
void with_threads(int procs, const std::function<void()>& f) {
    tbb::global_control limit(tbb::global_control::max_allowed_parallelism, static_cast<std::size_t>(procs));
    tbb::task_arena arena(procs);
    arena.execute([&] {
        spawn_wait(1000);
        f();
    });
}

} // namespace

int main(int argc, char** argv) { return twin::main(argc, argv, all, with_threads); }
