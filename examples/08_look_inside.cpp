// A service with four faults, to practise finding them; docs/observability.md is the walk. It works by itself, and serves the
// debug pages: 08_look_inside [HOST:PORT], by default 127.0.0.1:6060. Compile with -g1 and -fno-omit-frame-pointer.
#include <mpg/debug.hpp>
#include <mpg/http.hpp>
#include <mpg/mpg.hpp>

#include <chrono>
#include <cmath>
#include <iostream>
#include <memory>
#include <mutex>
#include <vector>

MPG_PROFILE_HEAP

namespace {

using namespace std::chrono_literals;
#define OWN_FRAME [[gnu::noinline]]

struct reply {
    double price = 0;
};

/// Computes for so long.
OWN_FRAME double price(std::chrono::milliseconds effort) {
    double x = 1;
    const auto end = std::chrono::steady_clock::now() + effort;
    while (std::chrono::steady_clock::now() < end)
        for (int i = 0; i < 1000; ++i) x += std::sqrt(x);
    return x;
}

// The leak: a task for each request, and a backend that does not answer one of ten.
OWN_FRAME void wait_for_reply(mpg::chan<reply> c) {
    (void)c.recv();
    asm volatile("");
}
OWN_FRAME void ask_backend(int n) {
    mpg::chan<reply> c;
    mpg::go([c] { wait_for_reply(c); });
    if (n % 10 != 0) c.send({1.5});
}

// The stall: who needs a price waits for a lock that is held while prices are computed.
mpg::mutex prices;
OWN_FRAME void update_prices() {
    {
        std::lock_guard hold(prices);
        (void)price(15ms);
    }
    asm volatile(""); // else the compiler leaves the function before it gives up the lock
}
OWN_FRAME void quote() {
    {
        std::lock_guard hold(prices);
        (void)price(1ms);
    }
    asm volatile("");
}

// The slow request: it computes.
OWN_FRAME void slow_handler() {
    (void)price(50ms);
    asm volatile("");
}

// The memory that grows.
OWN_FRAME void remember(std::vector<std::unique_ptr<char[]>>& all) {
    all.push_back(std::make_unique<char[]>(4096));
    asm volatile("");
}

template <class F> void every(std::chrono::milliseconds period, F f) {
    mpg::go([period, f]() mutable {
        for (int n = 1;; ++n) {
            f(n);
            mpg::sleep_for(period);
        }
    });
}

} // namespace

int main(int argc, char** argv) {
    mpg::debug::set_block_profile_rate(1); // each wait, and each release that somebody waits for
    mpg::debug::set_mutex_profile_fraction(1);
    return mpg::run([&] {
        every(5ms, [](int n) { ask_backend(n); });
        every(20ms, [](int) { update_prices(); });
        for (int i = 0; i < 3; ++i) every(1ms, [](int) { quote(); });
        every(100ms, [](int) { slow_handler(); });
        every(1ms, [all = std::make_shared<std::vector<std::unique_ptr<char[]>>>()](int) { remember(*all); });

        mpg::http::server server;
        mpg::debug::handlers(server);
        const std::error_code e = server.listen_and_serve(argc > 1 ? argv[1] : "127.0.0.1:6060");
        std::cerr << e.message() << '\n';
        return 1;
    });
}
