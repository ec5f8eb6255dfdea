#include <mpg/time.hpp>

int main() {
    mpg::sleep_for(std::chrono::nanoseconds(1));
    try {
        mpg::ticker never{std::chrono::hours(1)}; // no runtime is alive
        mpg::after_func(std::chrono::hours(1), [] {});
        return 1;
    } catch (const std::logic_error&) {
        return 0;
    }
}
