// HTTP as the page of the public API declares it, by programs that know nothing else. Details:
// http_server_test.cpp, http_client_test.cpp, http_connection_test.cpp.
#include "http_support.hpp"

#include <mpg/http.hpp>
#include <mpg/mpg.hpp>

#include <array>
#include <atomic>
#include <stdexcept>
#include <string>

namespace {

using namespace std::chrono_literals;
using mpg::http::request;
using mpg::http::response;
using mpg::test::bytes;
using mpg::test::http_peer;
using mpg::test::live_server;

struct http_contract : mpg::test::with_pollers {};
MPG_TEST_IO(http_contract);

void greet(request&, response& res) { res.write("hello"); }

TEST_P(http_contract, handlers_of_every_shape) {
    run([] {
        live_server s;
        struct counter {
            std::atomic<int>* calls;
            void operator()(request&, response& res) {
                ++*calls;
                res.write("counted");
            }
        };
        std::atomic<int> calls{0};
        s->handle("/function", greet);
        s->handle("/object", counter{&calls});
        s->handle("/generic", [](auto& req, auto& res) { res.write(req.path()); });
        s->handle("/move-only", [p = std::make_unique<std::string>("owned")](
                                    request&, response& res) mutable { res.write(*p); });
        s->handle("/bytes", [](request&, response& res) {
            const std::array<std::byte, 2> two{std::byte{'o'}, std::byte{'k'}};
            const mpg::result<std::size_t> n = res.write(two);
            EXPECT_EQ(n, 2u);
        });
        s.start();
        http_peer c = s.connect();
        EXPECT_EQ(c.get("/function").body, "hello");
        EXPECT_EQ(c.get("/object").body, "counted");
        EXPECT_EQ(c.get("/generic").body, "/generic");
        EXPECT_EQ(c.get("/move-only").body, "owned");
        EXPECT_EQ(c.get("/bytes").body, "ok");
        EXPECT_EQ(calls, 1);
    });
}

TEST_P(http_contract, what_a_request_says) {
    run([] {
        live_server s;
        s->handle("POST /api/", [](request& req, response& res) {
            EXPECT_EQ(req.method(), "POST");
            EXPECT_EQ(req.target(), "/api/a%20b?x=1&y=2");
            EXPECT_EQ(req.path(), "/api/a b");
            EXPECT_EQ(req.query(), "x=1&y=2");
            EXPECT_EQ(req.header("X-Some-THING"), "value");
            EXPECT_EQ(req.header("x-other"), "");
            std::string names;
            for (const auto& [name, value] : req.headers()) (((names += name) += '=') += value) += ',';
            EXPECT_EQ(names, "host=a,x-some-thing=value,content-length=4,");
            EXPECT_FALSE(req.ctx().is_done());
            EXPECT_EQ(req.remote_endpoint().to_string().substr(0, 10), "127.0.0.1:");
            std::array<std::byte, 64> buffer;
            EXPECT_EQ(req.body().read(buffer), 4u);
            EXPECT_EQ(req.body().read(buffer, mpg::context::background()), 0u);
            res.status(201).header("X-Made", "yes").write("made");
        });
        s.start();
        http_peer c = s.connect();
        ASSERT_TRUE(c.send("POST /api/a%20b?x=1&y=2 HTTP/1.1\r\nhost: a\r\nx-some-thing: value\r\n"
                           "content-length: 4\r\n\r\nbody"));
        const auto r = c.read();
        EXPECT_EQ(r.status, 201);
        EXPECT_EQ(r.field("x-made"), "yes");
        EXPECT_EQ(r.body, "made");
    });
}

TEST_P(http_contract, methods_and_statuses) {
    run([] {
        live_server s;
        s->handle("GET /get", [](request&, response& res) { res.write("body"); });
        s->handle("DELETE /get", [](request&, response& res) { res.status(204); });
        s->handle("/throws", [](request&, response&) { throw std::runtime_error("on purpose"); });
        s->handle("/throws/late", [](request&, response& res) {
            res.write("begun");
            res.flush();
            throw 42;
        });
        std::atomic<int> thrown{0};
        s->on_exception([&](const request&, std::exception_ptr) { ++thrown; });
        s.start();
        http_peer c = s.connect();
        ASSERT_TRUE(c.send("HEAD /get HTTP/1.1\r\nHost: a\r\n\r\n"));
        const auto head = c.read(true);
        EXPECT_EQ(head.status, 200);
        EXPECT_EQ(head.field("content-length"), "4");
        ASSERT_TRUE(c.send("POST /get HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"));
        const auto wrong = c.read();
        EXPECT_EQ(wrong.status, 405);
        EXPECT_EQ(wrong.field("allow"), "DELETE, GET, HEAD");
        EXPECT_EQ(c.get("/none").status, 404);
        EXPECT_EQ(c.get("/throws").status, 500);
        EXPECT_EQ(c.get("/get").status, 200) << "on the same connection";
        EXPECT_EQ(c.get("/throws/late").status, 0);
        EXPECT_TRUE(c.ends());
        EXPECT_EQ(thrown, 2);
        http_peer d = s.connect();
        EXPECT_EQ(d.get("/get", "Expect: a-miracle\r\n").status, 417);
        const char* const refused[] = {
            "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length: 1\r\nContent-Length: 2\r\n",
        };
        for (const char* fields : refused) {
            http_peer e = s.connect();
            EXPECT_EQ(e.get("/get", fields).status, 400) << fields;
            EXPECT_TRUE(e.ends());
        }
        http_peer e = s.connect();
        ASSERT_TRUE(e.send("GET /get HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"));
        EXPECT_EQ(e.read().status, 400);
    });
}

TEST_P(http_contract, bodies) {
    run([] {
        live_server s;
        s->handle("/chunks", [](request&, response& res) {
            res.write("one ");
            EXPECT_FALSE(res.flush());
            res.write(std::string_view("two"));
        });
        s->handle("/sized", [](request&, response& res) {
            res.header("Content-Length", "3");
            res.write("a");
            res.flush();
            res.write("bc");
        });
        mpg::chan<std::error_code> failed(1);
        s->handle("/echo", [&](request& req, response& res) {
            const auto n = mpg::copy(res, req.body());
            if (!n) failed.send(n.error());
        });
        s.start();
        http_peer c = s.connect();
        const auto chunks = c.get("/chunks");
        EXPECT_EQ(chunks.field("transfer-encoding"), "chunked");
        EXPECT_EQ(chunks.body, "one two");
        const auto sized = c.get("/sized");
        EXPECT_EQ(sized.field("content-length"), "3");
        EXPECT_EQ(sized.body, "abc");
        ASSERT_TRUE(
            c.send("PUT /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\n"
                   "de\r\n0\r\nTrailer: x\r\n\r\n"));
        EXPECT_EQ(c.read().body, "abcde");
        ASSERT_TRUE(
            c.send("PUT /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"));
        EXPECT_EQ(c.read().status, 100);
        ASSERT_TRUE(c.send("ok"));
        EXPECT_EQ(c.read().body, "ok");
        ASSERT_TRUE(c.send("PUT /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"));
        EXPECT_TRUE(failed.recv().value());
        (void)c.read();
        EXPECT_TRUE(c.ends());
    });
}

TEST_P(http_contract, a_connection_can_be_taken_over) {
    run([] {
        live_server s;
        s->handle("/up", [](request&, response& res) {
            auto taken = res.hijack();
            EXPECT_TRUE(taken.write(bytes("raw:")));
            std::array<std::byte, 16> buffer;
            for (;;) {
                const auto n = taken.read(buffer);
                if (!n || *n == 0) break;
                EXPECT_TRUE(taken.write(std::span(buffer).first(*n)));
            }
            taken.close();
        });
        s->handle("/stream", [](request&, response& res) {
            mpg::net::tcp_stream stream = res.hijack().stream;
            EXPECT_TRUE(stream.write(bytes("mine")));
        });
        s.start();
        {
            auto c = s.connect();
            ASSERT_TRUE(c.send("GET /up HTTP/1.1\r\nHost: a\r\n\r\nearly"));
            EXPECT_TRUE(c.send(" late"));
            EXPECT_FALSE(c.stream().shutdown_write());
            EXPECT_EQ(mpg::test::read_all(c.stream()), "raw:early late");
        }
        auto c = s.connect();
        ASSERT_TRUE(c.send("GET /stream HTTP/1.1\r\nHost: a\r\n\r\n"));
        EXPECT_EQ(mpg::test::read_all(c.stream()), "mine");
    });
}

TEST_P(http_contract, the_life_of_a_server) {
    run([] {
        mpg::http::server_options o{.max_header_bytes = 8 << 10,
                                    .max_body_bytes = 1 << 20,
                                    .max_connections = 100,
                                    .read_header_timeout = 5s,
                                    .read_timeout = 10s,
                                    .write_timeout = 10s,
                                    .idle_timeout = 30s};
        live_server s(o);
        mpg::chan<void> started, go_on;
        s->handle("/slow", [&](request& req, response& res) {
            started.send();
            mpg::select(mpg::on_recv(go_on), mpg::on_done(req.ctx()));
            res.write("done");
        });
        s.start();
        http_peer active = s.connect(), idle = s.connect();
        EXPECT_EQ(idle.get("/").status, 404);
        ASSERT_TRUE(active.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n"));
        started.recv();
        auto soon = mpg::with_timeout(mpg::context::background(), 5ms);
        EXPECT_EQ(s->shutdown(soon), mpg::errc::deadline_exceeded);
        EXPECT_EQ(s.served(), mpg::errc::server_closed);
        EXPECT_TRUE(idle.ends());
        EXPECT_FALSE(s.connect().connected());
        go_on.send();
        EXPECT_EQ(active.read().body, "done");
        EXPECT_FALSE(s->shutdown(mpg::context::background()));
        EXPECT_EQ(s->listen_and_serve("127.0.0.1:0"), mpg::errc::server_closed);
    });
}

TEST_P(http_contract, close_cancels_what_is_served) {
    run([] {
        live_server s;
        mpg::chan<void> started;
        mpg::chan<bool> cancelled(1);
        s->handle("/", [&](request& req, response&) {
            started.send();
            req.ctx().done().recv();
            cancelled.send(req.ctx().is_done());
        });
        s.start();
        http_peer c = s.connect();
        ASSERT_TRUE(c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
        started.recv();
        s->close();
        EXPECT_TRUE(cancelled.recv().value());
        EXPECT_EQ(s.served(), mpg::errc::server_closed);
        EXPECT_TRUE(c.ends());
    });
}

TEST_P(http_contract, the_client) {
    run([] {
        live_server s;
        s->handle("GET /",
                  [](request& req, response& res) { res.header("X-Path", req.path()).write("got"); });
        s->handle("POST /", [](request& req, response& res) { mpg::copy(res, req.body()); });
        s->handle("GET /never", [](request& req, response&) { req.ctx().done().recv(); });
        s.start();
        const std::string base = "http://" + s.address().to_string();
        mpg::http::client client;
        const mpg::context none = mpg::context::background();
        for (int i = 0; i < 2; ++i) {
            mpg::result<mpg::http::client_response> r =
                i == 0 ? client.get(base + "/a") : client.get(base + "/a", none);
            ASSERT_TRUE(r) << r.error().message();
            EXPECT_EQ(r->status(), 200);
            EXPECT_EQ(r->header("x-path"), "/a");
            EXPECT_EQ(r->body().read_all(), "got");
        }
        mpg::http::client_request post;
        post.method = "POST";
        post.url = base + "/";
        post.headers = {{"X-A", "b"}};
        post.body = "sent";
        auto r = client.fetch(post);
        ASSERT_TRUE(r);
        std::array<std::byte, 16> buffer;
        EXPECT_EQ(r->body().read(buffer), 4u);
        EXPECT_EQ(client.fetch(post, none)->status(), 200);
        EXPECT_EQ(mpg::http::get(base)->status(), 200);
        EXPECT_EQ(mpg::http::fetch(post)->status(), 200);
        EXPECT_EQ(client.get(base + "/never", mpg::with_timeout(none, 2ms)).error(),
                  mpg::errc::deadline_exceeded);
        auto done = mpg::with_cancel(none);
        done.cancel();
        EXPECT_EQ(client.get(base, done).error(), mpg::errc::cancelled);
        EXPECT_FALSE(client.get("no url"));
    });
}

} // namespace
