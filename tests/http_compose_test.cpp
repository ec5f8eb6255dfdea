// Handlers that are made of others, and that send as they go.
#include "http_support.hpp"

#include <atomic>
#include <chrono>
#include <exception>
#include <string>
#include <thread>
#include <utility>

namespace {

using namespace std::chrono_literals;
using mpg::http::request;
using mpg::http::response;
using mpg::test::http_peer;
using mpg::test::live_server;
using mpg::test::reply;

struct http_compose : mpg::test::with_pollers {};
MPG_TEST_IO(http_compose);

// Middleware is a function from handlers to handlers.
auto tagged(std::string tag, auto next) {
    return [tag, next = std::move(next)](request& req, response& res) {
        res.add_header("X-Through", tag);
        next(req, res);
    };
}
auto only_with_token(auto next) {
    return [next = std::move(next)](request& req, response& res) {
        if (req.header("Authorization") != "Bearer t") return (void)res.status(401).write("who are you?");
        next(req, res);
    };
}
auto with_limit(std::chrono::milliseconds limit, auto next) {
    return [limit, next = std::move(next)](request& req, response& res) {
        const auto ctx = mpg::with_timeout(req.ctx(), limit);
        next(req, res, ctx);
    };
}

TEST_P(http_compose, middleware_is_a_function_of_handlers) {
    run([] {
        live_server s;
        std::atomic<int> served{0};
        s->handle("GET /secret", tagged("outer", only_with_token(tagged("inner", [&](request&, response& res) {
            ++served;
            (void)res.write("the secret");
        }))));
        s->handle("GET /slow", with_limit(20ms, [](request&, response& res, const mpg::context& ctx) {
            (void)ctx.done().recv();
            (void)res.status(503).write(ctx.err().message());
        }));
        s.start();
        http_peer c = s.connect();
        const reply no = c.get("/secret"), yes = c.get("/secret", "Authorization: Bearer t\r\n");
        EXPECT_EQ(no.status, 401);
        EXPECT_EQ(no.field("X-Through"), "outer");
        EXPECT_EQ(yes.body, "the secret");
        EXPECT_NE(yes.head.find("X-Through: outer\r\nX-Through: inner\r\n"), std::string::npos) << yes.head;
        EXPECT_EQ(served, 1);
        const reply slow = c.get("/slow");
        EXPECT_EQ(slow.status, 503);
        EXPECT_EQ(slow.body, make_error_code(mpg::errc::deadline_exceeded).message());
        EXPECT_EQ(c.get("/secret", "Authorization: Bearer t\r\n").status, 200) << "the connection goes on";
    });
}

/// Each event is with the client before the next one is made; when it leaves, the handler learns of it.
TEST_P(http_compose, events_are_sent_as_they_come) {
    run([] {
        live_server s;
        mpg::chan<std::string> events;
        mpg::chan<std::error_code> ended(1);
        s->handle("GET /events", [&](request& req, response& res) {
            res.header("Content-Type", "text/event-stream").header("Cache-Control", "no-store");
            (void)res.flush(); // the header, before there is anything to tell
            const mpg::context& ctx = req.ctx();
            for (std::string e; events.recv(ctx, e) == mpg::chan_status::ok;) {
                (void)res.write("data: " + e + "\n\n");
                (void)res.flush();
            }
            ended.send(ctx.err());
        });
        s.start();
        mpg::http::client client;
        {
            auto r = client.get("http://" + s.address().to_string() + "/events");
            ASSERT_TRUE(r) << r.error().message();
            EXPECT_EQ(r->header("Content-Type"), "text/event-stream");
            std::byte piece[100];
            for (int i = 0; i != 100; ++i) {
                events.send(std::to_string(i));
                const auto n = r->body().read(piece);
                ASSERT_TRUE(n);
                ASSERT_EQ(mpg::test::text(std::span(piece).first(*n)), "data: " + std::to_string(i) + "\n\n");
            }
        }
        EXPECT_EQ(ended.recv(), make_error_code(mpg::errc::cancelled));
    });
}

/// Handlers of one connection run one after the other, whoever is slow, and so do the answers.
TEST_P(http_compose, answers_come_in_the_order_of_the_requests) {
    run([] {
        live_server s;
        std::atomic<int> at_once{0};
        s->handle("/{n}/{how}", [&](request& req, response& res) {
            EXPECT_EQ(++at_once, 1);
            const std::string n = req.path_value("n"), how = req.path_value("how");
            if (how == "slow") mpg::sleep_for(3ms);
            if (how == "thread") mpg::blocking([] { std::this_thread::sleep_for(1ms); });
            if (how == "watched") (void)req.ctx();
            const std::string body = req.body().read_all().value_or("failed");
            (void)res.write(n + body);
            if (how == "chunked") (void)res.flush();
            if (how == "long") (void)res.write(std::string(100'000, '.'));
            --at_once;
            if (how == "throws") throw 1;
        });
        s->on_exception([](const request&, std::exception_ptr) {});
        s.start();
        constexpr const char* hows[] = {"slow", "quick", "chunked", "long", "quick", "thread", "watched", "throws", "none/here"};
        constexpr int requests = 200;
        std::string all;
        for (int i = 0; i != requests; ++i) {
            const bool post = i % 4 == 1;
            all += (post ? "POST /" : i % 16 == 3 ? "HEAD /" : "GET /") + std::to_string(i) + '/' + hows[i % 9] + " HTTP/1.1\r\nHost: a\r\n" +
                   (post && i % 8 == 1 ? "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n" : post ? "Content-Length: 1\r\n\r\nx" : "\r\n");
        }
        http_peer c = s.connect();
        auto sending = mpg::spawn([&] { return c.send(all); });
        for (int i = 0; i != requests; ++i) {
            const std::string how = hows[i % 9];
            const reply r = c.read(i % 16 == 3);
            if (how == "throws") {
                ASSERT_EQ(r.status, 500) << i;
            } else if (how == "none/here") {
                ASSERT_EQ(r.status, 404) << i;
            } else {
                ASSERT_EQ(r.status, 200) << i;
                if (i % 16 == 3) continue;
                const std::string expected = std::to_string(i) + (i % 4 == 1 ? "x" : "");
                ASSERT_EQ(r.body.substr(0, expected.size()), expected);
                ASSERT_EQ(r.body.size(), expected.size() + (how == "long" ? 100'000 : 0)) << i;
            }
        }
        EXPECT_TRUE(sending.join());
    });
}

} // namespace
