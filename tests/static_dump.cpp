// A program without shared libraries that prints the dump of its tasks; debug_fallback_test strips it of its symbols.
#include <mpg/debug.hpp>
#include <mpg/mpg.hpp>

#include <iostream>
#include <sstream>
#include <string>

namespace {

[[gnu::noinline]] void waits_in_a_static_program(const mpg::chan<int>& c) {
    (void)c.recv();
    asm volatile("");
}

} // namespace

int main() {
    mpg::run([] {
        mpg::chan<int> c;
        auto waits = mpg::spawn([c] { waits_in_a_static_program(c); });
        std::string text;
        while (text.find("[waiting: chan receive") == std::string::npos) {
            mpg::yield();
            std::ostringstream os;
            mpg::debug::dump_tasks(os);
            text = os.str();
        }
        std::cout << text;
        c.send(1);
        waits.join();
    });
}
