#include <mpg/task.hpp>

int main() {
    mpg::yield();
    try {
        mpg::spawn([] {}).join(); // no runtime is alive
        return 1;
    } catch (const std::logic_error&) {
        return mpg::blocking([] { return 0; });
    }
}
