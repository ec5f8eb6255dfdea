// Contexts. Twin: twins/go/context.go.
#include "support.hpp"

#include <mpg/context.hpp>

#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <vector>

namespace {

// One iteration: derive a context with a time-out of an hour from the background, and cancel it.
const bool timeout_cancel = bench::operation("context/timeout_cancel", [](std::int64_t n, unsigned) {
    for (std::int64_t k = 0; k < n; ++k) {
        auto ctx = mpg::with_timeout(mpg::context::background(), std::chrono::hours(1));
        ctx.cancel();
        benchmark::DoNotOptimize(ctx);
    }
});

// One iteration: derive a context that can be cancelled from the background, and cancel it.
const bool cancel = bench::operation("context/cancel", [](std::int64_t n, unsigned) {
    for (std::int64_t k = 0; k < n; ++k) {
        auto ctx = mpg::with_cancel(mpg::context::background());
        ctx.cancel();
        benchmark::DoNotOptimize(ctx);
    }
});

// One iteration: derive a tree of 1000 contexts, ten children each, from the background, and cancel its root.
const bool tree = bench::operation("context/tree/nodes:1000", [](std::int64_t n, unsigned) {
    std::vector<mpg::cancel_context> nodes;
    nodes.reserve(1000);
    for (std::int64_t k = 0; k < n; ++k) {
        nodes.push_back(mpg::with_cancel(mpg::context::background()));
        for (std::size_t i = 1; i < 1000; ++i) nodes.push_back(mpg::with_cancel(nodes[(i - 1) / 10]));
        nodes[0].cancel();
        if (!nodes.back().is_done()) std::abort();
        nodes.clear();
    }
});

} // namespace
