#include <mpg/trace_context.hpp>

int main() {
    const mpg::context ctx = mpg::with_trace(mpg::context::background(), {});
    return mpg::trace_of(ctx)->valid() ? 1 : 0;
}
