// TCP and HTTP over a link that loses, delays and dies: the loopback of a network namespace, in a child process. tc netem
// makes it bad where the kernel has it; else nftables drops packets, and a token bucket makes them queue. No verdict
// depends on which packets are lost, or on how late a loaded machine is.
//
// ctest: needs:ip iproute2
// ctest: needs:tc iproute2
// ctest: needs:nft nftables
#include "http_support.hpp"

#include <atomic>
#include <cstdlib>
#include <random>
#include <sched.h>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

using namespace mpg::test;
using namespace std::chrono_literals;
using mpg::context;
using mpg::errc;
using mpg::http::request;
using mpg::http::response;

namespace {

constexpr int no_namespace = 77;

bool shell(const std::string& command) {
    return mpg::blocking([&] { return std::system(("exec >&2; PATH=$PATH:/usr/sbin:/sbin; " + command).c_str()) == 0; });
}
/// One packet in `one_in` is lost, 0: none; `rate`: as tc writes it. With nftables by counting, not by chance: what is lost
/// several times in a row makes TCP wait for seconds. Returns by what.
const char* degrade(const std::string& rate, int one_in) {
    const std::string percent = std::to_string(one_in > 0 ? 100 / one_in : 0);
    if (shell("tc qdisc replace dev lo root netem delay 5ms loss " + percent + "% rate " + rate + " 2>/dev/null")) return "tc netem";
    if (std::getenv("MPG_TEST_WHOLE_KERNEL")) throw std::runtime_error("no netem"); // set by scripts/vm-test
    std::string rules = "add table ip bad; add chain ip bad in { type filter hook input priority 0; }; flush chain ip bad in";
    if (one_in > 0) rules += "; add rule ip bad in meta l4proto tcp";
    if (one_in > 1) rules += " numgen inc mod " + std::to_string(one_in) + " 0";
    if (one_in > 0) rules += " drop";
    if (!shell("tc qdisc replace dev lo root tbf rate " + rate + " burst 16kb latency 200ms") || !shell("nft '" + rules + "'"))
        throw std::runtime_error("the link stays good");
    return "nftables and tc tbf";
}
void cut() { degrade("40mbit", 1); }
void mend() { degrade("40mbit", 0); }

/// How many segments this namespace has sent again.
long retransmitted() {
    std::ifstream f("/proc/self/net/snmp");
    for (std::string names, values; std::getline(f, names) && std::getline(f, values);) {
        std::istringstream name(names), value(values);
        for (std::string n, v; name >> n && value >> v;)
            if (n == "RetransSegs") return std::stol(v);
    }
    return -1;
}

/// Runs f as the main task in a child process with a network of its own, whose link loses every twentieth packet.
struct bad_link : with_pollers {
    template <class F> void run(F f) {
        if (::getuid() != 0) GTEST_SKIP() << "needs a network namespace";
        const child_result child = run_in_child([&] {
            if (::unshare(CLONE_NEWNET) != 0) return no_namespace;
            // Packets as small as on other networks.
            EXPECT_TRUE(shell("ip link set lo mtu 1500 gso_max_segs 1 up"));
            std::cout << "the link is bad by " << degrade("40mbit", 20) << '\n';
            const auto before = detail::descriptors();
            const auto threads = detail::thread_count() + (mpg::base::tsan ? 1 : 0);
            mpg::run(setup(), f);
            for (const auto& [fd, what] : detail::descriptors())
                EXPECT_TRUE(before.count(fd)) << "file descriptor " << fd << " is left: " << what;
            EXPECT_TRUE(eventually([&] { return detail::thread_count() <= threads; })) << "threads are left";
            return ::testing::Test::HasFailure() ? 1 : 0;
        });
        std::cout << child.out;
        if (child.exit_code == no_namespace) GTEST_SKIP() << "the system refuses a network namespace";
        EXPECT_EQ(child.exit_code, 0) << child;
    }
};
INSTANTIATE_TEST_SUITE_P(http, bad_link,
                         ::testing::Values(io_setup{1, mpg::netpoll::io_uring}, io_setup{2, mpg::netpoll::io_uring},
                                           io_setup{1, mpg::netpoll::epoll}, io_setup{2, mpg::netpoll::epoll}),
                         [](const auto& of) {
                             return std::string(mpg::to_string(of.param.backend)) + "_" + std::to_string(of.param.procs);
                         });

/// No piece of it looks like another one.
std::string noise(unsigned seed, std::size_t n) {
    std::mt19937 random(seed);
    std::string all(n, '\0');
    for (char& c : all) c = static_cast<char>(random());
    return all;
}

void add_echo(live_server& s) {
    s->handle("POST /", [](request& req, response& res) {
        if (auto body = req.body().read_all()) (void)res.write(*body);
    });
}

/// What was answered; why not, in brackets.
std::string post(mpg::http::client& c, const live_server& s, std::string body, const context& ctx = context::background()) {
    auto got = c.fetch({.method = "POST", .url = "http://" + s.address().to_string() + "/", .body = std::move(body)}, ctx);
    if (!got) return "(" + got.error().message() + ")";
    auto all = got->body().read_all();
    return all ? *all : "(" + all.error().message() + ")";
}
const std::string too_late = "(" + make_error_code(errc::deadline_exceeded).message() + ")";

/// Calls f with a context of that time-out and returns its result, which must not be there before.
template <class F> auto not_before(std::chrono::milliseconds limit, F f) {
    const auto began = mpg::clock::now();
    auto result = f(mpg::with_timeout(context::background(), limit));
    EXPECT_GE(mpg::clock::now() - began, limit);
    return result;
}

} // namespace

TEST_P(bad_link, each_byte_of_a_transfer_arrives) {
    run([] {
        const auto began = mpg::clock::now();
        const std::string up = noise(1, 1 << 20), down = noise(2, 1 << 20);
        tcp_pair p = connect_local();
        auto send = [](mpg::net::tcp_stream& s, const std::string& all, std::size_t piece) {
            for (std::size_t at = 0; at < all.size(); at += piece)
                EXPECT_TRUE(s.write(bytes(std::string_view(all).substr(at, piece))));
            EXPECT_FALSE(s.shutdown_write());
        };
        auto upwards = mpg::spawn([&] { send(p.client, up, up.size()); });
        auto downwards = mpg::spawn([&] { send(p.server, down, 10'007); });
        auto arrived = mpg::spawn([&] { return read_all(p.server); });
        EXPECT_TRUE(read_all(p.client) == down);
        EXPECT_TRUE(arrived.join() == up);
        upwards.join();
        downwards.join();
        EXPECT_GT(retransmitted(), 0);
        EXPECT_GT(mpg::clock::now() - began, 300ms); // 2 MiB at 40 Mbit/s
    });
}

TEST_P(bad_link, each_request_is_answered) {
    run([] {
        live_server s;
        std::atomic<int> handled{0};
        s->handle("POST /", [&](request& req, response& res) {
            ++handled;
            std::byte piece[4096]; // as it comes, in chunks
            while (auto n = req.body().read(piece))
                if (*n == 0 || !res.write(std::span(piece).first(*n))) break;
        });
        s.start();
        mpg::http::client c;
        mpg::wait_group ended;
        for (unsigned k = 0; k < 8; ++k)
            ended.go([&, k] {
                for (unsigned i = 0; i < 8; ++i) {
                    const std::string body = noise(100 * k + i, 1 + 1'000 * k + 2'000 * i);
                    EXPECT_TRUE(post(c, s, body, mpg::with_timeout(context::background(), 50s)) == body) << k << ' ' << i;
                }
            });
        ended.wait();
        EXPECT_EQ(handled, 64);
        EXPECT_GT(retransmitted(), 0);
        c.close_idle();
        EXPECT_FALSE(s->shutdown(context::background()));
        EXPECT_EQ(s.served(), errc::server_closed);
    });
}

// Each request that a handler has got is answered, and no client has an answer that no handler gave.
TEST_P(bad_link, shutdown_loses_no_accepted_request) {
    run([] {
        live_server s;
        std::atomic<int> handled{0}, answered{0};
        s->handle("POST /", [&](request& req, response& res) {
            ++handled;
            const auto body = req.body().read_all(); // of which the most is still to come
            (void)res.write(body.value_or(""));
        });
        s.start();
        mpg::http::client c;
        mpg::chan<void> busy(1'000);
        mpg::wait_group ended;
        for (unsigned k = 0; k < 8; ++k)
            ended.go([&, k] {
                const std::string body = noise(k, 40'000 + 4'000 * k);
                while (post(c, s, body) == body) {
                    ++answered;
                    (void)busy.try_send();
                }
            });
        for (int i = 0; i < 30; ++i) busy.recv();
        EXPECT_FALSE(s->shutdown(context::background()));
        EXPECT_EQ(s.served(), errc::server_closed);
        ended.wait();
        EXPECT_EQ(handled, answered);
        EXPECT_GE(answered, 30);
        const auto left = s->connections();
        EXPECT_EQ(left.active + left.idle, 0u);
    });
}

// Longer than the time-outs, 4 MiB take half a minute.
TEST_P(bad_link, deadlines_hold_when_it_is_slow) {
    run([] {
        degrade("1mbit", 20);
        const auto began = mpg::clock::now();
        live_server s;
        add_echo(s);
        s->handle("GET /", [](request&, response& res) { (void)res.write(noise(0, 4 << 20)); });
        s.start();
        mpg::http::client c;
        const std::string much = noise(1, 4 << 20);
        mpg::wait_group ended;
        for (int k = 1; k <= 6; ++k)
            ended.go([&, k] {
                EXPECT_EQ(not_before(k * 100ms, [&](const context& ctx) { return post(c, s, much, ctx); }), too_late);
            });
        for (int k = 1; k <= 3; ++k)
            ended.go([&, k] {
                const auto got = not_before(k * 200ms, [&](const context& ctx) -> mpg::result<std::string> {
                    auto r = c.get("http://" + s.address().to_string() + "/", ctx);
                    if (!r) return mpg::unexpected(r.error());
                    return r->body().read_all();
                });
                ASSERT_FALSE(got);
                EXPECT_EQ(got.error(), errc::deadline_exceeded);
            });
        ended.wait();
        EXPECT_LT(mpg::clock::now() - began, 20s);
        s->close();
        EXPECT_EQ(s.served(), errc::server_closed);
    });
}

TEST_P(bad_link, a_servers_time_outs_end_what_its_death_leaves) {
    run([] {
        mend();
        constexpr auto limit = 400ms, never = 0ms;
        live_server heads({.read_header_timeout = limit});
        live_server bodies(
            {.read_header_timeout = never, .read_timeout = limit, .write_timeout = limit, .idle_timeout = limit});
        mpg::chan<void> begun(2);
        mpg::chan<std::error_code> read(1), written(1);
        bodies->handle("POST /half", [=](request& req, response&) {
            begun.send();
            const auto all = req.body().read_all();
            read.send(all ? std::error_code() : all.error());
        });
        bodies->handle("GET /endless", [=](request&, response& res) {
            begun.send();
            const std::string some(10'000, 'x');
            auto n = res.write(some);
            while (n) n = res.write(some);
            written.send(n.error());
        });
        add_echo(bodies);
        heads.start();
        bodies.start();

        const auto began = mpg::clock::now();
        http_peer half_head = heads.connect(), idle = bodies.connect(), half_body = bodies.connect(), reader = bodies.connect();
        half_head.send("GET / HT");
        idle.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx");
        half_body.send("POST /half HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf");
        reader.send("GET /endless HTTP/1.1\r\nHost: a\r\n\r\n");
        auto reading = mpg::spawn([&] { (void)read_all(reader.stream()); }); // only the link keeps it from reading on
        begun.recv();
        begun.recv();
        EXPECT_TRUE(eventually([&] {
            const auto now = heads->stats();
            return now.connections_active == 1 || (now.connections_accepted == 1 && now.connections_idle == 0);
        }));
        cut();
        EXPECT_EQ(read.recv(), errc::deadline_exceeded);
        EXPECT_EQ(written.recv(), errc::deadline_exceeded);
        for (live_server* s : {&heads, &bodies})
            EXPECT_TRUE(eventually([&] {
                const auto now = (*s)->connections();
                return now.active + now.idle == 0;
            }));
        EXPECT_GE(mpg::clock::now() - began, limit);
        reader.close();
        reading.join();

        mend();
        mpg::http::client c;
        EXPECT_TRUE(eventually([&] { return post(c, bodies, "after") == "after"; })); // it may be slower than the limit
        for (live_server* s : {&heads, &bodies}) {
            EXPECT_FALSE((*s)->shutdown(context::background()));
            EXPECT_EQ(s->served(), errc::server_closed);
        }
    });
}

TEST_P(bad_link, a_clients_time_outs_end_what_its_death_leaves) {
    run([] {
        mend();
        live_server s;
        add_echo(s);
        s.start();
        mpg::http::client kept, fresh;
        EXPECT_EQ(post(kept, s, "before"), "before");
        tcp_pair p = connect_local();
        EXPECT_FALSE(p.client.set_user_timeout(300ms));
        cut();
        mpg::wait_group ended;
        for (mpg::http::client* c : {&kept, &fresh})
            ended.go([&s, c] {
                EXPECT_EQ(not_before(300ms, [&](const context& ctx) { return post(*c, s, "lost", ctx); }), too_late);
            });
        ended.go([&] {
            std::byte b;
            EXPECT_TRUE(p.client.write(bytes("lost")));
            const auto n = p.client.read({&b, 1});
            ASSERT_FALSE(n);
            EXPECT_EQ(n.error().value(), ETIMEDOUT) << n.error();
        });
        ended.go([&] {
            std::byte b;
            const auto n = not_before(300ms, [&](const context& ctx) { return p.server.read({&b, 1}, ctx); });
            ASSERT_FALSE(n);
            EXPECT_EQ(n.error(), errc::deadline_exceeded);
        });
        ended.wait();
        mend();
        EXPECT_EQ(post(kept, s, "after"), "after");
        s->close();
        EXPECT_EQ(s.served(), errc::server_closed);
    });
}
