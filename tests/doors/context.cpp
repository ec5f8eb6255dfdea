#include <mpg/context.hpp>

int main() {
    auto parent = mpg::with_cancel(mpg::context::background());
    auto child = mpg::with_timeout(parent, std::chrono::nanoseconds::max());
    parent.cancel();
    return child.done().recv();
}
