// The echo server of the network benchmarks: `echo_server --addr HOST:PORT --procs N`. Twins: twins/go/echo,
// twins/tokio/src/bin/echo.rs, twins/raw_epoll.
//
// A line that begins with b asks it to compute for 1 ms first, one that begins with w to sleep in the kernel
// for 10 ms.
#include "record.hpp"

#include <mpg/net.hpp>
#include <mpg/runtime.hpp>
#include <mpg/task.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <ctime>
#include <iostream>
#include <span>
#include <string_view>
#include <utility>

namespace {

void compute() {
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(1);
    while (std::chrono::steady_clock::now() < end) {
    }
}

void sleep_in_kernel() {
    const ::timespec t{0, 10'000'000};
    ::nanosleep(&t, nullptr);
}

void echo(mpg::net::tcp_stream stream) {
    std::array<std::byte, 4096> buffer;
    for (;;) {
        auto n = stream.read(buffer);
        if (!n || *n == 0) return;
        if (buffer[0] == std::byte{'b'}) compute();
        if (buffer[0] == std::byte{'w'}) mpg::blocking(sleep_in_kernel);
        if (!stream.write(std::span(buffer).first(*n))) return;
    }
}

} // namespace

int main(int argc, char** argv) {
    if (argc != 5 || std::string_view(argv[1]) != "--addr" || std::string_view(argv[3]) != "--procs")
        return std::cerr << "usage: " << argv[0] << " --addr HOST:PORT --procs N\n", 2;
    mpg::options o;
    o.procs = static_cast<unsigned>(std::atoi(argv[4]));
    bench::record_if_asked(o);
    return mpg::run(o, [&] {
        auto listener = mpg::net::tcp_listener::bind(argv[2]);
        if (!listener) return std::cerr << listener.error().message() << '\n', 1;
        for (;;) {
            auto stream = listener->accept();
            if (!stream) return std::cerr << stream.error().message() << '\n', 1;
            mpg::go(echo, std::move(*stream));
        }
    });
}
