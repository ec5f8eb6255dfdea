// Cancellation: a context reaches all that belongs to a piece of work; a scope ends its tasks together.
#include <mpg/mpg.hpp>

#include <chrono>
#include <cstdio>
#include <stdexcept>

using namespace std::chrono_literals;

namespace {

/// Asks a service that never answers; gives up when ctx says so.
std::error_code ask(const mpg::context& ctx) {
    mpg::chan<int> answer;
    int value = 0;
    if (answer.recv(ctx, value) == mpg::chan_status::cancelled) return ctx.err();
    return {};
}

} // namespace

int main() {
    return mpg::run([] {
        // A deadline for everything below it.
        auto limit = mpg::with_timeout(mpg::context::background(), 50ms);
        std::printf("asking with a deadline: %s\n", ask(limit).message().c_str());

        // Cancelled by hand, from elsewhere. A child is cancelled with its parent.
        auto parent = mpg::with_cancel(mpg::context::background());
        auto child = mpg::with_cancel(parent);
        auto asking = mpg::spawn([&] { return ask(child); });
        parent.cancel();
        std::printf("asking while cancelled: %s\n", asking.join().message().c_str());

        // A scope: the first exception cancels the others, and wait() throws it when all have ended.
        try {
            mpg::scope group;
            for (int i = 0; i < 3; ++i)
                group.go([i](const mpg::context& ctx) {
                    if (i == 2) throw std::runtime_error("task 2 gives up");
                    std::printf("task %d: %s\n", i, ask(ctx).message().c_str());
                });
            group.wait();
        } catch (const std::runtime_error& e) {
            std::printf("the scope ended: %s\n", e.what());
        }
        return 0;
    });
}
