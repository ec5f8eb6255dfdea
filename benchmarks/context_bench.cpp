// Contexts. Twin: twins/go/context.go.
#include "support.hpp"

#include <mpg/context.hpp>

#include <chrono>

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

} // namespace
