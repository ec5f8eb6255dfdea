#include <mpg/mpg.hpp>

#include <chrono>
#include <optional>

#if !defined(WITHOUT_HTTP)
bool asks();
#else
static bool asks() { return true; }
#endif

// Exit status 0.
int main() {
    using namespace std::chrono_literals;
    return mpg::run({.procs = 2}, [] {
        mpg::chan<int> numbers(1);
        auto ctx = mpg::with_timeout(mpg::context::background(), 1h);
        mpg::mutex m;
        int sum = 0;
        mpg::scope group(ctx);
        for (int i = 0; i < 4; ++i)
            group.go([&](const mpg::context& c) {
                int v = 0;
                while (numbers.recv(c, v) == mpg::chan_status::ok) {
                    std::lock_guard hold(m);
                    sum += v;
                }
            });
        for (int i = 1; i <= 10; ++i)
            mpg::select(mpg::on_send(numbers, i), mpg::on_timeout(1h), mpg::on_done(ctx));
        numbers.close();
        group.wait();
        const bool asked = mpg::spawn(asks).join();
        return sum == 55 && asked ? 0 : 1;
    });
}
