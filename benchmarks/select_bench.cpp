// Select. Twin: twins/go/select.go.
#include "support.hpp"

#include <mpg/chan.hpp>
#include <mpg/select.hpp>
#include <mpg/sync.hpp>
#include <mpg/task.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <optional>
#include <string>
#include <utility>

namespace {

template <std::size_t... I> void select_ready(std::int64_t n, std::index_sequence<I...>) {
    std::array<mpg::chan<int>, sizeof...(I)> c{(static_cast<void>(I), mpg::chan<int>(1))...};
    c[0].send(0);
    for (std::int64_t k = 0; k < n; ++k)
        mpg::select(mpg::on_recv(c[I], [&](std::optional<int>) { c[(I + 1) % sizeof...(I)].send(0); })...);
}

// One iteration: one select with one of N cases ready, and one send that makes the next one ready. As Go's
// BenchmarkSelectUncontended, which has two: one task a P, each with channels of its own.
template <std::size_t N> bool ready() {
    return bench::operation("select/ready/cases:" + std::to_string(N), [](std::int64_t n, unsigned procs) {
        mpg::wait_group ended;
        ended.add(procs);
        for (unsigned p = 0; p < procs; ++p) {
            mpg::go([&ended, count = bench::share(n, p, procs)] {
                select_ready(count, std::make_index_sequence<N>());
                ended.done();
            });
        }
        ended.wait();
    });
}
const bool ready_2 = ready<2>();
const bool ready_8 = ready<8>();
const bool ready_64 = ready<64>();

template <std::size_t... I> void select_blocking(std::int64_t n, std::index_sequence<I...>) {
    std::array<mpg::chan<int>, sizeof...(I)> c;
    mpg::go([c, n] {
        for (std::int64_t k = 0; k < n; ++k) c[static_cast<std::size_t>(k) % sizeof...(I)].send(1);
    });
    for (std::int64_t k = 0; k < n; ++k)
        mpg::select(mpg::on_recv(c[I], [](std::optional<int> v) { benchmark::DoNotOptimize(v); })...);
}

// One iteration: one item from a producer, which sends on N unbuffered channels in turn, to a consumer, which
// selects among them.
template <std::size_t N> bool blocking() {
    return bench::operation("select/blocking/cases:" + std::to_string(N), [](std::int64_t n, unsigned) {
        select_blocking(n, std::make_index_sequence<N>());
    });
}
const bool blocking_2 = blocking<2>();
const bool blocking_8 = blocking<8>();
const bool blocking_64 = blocking<64>();

// One iteration: one item from a producer to a consumer over an unbuffered channel; the consumer selects
// between the receive and a time-out of an hour.
const bool timeout = bench::operation("select/timeout", [](std::int64_t n, unsigned) {
    mpg::chan<int> c;
    mpg::go([c, n] {
        for (std::int64_t k = 0; k < n; ++k) c.send(1);
    });
    for (std::int64_t k = 0; k < n; ++k)
        mpg::select(mpg::on_recv(c, [](std::optional<int> v) { benchmark::DoNotOptimize(v); }),
                    mpg::on_timeout(std::chrono::hours(1), [] { std::abort(); }));
});

// One iteration: one look at an unbuffered channel with no sender; the default is taken.
const bool miss = bench::operation("select/default", [](std::int64_t n, unsigned) {
    mpg::chan<int> c;
    std::int64_t missed = 0;
    for (std::int64_t k = 0; k < n; ++k)
        mpg::select(mpg::on_recv(c, [](std::optional<int>) {}), mpg::otherwise([&] { ++missed; }));
    benchmark::DoNotOptimize(missed);
});

// One iteration: one receive by a select of three unbuffered channels. As Go's BenchmarkSelectSyncContended:
// one receiver and one sender a P, all on the same three; a sender selects among them and the end.
const bool sync = bench::operation("select/sync", [](std::int64_t n, unsigned procs) {
    mpg::chan<int> a, b, c;
    mpg::chan<void> done;
    mpg::wait_group ended;
    ended.add(procs);
    for (unsigned p = 0; p < procs; ++p) {
        mpg::go([=, &ended, count = bench::share(n, p, procs)] {
            mpg::go([=] {
                for (bool on = true; on;)
                    mpg::select(mpg::on_send(a, 0), mpg::on_send(b, 0), mpg::on_send(c, 0),
                                mpg::on_recv(done, [&](bool) { on = false; }));
            });
            auto ignore = [](std::optional<int>) {};
            for (std::int64_t k = 0; k < count; ++k)
                mpg::select(mpg::on_recv(a, ignore), mpg::on_recv(b, ignore), mpg::on_recv(c, ignore));
            ended.done();
        });
    }
    ended.wait();
    done.close();
});

} // namespace
