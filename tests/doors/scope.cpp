#include <mpg/scope.hpp>

int main() {
    mpg::scope s;
    try {
        s.go([] {}); // no runtime is alive
        return 1;
    } catch (const std::logic_error&) {
    }
    s.wait();
    return s.ctx().is_done();
}
