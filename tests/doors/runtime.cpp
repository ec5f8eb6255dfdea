#include <mpg/runtime.hpp>

int main() {
    return mpg::run([] { return 0; });
}
