// Select. Twin: twins/go/select.go.
#include "support.hpp"

#include <mpg/chan.hpp>
#include <mpg/select.hpp>
#include <mpg/sync.hpp>
#include <mpg/task.hpp>

#include <optional>

namespace {

// One iteration: one select with one of two cases ready, and one send that makes the other one ready. As Go's
// BenchmarkSelectUncontended: one task a P, each with channels of its own.
const bool ready = bench::operation("select/ready/cases:2", [](std::int64_t n, unsigned procs) {
    mpg::wait_group ended;
    ended.add(procs);
    for (unsigned p = 0; p < procs; ++p) {
        mpg::go([&ended, count = bench::share(n, p, procs)] {
            mpg::chan<int> a(1), b(1);
            a.send(0);
            for (std::int64_t k = 0; k < count; ++k)
                mpg::select(mpg::on_recv(a, [&](std::optional<int>) { b.send(0); }),
                            mpg::on_recv(b, [&](std::optional<int>) { a.send(0); }));
            ended.done();
        });
    }
    ended.wait();
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
