// The HTTP server over TCP: keep-alive, time-outs, limits, contexts, hijack, and the ways to end.
#include "http_support.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <fcntl.h>
#include <memory>
#include <string>
#include <sys/mman.h>
#include <sys/resource.h>
#include <system_error>
#include <unistd.h>
#include <vector>

namespace {

using namespace std::chrono_literals;
using mpg::http::request;
using mpg::http::response;
using mpg::http::server_options;
using mpg::test::http_peer;
using mpg::test::live_server;
using mpg::test::reply;

struct http_server : mpg::test::with_pollers {};
MPG_TEST_IO(http_server);

void add_echo(live_server& s) {
    s->handle("GET /ok", [](request&, response& res) { (void)res.write("ok"); });
    s->handle("POST /echo", [](request& req, response& res) {
        auto body = req.body().read_all();
        if (body) (void)res.write(*body);
    });
}

TEST_P(http_server, serves_and_keeps_the_connection) {
    run([] {
        live_server s;
        add_echo(s);
        s->handle("GET /who",
                  [](request& req, response& res) { (void)res.write(req.remote_endpoint().to_string()); });
        s.start();
        http_peer c = s.connect();
        EXPECT_EQ(c.get("/ok").body, "ok");
        EXPECT_EQ(c.get("/none").status, 404);
        EXPECT_EQ(c.get("/who").body, c.stream().local_endpoint().to_string());
        ASSERT_TRUE(c.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"));
        EXPECT_EQ(c.read().body, "abc");
        const reply last = c.get("/ok", "Connection: close\r\n");
        EXPECT_EQ(last.status, 200);
        EXPECT_EQ(last.field("connection"), "close");
        EXPECT_TRUE(c.ends());
    });
}

TEST_P(http_server, a_thousand_pipelined_requests_in_order) {
    run([] {
        live_server s;
        s->handle("GET /{n}", [](request& req, response& res) { (void)res.write(req.path_value("n")); });
        s.start();
        http_peer c = s.connect();
        std::string all;
        for (int i = 0; i < 1000; ++i) all += "GET /" + std::to_string(i) + " HTTP/1.1\r\nHost: a\r\n\r\n";
        auto sending = mpg::spawn([&] { return c.send(all); });
        for (int i = 0; i < 1000; ++i) ASSERT_EQ(c.read().body, std::to_string(i));
        EXPECT_TRUE(sending.join());
    });
}

TEST_P(http_server, many_clients_at_once) {
    run([] {
        live_server s;
        add_echo(s);
        s.start();
        std::vector<mpg::task<int>> clients;
        constexpr int per_client = 40;
        for (int k = 0; k < 50; ++k)
            clients.push_back(mpg::spawn([&, k] {
                http_peer c = s.connect();
                int good = 0;
                for (int i = 0; i < per_client; ++i) {
                    const std::string body(static_cast<std::size_t>(k * 97 + i * 31),
                                           static_cast<char>('a' + k % 26));
                    if (!c.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: " +
                                std::to_string(body.size()) + "\r\n\r\n" + body))
                        break;
                    good += c.read().body == body;
                }
                return good;
            }));
        for (auto& c : clients) EXPECT_EQ(c.join(), per_client);
    });
}

TEST_P(http_server, large_bodies_both_ways) {
    run([] {
        live_server s;
        s->handle("POST /", [](request& req, response& res) {
            const auto copied = mpg::copy(res, req.body());
            EXPECT_EQ(copied, req.content_length().value_or(0));
        });
        s.start();
        http_peer c = s.connect();
        std::string body;
        for (unsigned i = 0; body.size() < 3'000'000; ++i) body += std::to_string(i);
        auto sending = mpg::spawn([&] {
            return c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: " + std::to_string(body.size()) +
                          "\r\n\r\n") &&
                   c.send(body);
        });
        const reply r = c.read();
        EXPECT_EQ(r.status, 200);
        EXPECT_EQ(r.field("transfer-encoding"), "chunked");
        EXPECT_TRUE(r.body == body);
        EXPECT_TRUE(sending.join());
    });
}

TEST_P(http_server, handlers_may_be_added_while_it_serves) {
    run([] {
        live_server s;
        s.start();
        http_peer c = s.connect();
        EXPECT_EQ(c.get("/new").status, 404);
        s->handle("/new", [](request&, response&) {});
        EXPECT_EQ(c.get("/new").status, 200);
        EXPECT_THROW(s->handle("/new", [](request&, response&) {}), std::invalid_argument);
    });
}

// ---- time
// ------------------------------------------------------------------------------------------------------

TEST_P(http_server, a_slow_header_gets_408) {
    run([] {
        live_server s({.read_header_timeout = 400ms});
        add_echo(s);
        s.start();
        http_peer half = s.connect(), nothing = s.connect(), second = s.connect();
        EXPECT_EQ(second.get("/ok").status, 200);
        ASSERT_TRUE(second.send("G"));
        ASSERT_TRUE(half.send("GET /ok HT"));
        EXPECT_EQ(half.read().status, 408);
        EXPECT_TRUE(half.ends());
        EXPECT_TRUE(nothing.ends());
        EXPECT_EQ(second.read().status, 408);
    });
}

TEST_P(http_server, a_dripping_header_is_no_progress) {
    run([] {
        live_server s({.read_header_timeout = 400ms});
        s.start();
        http_peer c = s.connect();
        auto dripping = mpg::spawn([&] {
            ASSERT_TRUE(c.send("GET / HTTP/1.1\r\nX: "));
            while (c.send("x")) mpg::sleep_for(5ms);
        });
        EXPECT_EQ(c.read().status, 408);
        c.close();
        dripping.join();
    });
}

TEST_P(http_server, an_idle_connection_is_closed) {
    run([] {
        live_server s({.idle_timeout = 50ms});
        add_echo(s);
        s.start();
        http_peer c = s.connect();
        EXPECT_EQ(c.get("/ok").status, 200);
        EXPECT_TRUE(c.ends());
    });
}

/// Whether the page of that address is in memory.
bool in_memory(std::uintptr_t at) {
    constexpr std::uintptr_t page = 4096;
    unsigned char there = 1;
    (void)::mincore(reinterpret_cast<void*>(at / page * page), page, &there);
    return there & 1;
}

TEST_P(http_server, a_connection_left_alone_gives_its_stack_back_and_serves_on) {
    run([] {
        live_server s;
        constexpr int deep = 64 << 10, clients = 32;
        mpg::chan<std::uintptr_t> places(2 * clients);
        s->handle("/deep", [&](request&, response& res) {
            volatile char used[deep];
            for (int i = 0; i < deep; i += 512) used[i] = 1;
            places.send(reinterpret_cast<std::uintptr_t>(used + deep / 2));
            (void)res.write(used[0] ? "ok" : "");
        });
        s.start();
        std::vector<http_peer> all;
        for (int i = 0; i < clients; ++i) all.push_back(s.connect());
        for (http_peer& c : all) ASSERT_EQ(c.get("/deep").status, 200);
        std::vector<std::uintptr_t> used;
        for (int i = 0; i < clients; ++i) used.push_back(*places.recv());
        EXPECT_TRUE(mpg::test::eventually([&] { return std::none_of(used.begin(), used.end(), in_memory); }));
        for (http_peer& c : all) EXPECT_EQ(c.get("/deep").status, 200);
        mpg::sleep_for(600ms); // they rest again
        EXPECT_FALSE(s->shutdown(mpg::context::background()));
        for (http_peer& c : all) EXPECT_TRUE(c.ends());
    });
}

TEST_P(http_server, a_slow_body_fails) {
    run([] {
        live_server s({.read_timeout = 400ms});
        mpg::chan<std::error_code> failed(1);
        s->handle("/", [&](request& req, response& res) {
            const auto body = req.body().read_all();
            failed.send(body ? std::error_code() : body.error());
            (void)res.status(408).write("late");
        });
        s.start();
        http_peer c = s.connect();
        ASSERT_TRUE(c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n123"));
        const reply r = c.read();
        EXPECT_EQ(r.status, 408);
        EXPECT_EQ(r.field("Connection"), "close");
        EXPECT_TRUE(c.ends());
        EXPECT_EQ(failed.recv(), mpg::errc::deadline_exceeded);
    });
}

TEST_P(http_server, a_body_that_nobody_reads_may_not_take_for_ever) {
    run([] {
        live_server s({.read_header_timeout = 400ms});
        s->handle("/", [](request&, response& res) { (void)res.write("not read"); });
        s.start();
        http_peer c = s.connect();
        ASSERT_TRUE(c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n123"));
        EXPECT_EQ(c.read().body, "not read");
        EXPECT_TRUE(c.ends());
    });
}

/// A server whose handler writes until that fails, with what.
class endless_server : public live_server {
  public:
    explicit endless_server(std::chrono::milliseconds write_timeout)
        : live_server({.write_timeout = write_timeout}) {
        (*this)->handle("/", [this](request&, response& res) {
            const std::string block(1 << 20, 'x');
            while (true)
                if (const auto n = res.write(block); !n) return failed.send(n.error());
        });
        start();
    }
    mpg::chan<std::error_code> failed{1};
};

TEST_P(http_server, a_client_that_does_not_read_fails_the_write) {
    run([] {
        endless_server s(100ms);
        http_peer c = s.connect();
        ASSERT_TRUE(c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
        EXPECT_EQ(s.failed.recv(), make_error_code(mpg::errc::deadline_exceeded));
    });
}

/// The time-out is for the whole response: that something goes out now and then moves nothing.
TEST_P(http_server, a_client_that_reads_a_byte_now_and_then_fails_the_write) {
    run([] {
        endless_server s(300ms);
        http_peer c = s.connect();
        ASSERT_TRUE(c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
        auto sips = mpg::spawn([&] {
            // Enough at a time that the window opens again, so that the server's socket takes more.
            for (std::vector<std::byte> some(64 << 10); c.stream().read(some).value_or(0) != 0;) mpg::sleep_for(5ms);
        });
        EXPECT_EQ(s.failed.recv(), make_error_code(mpg::errc::deadline_exceeded));
        c.stream().shutdown_write();
        EXPECT_TRUE(mpg::test::eventually([&] { return s->connections().active + s->connections().idle == 0; }));
        sips.join();
    });
}

// ---- limits
// ----------------------------------------------------------------------------------------------------

TEST_P(http_server, connections_beyond_the_limit_wait) {
    run([] {
        live_server s({.max_connections = 2});
        add_echo(s);
        s.start();
        http_peer a = s.connect(), b = s.connect(), c = s.connect();
        EXPECT_EQ(a.get("/ok").status, 200);
        EXPECT_EQ(b.get("/ok").status, 200);
        ASSERT_TRUE(c.send("GET /ok HTTP/1.1\r\nHost: a\r\n\r\n"));
        const auto n = s->connections();
        EXPECT_LE(n.active + n.idle, 2u);
        a.close();
        EXPECT_EQ(c.read().status, 200);
    });
}

TEST_P(http_server, goes_on_after_it_ran_out_of_descriptors) {
    run([] {
        live_server s;
        add_echo(s);
        s.start();
        http_peer before = s.connect();
        EXPECT_EQ(before.get("/ok").status, 200);

        // UBSan looks at a category's type for the first time through a pipe, which would need descriptors.
        EXPECT_EQ(std::error_code(EMFILE, std::system_category()), std::errc::too_many_files_open);
        ::rlimit old;
        ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &old), 0);
        const int next = ::dup(0); // the lowest number that is free
        ::close(next);
        ::rlimit low = old;
        low.rlim_cur = static_cast<::rlim_t>(next) + 1; // room for the client's end only
        ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &low), 0);
        http_peer c = s.connect();
        mpg::sleep_for(20ms); // the server may try, and fail
        EXPECT_EQ(before.get("/ok").status, 200) << "others are served meanwhile";
        ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &old), 0);
        ASSERT_TRUE(c.connected());
        EXPECT_EQ(c.get("/ok").status, 200);
    });
}

// ---- contexts
// --------------------------------------------------------------------------------------------------

TEST_P(http_server, a_request_is_cancelled_when_its_client_leaves) {
    run([] {
        live_server s;
        mpg::chan<void> started, ended;
        s->handle("/", [&](request& req, response&) {
            const mpg::context ctx = req.ctx();
            EXPECT_FALSE(ctx.is_done());
            started.send();
            ctx.done().recv();
            EXPECT_EQ(ctx.err(), mpg::errc::cancelled);
            ended.send();
        });
        s.start();
        http_peer c = s.connect();
        ASSERT_TRUE(c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
        started.recv();
        c.close();
        ended.recv();
    });
}

TEST_P(http_server, a_request_is_cancelled_when_its_client_leaves_after_the_body) {
    run([] {
        live_server s;
        mpg::chan<void> read, ended;
        s->handle("/", [&](request& req, response&) {
            const mpg::context ctx = req.ctx();
            EXPECT_EQ(req.body().read_all(), "hello");
            EXPECT_FALSE(ctx.is_done());
            read.send();
            ctx.done().recv();
            ended.send();
        });
        s.start();
        http_peer c = s.connect();
        ASSERT_TRUE(c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe"));
        ASSERT_TRUE(c.send("llo"));
        read.recv();
        c.close();
        ended.recv();
    });
}

TEST_P(http_server, a_request_is_cancelled_when_its_client_leaves_in_the_body) {
    run([] {
        live_server s;
        mpg::chan<void> started, ended;
        s->handle("/", [&](request& req, response&) {
            const mpg::context ctx = req.ctx();
            started.send();
            EXPECT_EQ(req.body().read_all().error(), std::errc::connection_aborted);
            EXPECT_TRUE(ctx.is_done());
            ended.send();
        });
        s.start();
        http_peer c = s.connect();
        ASSERT_TRUE(c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe"));
        started.recv();
        ASSERT_FALSE(c.stream().shutdown_write());
        ended.recv();
    });
}

TEST_P(http_server, a_request_is_cancelled_when_the_server_is_closed) {
    run([] {
        live_server s;
        mpg::chan<void> started, ended;
        s->handle("/", [&](request& req, response&) {
            const mpg::context ctx = req.ctx();
            started.send();
            ctx.done().recv();
            ended.send();
        });
        s.start();
        http_peer c = s.connect();
        ASSERT_TRUE(c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
        started.recv();
        s->close();
        ended.recv();
        EXPECT_EQ(s.served(), mpg::errc::server_closed);
    });
}

TEST_P(http_server, a_context_is_done_when_the_handler_has_returned) {
    run([] {
        live_server s;
        mpg::context kept = mpg::context::background();
        s->handle("/", [&](request& req, response&) { kept = req.ctx(); });
        s.start();
        http_peer c = s.connect();
        EXPECT_EQ(c.get("/").status, 200);
        EXPECT_TRUE(kept.is_done());
    });
}

TEST_P(http_server, watching_a_client_loses_nothing_of_what_it_sends) {
    run([] {
        live_server s;
        mpg::chan<void> go_on;
        s->handle("/wait", [&](request& req, response& res) {
            (void)req.ctx();
            go_on.recv();
            EXPECT_FALSE(req.ctx().is_done());
            (void)res.write("waited");
        });
        s->handle("POST /echo", [](request& req, response& res) {
            (void)req.ctx();
            (void)res.write(req.body().read_all().value_or("failed"));
        });
        s.start();
        http_peer c = s.connect();
        for (int i = 0; i < 20; ++i) {
            ASSERT_TRUE(c.send("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n"));
            ASSERT_TRUE(c.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Le"));
            go_on.send();
            ASSERT_TRUE(c.send("ngth: 5\r\n\r\nhello"));
            EXPECT_EQ(c.read().body, "waited");
            EXPECT_EQ(c.read().body, "hello");
        }
    });
}

TEST_P(http_server, an_earlier_response_does_not_wait_for_a_slow_handler) {
    run([] {
        live_server s;
        mpg::chan<void> go_on;
        add_echo(s);
        s->handle("/wait", [&](request&, response&) { go_on.recv(); });
        s.start();
        http_peer c = s.connect();
        ASSERT_TRUE(c.send("GET /ok HTTP/1.1\r\nHost: a\r\n\r\nGET /wait HTTP/1.1\r\nHost: a\r\n\r\n"));
        EXPECT_EQ(c.read().body, "ok");
        go_on.send();
        EXPECT_EQ(c.read().status, 200);
    });
}

// ---- hijack
// ----------------------------------------------------------------------------------------------------

TEST_P(http_server, a_handler_may_take_the_connection_over) {
    run([] {
        live_server s({.read_header_timeout = 400ms, .write_timeout = 400ms, .idle_timeout = 400ms});
        add_echo(s);
        s->handle("/raw", [](request& req, response& res) {
            (void)req.ctx();
            mpg::http::hijacked h = res.hijack();
            EXPECT_THROW((void)res.hijack(), std::logic_error);
            EXPECT_EQ(res.write("x").error(), mpg::errc::closed);
            EXPECT_FALSE(
                h.stream.write(mpg::test::bytes("HTTP/1.1 101 Switching Protocols\r\n\r\n")).error_or({}));
            std::string got = h.buffered;
            std::byte piece[64];
            while (got.size() < 6) {
                const auto n = h.stream.read(piece);
                ASSERT_TRUE(n && *n > 0);
                got += mpg::test::text(std::span(piece).first(*n));
            }
            mpg::sleep_for(450ms); // beyond the server's time-outs
            EXPECT_TRUE(h.stream.write(mpg::test::bytes("<" + got + ">")));
        });
        s.start();
        http_peer c = s.connect();
        ASSERT_TRUE(c.send("GET /ok HTTP/1.1\r\nHost: a\r\n\r\nGET /raw HTTP/1.1\r\nHost: a\r\n\r\nabc"));
        EXPECT_EQ(c.read().body, "ok");
        EXPECT_EQ(c.read().status, 101);
        ASSERT_TRUE(c.send("def"));
        EXPECT_EQ(mpg::test::read_all(c.stream()), "<abcdef>");
    });
}

/// What came behind the header goes to who has taken the connection over: some of it read already, the rest in the socket.
TEST_P(http_server, who_takes_a_connection_over_gets_each_byte_behind_the_header) {
    run([] {
        live_server s;
        s->handle("/raw", [](request&, response& res) {
            mpg::http::hijacked h = res.hijack();
            std::string got = h.buffered;
            while (!got.ends_with('.')) {
                std::byte piece[999];
                const auto n = h.stream.read(piece);
                ASSERT_TRUE(n && *n > 0);
                got += mpg::test::text(std::span(piece).first(*n));
            }
            EXPECT_TRUE(h.stream.write(mpg::test::bytes(got)));
        });
        s.start();
        for (std::size_t n : {1u, 2u, 1000u, 1990u, 1991u, 1992u, 2000u, 2047u, 2048u, 2049u, 4096u, 50'000u}) {
            std::string behind;
            while (behind.size() < n) behind += std::to_string(behind.size()) + ",";
            behind.resize(n - 1);
            behind += '.';
            http_peer c = s.connect();
            ASSERT_TRUE(c.send("GET /raw HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: raw\r\n\r\n" + behind));
            EXPECT_TRUE(mpg::test::read_all(c.stream()) == behind) << n;
        }
    });
}

// ---- the end
// ---------------------------------------------------------------------------------------------------

TEST_P(http_server, shutdown_closes_idle_connections_and_finishes_active_requests) {
    run([] {
        live_server s;
        add_echo(s);
        mpg::chan<void> started, go_on;
        s->handle("/slow", [&](request&, response& res) {
            started.send();
            go_on.recv();
            (void)res.write("done");
        });
        int hooks = 0;
        s->on_shutdown([&] { ++hooks; });
        s.start();
        http_peer idle = s.connect(), fresh = s.connect(), active = s.connect();
        EXPECT_EQ(idle.get("/ok").status, 200);
        ASSERT_TRUE(active.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n"));
        started.recv();
        ASSERT_TRUE(mpg::test::eventually([&] { return s->connections().idle == 2; }));
        EXPECT_EQ(s->connections().active, 1u);

        auto ending = mpg::spawn([&] { return s->shutdown(mpg::context::background()); });
        EXPECT_TRUE(idle.ends());
        EXPECT_TRUE(fresh.ends());
        EXPECT_EQ(s.served(), mpg::errc::server_closed);
        EXPECT_FALSE(s.connect().connected());
        EXPECT_EQ(hooks, 1);
        go_on.send();
        const reply r = active.read();
        EXPECT_EQ(r.body, "done");
        EXPECT_EQ(r.field("connection"), "close");
        EXPECT_TRUE(active.ends());
        EXPECT_FALSE(ending.join());
        EXPECT_FALSE(s->shutdown(mpg::context::background())) << "again";
        EXPECT_EQ(hooks, 1);
    });
}

TEST_P(http_server, shutdown_gives_up_at_its_deadline) {
    run([] {
        live_server s;
        mpg::chan<void> started;
        s->handle("/", [&](request& req, response&) {
            started.send();
            req.ctx().done().recv();
        });
        s.start();
        http_peer c = s.connect();
        ASSERT_TRUE(c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
        started.recv();
        EXPECT_EQ(s->shutdown(mpg::with_timeout(mpg::context::background(), 20ms)),
                  mpg::errc::deadline_exceeded);
        EXPECT_EQ(s->connections().active, 1u);
        s->close();
        EXPECT_TRUE(c.ends());
        EXPECT_FALSE(s->shutdown(mpg::context::background()));
    });
}

TEST_P(http_server, serves_no_more_after_shutdown) {
    run([] {
        live_server s;
        EXPECT_FALSE(s->shutdown(mpg::context::background()));
        s.start();
        EXPECT_EQ(s.served(), mpg::errc::server_closed);
        EXPECT_EQ(s->listen_and_serve("127.0.0.1:0"), mpg::errc::server_closed);
        EXPECT_FALSE(s.connect().connected());
    });
}

TEST_P(http_server, the_destructor_waits_for_handlers) {
    run([] {
        std::atomic<bool> ended{false};
        mpg::chan<void> started;
        std::optional<http_peer> c;
        {
            live_server s;
            s->handle("/", [&](request& req, response&) {
                started.send();
                req.ctx().done().recv();
                for (int i = 0; i < 10; ++i) mpg::yield();
                ended = true;
            });
            s.start();
            c.emplace(s.connect());
            ASSERT_TRUE(c->send("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
            started.recv();
        }
        EXPECT_TRUE(ended);
        EXPECT_TRUE(c->ends());
    });
}

TEST_P(http_server, an_address_in_use_is_an_error) {
    run([] {
        auto l = mpg::test::listen_local();
        mpg::http::server s;
        EXPECT_EQ(s.listen_and_serve(l.local_endpoint().to_string()), std::errc::address_in_use);
        EXPECT_TRUE(s.listen_and_serve("no address"));
    });
}

/// Each request that a handler has seen is answered to its end, and a client that fails has seen no byte of
/// an answer.
TEST_P(http_server, shutdown_under_load_loses_no_accepted_request) {
    for (int round = 0; round < 5; ++round)
        run([&] {
            live_server s;
            std::atomic<int> handled{0};
            s->handle("POST /", [&](request& req, response& res) {
                auto body = req.body().read_all();
                if (!body) return;
                ++handled;
                mpg::yield();
                (void)res.write(*body);
            });
            s.start();
            std::atomic<int> answered{0}, halves{0};
            std::vector<mpg::task<void>> clients;
            for (int k = 0; k < 20; ++k)
                clients.push_back(mpg::spawn([&, k] {
                    const std::string body(static_cast<std::size_t>(100 * k), 'b');
                    const std::string head =
                        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: " + std::to_string(body.size()) +
                        "\r\n\r\n";
                    while (true) {
                        http_peer c = s.connect();
                        if (!c.connected()) return;
                        while (c.send(head) && c.send(body)) {
                            const reply r = c.read();
                            if (r.status != 200) {
                                halves += !r.head.empty();
                                break;
                            }
                            ++answered;
                            if (r.field("connection") == "close") break;
                        }
                    }
                }));
            while (answered < 200) mpg::yield();
            EXPECT_FALSE(s->shutdown(mpg::context::background()));
            const auto left = s->connections();
            EXPECT_EQ(left.active + left.idle, 0u);
            for (auto& c : clients) c.join();
            EXPECT_EQ(handled, answered);
            EXPECT_EQ(halves, 0);
        });
}

TEST_P(http_server, a_runtime_may_stop_at_any_moment) {
    for (int round = 0; round < 20; ++round) {
        auto c = std::make_shared<std::vector<http_peer>>();
        run([&, round] {
            auto s = std::make_shared<live_server>();
            add_echo(*s);
            (*s)->handle("/wait", [](request&, response&) { mpg::chan<void>().recv(); });
            (*s)->handle("/watch", [](request& req, response&) { req.ctx().done().recv(); });
            s->start();
            for (int i = 0; i < 6; ++i) {
                c->push_back(s->connect());
                if (i % 3 == 0) {
                    EXPECT_EQ(c->back().get("/ok").status, 200);
                } else {
                    EXPECT_TRUE(c->back().send(i % 3 == 1 ? "GET /wait HTTP/1.1\r\nHost: a\r\n\r\n"
                                                          : "GET /watch HTTP/1.1\r\nHost: a\r\n\r\n"));
                }
            }
            for (int i = 0; i < round; ++i) mpg::yield();
            mpg::go([s] { mpg::chan<void>().recv(); }); // the server dies with a task that is unwound
        });
    }
}

} // namespace
