#include <mpg/context.hpp>

struct size {
    using type = int;
};
struct other {
    using type = int;
};

int main() {
    auto parent = mpg::with_cancel(mpg::context::background());
    auto child = mpg::with_timeout(parent, std::chrono::nanoseconds::max());
    parent.cancel();
    auto sized = mpg::with_value<size>(child, 7);
    if (sized.value<other>() || !sized.value<size>() || *sized.value<size>() != 7) return 1;
    return child.done().recv();
}
