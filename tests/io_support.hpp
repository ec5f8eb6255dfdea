// What the tests of I/O share: a fixture that runs everything on both pollers, and a few helpers.
#pragma once

#include "support.hpp"

#include <mpg/net.hpp>

#include <cstddef>
#include <cstring>
#include <ostream>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mpg::test {

struct io_setup {
    unsigned procs;
    netpoll backend;

    friend std::ostream& operator<<(std::ostream& os, const io_setup& s) {
        return os << to_string(s.backend) << "_" << s.procs;
    }
};

inline std::vector<io_setup> io_setups() {
    std::vector<io_setup> all;
    for (netpoll backend : {netpoll::io_uring, netpoll::epoll})
        for (unsigned procs : {1u, 2u, 4u}) all.push_back({procs, backend});
    return all;
}

/// Derive a suite from it and name that in MPG_TEST_IO.
class with_pollers : public ::testing::TestWithParam<io_setup> {
  protected:
    options setup() const {
        options o;
        o.procs = GetParam().procs;
        o.backend = GetParam().backend;
        return o;
    }
    template <class F> decltype(auto) run(F&& f) { return mpg::run(setup(), std::forward<F>(f)); }
};

#define MPG_TEST_IO(suite)                                                                                   \
    INSTANTIATE_TEST_SUITE_P(io, suite, ::testing::ValuesIn(::mpg::test::io_setups()),                       \
                             [](const auto& of) {                                                          \
                                 return std::string(::mpg::to_string(of.param.backend)) + "_" +            \
                                        std::to_string(of.param.procs);                                    \
                             })

inline std::span<const std::byte> bytes(std::string_view text) {
    return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}
inline std::string_view text(std::span<const std::byte> data) {
    return {reinterpret_cast<const char*>(data.data()), data.size()};
}

/// Fills the whole buffer. False: the stream ended or failed before.
template <class Stream> bool read_full(Stream& s, std::span<std::byte> to) {
    while (!to.empty()) {
        auto n = s.read(to);
        if (!n || *n == 0) return false;
        to = to.subspan(*n);
    }
    return true;
}
/// What comes until the end of the stream.
template <class Stream> std::string read_all(Stream& s) {
    std::string all;
    std::vector<std::byte> part(64 << 10);
    for (;;) {
        auto n = s.read(part);
        if (!n || *n == 0) return all;
        all += text(std::span(part).first(*n));
    }
}

inline net::tcp_listener listen_local() {
    auto l = net::tcp_listener::bind("127.0.0.1:0");
    EXPECT_TRUE(l) << l.error().message();
    return std::move(*l);
}

struct tcp_pair {
    net::tcp_stream client, server;
};
inline tcp_pair connect_local(net::tcp_listener& l) {
    tcp_pair p;
    auto c = net::tcp_stream::connect(l.local_endpoint());
    EXPECT_TRUE(c) << c.error().message();
    auto s = l.accept();
    EXPECT_TRUE(s) << s.error().message();
    if (c) p.client = std::move(*c);
    if (s) p.server = std::move(*s);
    return p;
}
inline tcp_pair connect_local() {
    auto l = listen_local();
    return connect_local(l);
}

} // namespace mpg::test
