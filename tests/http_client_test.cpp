// The HTTP client: against our server, and against scripted ones that misbehave.
#include "http_support.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using namespace std::string_view_literals;
using mpg::http::client;
using mpg::http::client_request;
using mpg::http::request;
using mpg::http::response;
using mpg::test::live_server;

struct http_client : mpg::test::with_pollers {};
MPG_TEST_IO(http_client);

std::string url(const live_server& s, std::string_view path) {
    return "http://" + s.address().to_string() + std::string(path);
}

/// At one moment: a connection may turn from active to idle between two looks.
std::size_t open_connections(live_server& s) {
    const auto n = s->connections();
    return n.active + n.idle;
}

/// Accepts, reads one request's header, answers with a text, closes; for each text.
class scripted_server {
  public:
    explicit scripted_server(std::vector<std::string> answers)
        : listener_(mpg::test::listen_local()) {
        address_ = listener_.local_endpoint().to_string();
        task_ = mpg::spawn([this, answers = std::move(answers)] {
            for (const std::string& a : answers) {
                auto peer = listener_.accept();
                if (!peer) return;
                std::string got;
                std::byte piece[4096];
                while (got.find("\r\n\r\n") == std::string::npos) {
                    const auto n = peer->read(piece);
                    if (!n || *n == 0) break;
                    got += mpg::test::text(std::span(piece).first(*n));
                }
                {
                    std::lock_guard lock(mutex_);
                    requests_.push_back(got);
                }
                (void)peer->write(mpg::test::bytes(a));
            }
        });
    }
    ~scripted_server() {
        listener_.close();
        task_.done().recv();
    }
    std::string url(std::string_view path = "/") const { return "http://" + address_ + std::string(path); }
    /// Those that have come so far.
    std::vector<std::string> requests() const {
        std::lock_guard lock(mutex_);
        return requests_;
    }

  private:
    mutable std::mutex mutex_;
    std::vector<std::string> requests_; // guarded by mutex_
    mpg::net::tcp_listener listener_;
    std::string address_;
    mpg::task<void> task_;
};

TEST_P(http_client, gets_and_posts) {
    run([] {
        live_server s;
        s->handle("GET /hello", [](request& req, response& res) {
            res.header("X-Agent", req.header("user-agent")).header("X-Host", req.host());
            (void)res.write("hello " + req.query("q").value_or(""));
        });
        s->handle("POST /echo", [](request& req, response& res) {
            (void)res.write(req.body().read_all().value_or("failed"));
            (void)res.flush(); // chunked
        });
        s.start();
        auto r = mpg::http::get(url(s, "/hello?q=you#fragment"));
        ASSERT_TRUE(r) << r.error().message();
        EXPECT_EQ(r->status(), 200);
        EXPECT_EQ(r->header("x-agent"), "mpg");
        EXPECT_EQ(r->header("x-host"), s.address().to_string());
        EXPECT_EQ(r->body().read_all(), "hello you");
        const std::string large(300'000, 'x');
        r = mpg::http::fetch({.method = "POST", .url = url(s, "/echo"), .body = large});
        ASSERT_TRUE(r);
        EXPECT_TRUE(r->body().read_all() == large);
        r = mpg::http::fetch({.method = "HEAD", .url = url(s, "/hello")});
        ASSERT_TRUE(r);
        EXPECT_EQ(r->content_length(), 6u);
        EXPECT_EQ(r->body().read_all(), "");
        EXPECT_EQ(mpg::http::get(url(s, "/none"))->status(), 404);
    });
}

/// The zone says where to connect to, and is a part of where a connection that is kept leads; no server is told.
TEST_P(http_client, connects_to_an_address_with_a_zone) {
    run([] {
        auto l = mpg::net::tcp_listener::bind("[::1]:0");
        ASSERT_TRUE(l);
        mpg::http::server s;
        s.handle("GET /", [](request& req, response& res) {
            if (req.path() == "/moved") res.status(302).header("Location", "/there");
            (void)res.write(std::string(req.path()) + " of " + std::string(req.host()));
        });
        auto serving = mpg::spawn([&] { return s.serve(*l); });
        const std::string port = ":" + std::to_string(l->local_endpoint().port());
        mpg::http::client c;
        for (const char* zone : {"lo", "1"}) {
            auto r = c.get("http://[::1%25" + std::string(zone) + "]" + port + "/moved");
            ASSERT_TRUE(r) << r.error().message();
            EXPECT_EQ(r->url(), "http://[::1%25" + std::string(zone) + "]" + port + "/there");
            EXPECT_EQ(r->body().read_all(), "/there of [::1]" + port);
        }
        EXPECT_EQ(s.stats().connections_accepted, 2u);
        EXPECT_FALSE(c.get("http://[::1%25no-such-0]" + port + "/"));
        c.close_idle();
        EXPECT_FALSE(s.shutdown(mpg::context::background()));
        EXPECT_EQ(serving.join(), mpg::errc::server_closed);
    });
}

TEST_P(http_client, keeps_connections) {
    run([] {
        live_server s;
        s->handle("/",
                  [](request& req, response& res) { (void)res.write(req.remote_endpoint().to_string()); });
        s.start();
        client c;
        std::string first;
        for (int i = 0; i < 5; ++i) {
            auto r = c.get(url(s, "/"));
            ASSERT_TRUE(r);
            const std::string peer = r->body().read_all().value();
            if (i == 0) first = peer;
            EXPECT_EQ(peer, first);
        }
        // A response that is not read to its end takes its connection with it.
        { EXPECT_TRUE(c.get(url(s, "/"))); }
        EXPECT_NE(c.get(url(s, "/"))->body().read_all(), first);
        c.close_idle();
        EXPECT_TRUE(
            mpg::test::eventually([&] { return open_connections(s) == 0; }));
    });
}

TEST_P(http_client, replaces_a_connection_that_died_while_it_was_kept) {
    run([] {
        const std::string answer = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n";
        scripted_server s({answer + "1", answer + "2", answer + "3"});
        client c;
        for (const char* expected : {"1", "2", "3"}) {
            auto r = c.get(s.url());
            ASSERT_TRUE(r) << r.error().message();
            EXPECT_EQ(r->body().read_all(), expected);
        }
    });
}

TEST_P(http_client, follows_redirects) {
    run([] {
        live_server s;
        auto to = [](int status, std::string where) {
            return [=](request&, response& res) { res.status(status).header("Location", where); };
        };
        s->handle("/a/1", to(302, "2?x"));
        s->handle("/a/2", to(303, "/b"));
        s->handle("/b", [](request& req, response& res) {
            (void)res.write(std::string(req.method()) + " " + req.body().read_all().value());
        });
        s->handle("/keep", to(307, url(s, "/b")));
        s->handle("/loop", to(301, "/loop"));
        s->handle("/bad", to(301, "ftp://x/"));
        s.start();
        client c;
        auto r = c.fetch({.method = "POST", .url = url(s, "/a/1"), .body = "data"});
        ASSERT_TRUE(r);
        EXPECT_EQ(r->url(), url(s, "/b"));
        EXPECT_EQ(r->body().read_all(), "GET ");
        EXPECT_EQ(c.fetch({.method = "POST", .url = url(s, "/keep"), .body = "data"})->body().read_all(),
                  "POST data");
        EXPECT_EQ(c.get(url(s, "/loop")).error(), std::errc::too_many_symbolic_link_levels);
        EXPECT_EQ(c.get(url(s, "/bad")).error(), std::errc::protocol_not_supported);
        EXPECT_EQ(client({.max_redirects = 0}).get(url(s, "/loop"))->status(), 301);
    });
}

TEST_P(http_client, keeps_credentials_on_their_host) {
    run([] {
        scripted_server target({"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"});
        scripted_server first(
            {"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + target.url() + "\r\n\r\n"});
        EXPECT_TRUE(
            mpg::http::fetch({.url = first.url(), .headers = {{"Authorization", "secret"}, {"proxy-authorization", "secret"}, {"X", "y"}}}));
        ASSERT_EQ(target.requests().size(), 1u);
        EXPECT_NE(first.requests()[0].find("secret"), std::string::npos);
        EXPECT_EQ(target.requests()[0].find("secret"), std::string::npos);
        EXPECT_NE(target.requests()[0].find("X: y"), std::string::npos);
    });
}

TEST_P(http_client, sends_the_credentials_of_its_url) {
    run([] {
        const std::string ok = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        scripted_server s({ok, ok});
        const std::string url = "http://Aladdin:open%20sesame@" + s.url().substr(7);
        EXPECT_TRUE(mpg::http::get(url));
        EXPECT_TRUE(mpg::http::fetch({.url = url, .headers = {{"authorization", "mine"}}}));
        ASSERT_EQ(s.requests().size(), 2u);
        EXPECT_NE(s.requests()[0].find("\r\nAuthorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n"), std::string::npos);
        EXPECT_EQ(s.requests()[1].find("Basic"), std::string::npos);
        EXPECT_EQ(s.requests()[0].find('@'), std::string::npos);
    });
}

TEST_P(http_client, reads_each_kind_of_body) {
    run([] {
        const std::pair<std::string, std::string> cases[] = {
            {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcIGNORED", "abc"},
            {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\nT: x\r\n\r\n",
             "abc"},
            {"HTTP/1.0 200 OK\r\n\r\nup to the end", "up to the end"},
            {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 "
             "OK\r\nContent-Length: 1\r\n\r\nx",
             "x"},
            {"HTTP/1.1 204 No Content\r\n\r\n", ""},
            {"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", ""},
        };
        for (const auto& [text, body] : cases) {
            scripted_server s({text});
            auto r = mpg::http::get(s.url());
            ASSERT_TRUE(r) << text;
            EXPECT_EQ(r->body().read_all(), body) << text;
        }
    });
}

TEST_P(http_client, what_is_no_response_is_an_error) {
    run([] {
        auto many = [](std::string_view text, int n) {
            std::string all;
            while (n-- > 0) all += text;
            return all;
        };
        const std::pair<std::string, std::errc> heads[] = {
            {"", std::errc::connection_aborted},
            {"HTTP/1.1 200 OK\r\nContent-Le", std::errc::connection_aborted},
            {"SSH-2.0-x\r\n\r\n", std::errc::bad_message},
            {"HTTP/1.1 200 OK\nX: y\n\n", std::errc::bad_message},
            {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", std::errc::bad_message},
            {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
             std::errc::bad_message},
            {"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n", std::errc::bad_message},
            {"HTTP/1.1 200 OK\r\nX: " + std::string(2000, 'x') + "\r\n\r\n", std::errc::message_size},
            {many("HTTP/1.1 100 Continue\r\n\r\n", 100), std::errc::message_size},
        };
        client c({.max_header_bytes = 1000, .max_body_bytes = 10});
        for (const auto& [text, error] : heads) {
            scripted_server s({text});
            EXPECT_EQ(c.get(s.url()).error(), error) << text;
        }
        const std::pair<std::string, std::errc> bodies[] = {
            {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", std::errc::connection_aborted},
            {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\nab", std::errc::bad_message},
            {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
             std::errc::connection_aborted},
            {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n01234567890\r\n0\r\n\r\n",
             std::errc::file_too_large},
            {"HTTP/1.0 200 OK\r\n\r\n01234567890", std::errc::file_too_large},
        };
        for (const auto& [text, error] : bodies) {
            scripted_server s({text});
            auto r = c.get(s.url());
            ASSERT_TRUE(r) << text;
            EXPECT_EQ(r->body().read_all().error(), error) << text;
        }
        scripted_server s({"HTTP/1.0 200 OK\r\n\r\n0123456789"});
        EXPECT_EQ(c.get(s.url())->body().read_all(), "0123456789");
    });
}

/// A server may refuse a request when it has seen its header, and neither read on nor close.
TEST_P(http_client, is_told_early_that_its_body_is_not_wanted) {
    run([] {
        auto listener = mpg::test::listen_local();
        mpg::chan<void> done;
        auto server = mpg::spawn([&] {
            std::vector<mpg::net::tcp_stream> peers;
            for (const char* answer : {"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nabc",
                                       "HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nabc", "no HTTP\r\n\r\n"}) {
                peers.push_back(*listener.accept());
                std::byte piece[4096];
                EXPECT_TRUE(peers.back().read(piece));
                EXPECT_TRUE(peers.back().write(mpg::test::bytes(answer)));
            }
            done.recv();
        });
        const std::string to = "http://" + listener.local_endpoint().to_string() + "/";
        client c;
        auto r = c.fetch({.method = "PUT", .url = to, .body = std::string(32 << 20, 'b')});
        ASSERT_TRUE(r) << r.error().message();
        EXPECT_EQ(r->status(), 413);
        EXPECT_EQ(r->body().read_all(), "abc");
        auto endless = [](std::span<std::byte> room) -> mpg::result<std::size_t> { return room.size(); };
        r = c.fetch({.method = "POST", .url = to, .stream = endless});
        ASSERT_TRUE(r) << r.error().message();
        EXPECT_EQ(r->status(), 413);
        EXPECT_EQ(r->body().read_all(), "abc");
        EXPECT_EQ(c.fetch({.method = "POST", .url = to, .stream = endless}).error(), std::errc::bad_message);
        done.close();
        server.join();
    });
}

TEST_P(http_client, keeps_few_connections_and_not_for_long) {
    run([] {
        auto idle = open_connections;
        live_server a, b, d;
        for (live_server* s : {&a, &b, &d}) {
            (*s)->handle("/", [](request&, response&) {});
            s->start();
        }
        auto visit = [](client& c, live_server& s) { EXPECT_EQ(c.get(url(s, "/"))->body().read_all(), ""); };
        client few({.max_idle = 2});
        for (live_server* s : {&a, &b, &d}) visit(few, *s);
        EXPECT_TRUE(mpg::test::eventually([&] { return idle(a) == 0; })) << "the oldest one went";
        EXPECT_EQ(idle(b) + idle(d), 2u);
        few.close_idle();
        client brief({.idle_timeout = 1ms});
        visit(brief, a);
        mpg::sleep_for(2ms);
        visit(brief, b); // another host's visit finds out
        EXPECT_TRUE(mpg::test::eventually([&] { return idle(a) == 0; }));
        client none({.max_idle = 0});
        visit(none, d);
        EXPECT_TRUE(mpg::test::eventually([&] { return idle(d) == 0; }));
    });
}

TEST_P(http_client, lets_idle_connections_go_when_nobody_comes) {
    client brief({.idle_timeout = 20ms}); // longer than a runtime
    for (int runtimes = 0; runtimes != 2; ++runtimes)
        run([&] {
            live_server s;
            s->handle("/", [](request&, response&) {});
            s.start();
            for (int again = 0; again != 3; ++again) {
                {
                    auto r = brief.get(url(s, "/"));
                    ASSERT_TRUE(r) << r.error().message();
                    EXPECT_EQ(r->body().read_all(), "");
                }
                EXPECT_TRUE(mpg::test::eventually([&] { return open_connections(s) == 0; }));
                EXPECT_EQ(s->stats().connections_accepted, static_cast<unsigned>(again) + 1);
            }
        });
}

TEST_P(http_client, keeps_each_idle_connection_for_its_time) {
    run([] {
        using clock = std::chrono::steady_clock;
        constexpr auto lifetime = 60ms;
        clock::time_point given[2], ended[2];
        auto listener = mpg::test::listen_local();
        auto server = mpg::spawn([&] {
            mpg::wait_group serving;
            for (auto& end : ended)
                serving.go([&end, peer = std::move(*listener.accept())]() mutable {
                    std::byte piece[4096];
                    EXPECT_TRUE(peer.read(piece));
                    EXPECT_TRUE(peer.write(mpg::test::bytes("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")));
                    EXPECT_EQ(peer.read(piece, mpg::with_timeout(mpg::context::background(), 60s)), 0u);
                    end = clock::now();
                });
            serving.wait();
        });
        client c({.idle_timeout = lifetime});
        const std::string to = "http://" + listener.local_endpoint().to_string() + "/";
        mpg::result<mpg::http::client_response> responses[] = {c.get(to), c.get(to)};
        for (auto& r : responses) EXPECT_EQ(r->body().read_all(), "x");
        for (int i = 0; i != 2; ++i) {
            if (i == 1) mpg::sleep_for(lifetime / 2);
            given[i] = clock::now();
            auto gone = std::move(responses[i]);
        }
        server.join();
        for (int i = 0; i != 2; ++i) EXPECT_GE(ended[i] - given[i], lifetime) << i;
    });
}

TEST_P(http_client, sends_nothing_behind_a_request_that_said_close) {
    run([] {
        auto listener = mpg::test::listen_local();
        auto server = mpg::spawn([&] { // which keeps its connections
            std::vector<mpg::net::tcp_stream> peers;
            for (int i = 0; i != 2; ++i) {
                peers.push_back(*listener.accept());
                std::byte piece[4096];
                EXPECT_TRUE(peers.back().read(piece));
                EXPECT_TRUE(peers.back().write(mpg::test::bytes("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")));
            }
        });
        const std::string to = "http://" + listener.local_endpoint().to_string() + "/";
        client c;
        auto limit = mpg::with_timeout(mpg::context::background(), 20s);
        for (int i = 0; i != 2; ++i) {
            auto r = c.fetch({.url = to, .headers = {{"Connection", "x, Close"}}}, limit);
            ASSERT_TRUE(r) << r.error().message();
            EXPECT_EQ(r->body().read_all(), "x");
        }
        server.join();
    });
}

TEST_P(http_client, its_context_ends_everything) {
    run([] {
        auto silent = mpg::test::listen_local(); // connects, and nobody answers
        const std::string to = "http://" + silent.local_endpoint().to_string() + "/";
        EXPECT_EQ(mpg::http::get(to, mpg::with_timeout(mpg::context::background(), 30ms)).error(),
                  mpg::errc::deadline_exceeded);

        live_server s;
        s->handle("/", [](request& req, response& res) {
            (void)res.write("first");
            (void)res.flush();
            req.ctx().done().recv(); // closing the connection cancels the server's side
        });
        s.start();
        auto ctx = mpg::with_cancel(mpg::context::background());
        auto r = mpg::http::get(url(s, "/"), ctx);
        ASSERT_TRUE(r);
        std::byte piece[100];
        EXPECT_EQ(r->body().read(piece), 5u);
        ctx.cancel();
        EXPECT_EQ(r->body().read(piece).error(), mpg::errc::cancelled);
    });
}

TEST_P(http_client, what_cannot_be_said_is_refused) {
    run([] {
        for (const char* bad : {"", "localhost", "http://", "http:///x", "http://a b/", "http://a/\r\nX: y",
                                "http://h\\@g/", "http://u%zz@h/", "http://u@/", "http://h:99999/", "http://h:x/"})
            EXPECT_EQ(mpg::http::get(bad).error(), std::errc::invalid_argument) << bad;
        EXPECT_EQ(mpg::http::get("https://a/").error(), std::errc::protocol_not_supported);
        const std::string good = "http://127.0.0.1:1/";
        auto refused = [&](client_request r) {
            return mpg::http::fetch(std::move(r)).error() == std::errc::invalid_argument;
        };
        EXPECT_TRUE(refused({.method = "GE T", .url = good}));
        EXPECT_TRUE(refused({.url = good, .headers = {{"X", "a\r\nY: b"}}}));
        EXPECT_TRUE(refused({.url = good, .headers = {{"X:", "a"}}}));
        EXPECT_EQ(mpg::http::get(good).error(), std::errc::connection_refused);
    });
}

TEST(http_client_url, resolves_locations) {
    const auto base = mpg::http::detail::client_url::parse("HTTP://Example.COM:80/a/b?c");
    ASSERT_TRUE(base);
    EXPECT_EQ(base->text(), "http://example.com:80/a/b?c");
    const std::pair<const char*, const char*> cases[] = {
        {"http://other/x", "http://other/x"},      {"//other:1/x?y", "http://other:1/x?y"},
        {"/x?y:z", "http://example.com:80/x?y:z"}, {"x", "http://example.com:80/a/x"},
        {"../x", "http://example.com:80/x"},       {"?q", "http://example.com:80/a/b?q"},
        {"", "http://example.com:80/a/b?c"},       {"#f", "http://example.com:80/a/b?c"},
        {"x/", "http://example.com:80/a/x/"},
        {"/x//y/.//z", "http://example.com:80/x//y//z"},
        {"/to/http://other/?q", "http://example.com:80/to/http://other/?q"},
        {"../../x/./y/..", "http://example.com:80/x/"},
        {".", "http://example.com:80/a/"},         {"x y/\xc3\xa9?\xc3\xa9 z", "http://example.com:80/a/x%20y/%C3%A9?%C3%A9%20z"},
    };
    for (auto [location, to] : cases) {
        const auto u = base->resolve(location);
        ASSERT_TRUE(u) << location;
        EXPECT_EQ(u->text(), to) << location;
    }
}

TEST(http_client_url, of_every_form) {
    using url = mpg::http::detail::client_url;
    struct {
        const char *given, *text, *credentials;
    } const cases[] = {
        {"http://h", "http://h/", ""},
        {"http://h?q", "http://h/?q", ""},
        {"http://h#f", "http://h/", ""},
        {"http://h:/x", "http://h/x", ""},
        {"https://[::1]:/x", "https://[::1]/x", ""},
        {"http://h/a b?c d", "http://h/a%20b?c%20d", ""},
        {"http://user@h/", "http://h/", "user:"},
        {"http://user:p%40ss@h:1/x@y", "http://h:1/x@y", "user:p@ss"},
        {"http://h/?to=u@g", "http://h/?to=u@g", ""},
        {"http://[FE80::1%25Eth0]:8080/x", "http://[fe80::1%25Eth0]:8080/x", ""},
        {"http://u:p@[fe80::1%25a%c3%A9~]", "http://[fe80::1%25a%C3%A9~]/", "u:p"},
        {"http://[fe80::1%25a%2cb%3a:c]/", "http://[fe80::1%25a%2Cb%3A%3Ac]/", ""},
    };
    for (const auto& c : cases) {
        const auto u = url::parse(c.given);
        ASSERT_TRUE(u) << c.given;
        EXPECT_EQ(u->text(), c.text) << c.given;
        EXPECT_EQ(u->credentials, c.credentials) << c.given;
    }
    const auto zoned = url::parse("https://[fe80::1%25Eth0]/");
    EXPECT_EQ(zoned->authority, "[fe80::1]");
    EXPECT_EQ(zoned->address(), "[fe80::1%Eth0]:443");
    EXPECT_EQ(zoned->host(), "fe80::1");
    EXPECT_EQ(zoned->resolve("/b")->text(), "https://[fe80::1%25Eth0]/b");
    for (const char* bad : {"http://[fe80::1%Eth0]/", "http://[fe80::1%25]/", "http://[fe80::1%25a%]/", "http://[fe80::1%25a%00b]/",
                            "http://[fe80::1%25a%5D]/", "http://[fe80::1%25a%2Fb]/", "http://[fe80::1%25a%40b]/", "http://[fe80::1%25a%25b]/", "http://[fe80::1%25a", "http://[fe80::1%25a]b/"})
        EXPECT_FALSE(url::parse(bad)) << bad;
    const auto from = url::parse("http://user:secret@h/a");
    EXPECT_EQ(from->resolve("b")->credentials, "user:secret");
    EXPECT_EQ(from->resolve("http://h/b")->credentials, "");
    EXPECT_EQ(from->resolve("//other/b")->credentials, "");
    EXPECT_EQ(from->resolve("http://u:p@h/b")->credentials, "u:p");
}

TEST_P(http_client, streams_a_body_in_chunks_or_with_its_length) {
    run([] {
        live_server s;
        s->handle("/", [](request& req, response& res) {
            res.header("X-Length", req.content_length() ? std::to_string(*req.content_length()) : "none");
            (void)mpg::copy(res, req.body()); // fails where the client breaks off
        });
        s.start();
        client c;
        std::string data;
        for (int i = 0; data.size() < 300'000; ++i) data += std::to_string(i);
        auto source = [&](std::size_t step) {
            return [&data, step,
                    at = std::size_t{0}](std::span<std::byte> to) mutable -> mpg::result<std::size_t> {
                const std::size_t n = std::min({step, to.size(), data.size() - at});
                std::memcpy(to.data(), data.data() + at, n);
                at += n;
                return n;
            };
        };
        for (const std::size_t step : {1000u, 1'000'000u}) {
            for (const bool known : {false, true}) {
                client_request r{.method = "POST", .url = url(s, "/")};
                r.stream = source(step);
                if (known) r.stream_length = data.size();
                auto got = c.fetch(std::move(r));
                ASSERT_TRUE(got) << got.error().message();
                EXPECT_EQ(got->header("x-length"), known ? std::to_string(data.size()) : "none");
                EXPECT_EQ(got->body().read_all(), data);
            }
        }
        for (const std::size_t wrong : {data.size() - 1, data.size() + 1}) {
            client_request r{.method = "POST", .url = url(s, "/")};
            r.stream = source(1000);
            r.stream_length = wrong;
            auto got = c.fetch(std::move(r));
            EXPECT_EQ(got.error(), std::errc::message_size) << wrong;
        }
        client_request broken{.method = "POST", .url = url(s, "/")};
        broken.stream = [](std::span<std::byte>) -> mpg::result<std::size_t> {
            return mpg::unexpected(std::make_error_code(std::errc::io_error));
        };
        EXPECT_EQ(c.fetch(std::move(broken)).error(), std::errc::io_error);
        EXPECT_EQ(c.get(url(s, "/"))->status(), 200);
    });
}

TEST_P(http_client, keeps_to_the_limit_per_host) {
    run([] {
        live_server s;
        std::atomic<int> now{0}, most{0};
        mpg::chan<void> go_on;
        s->handle("/", [&](request&, response&) {
            const int n = ++now;
            for (int m = most; n > m && !most.compare_exchange_weak(m, n);) {
            }
            go_on.recv();
            --now;
        });
        s->handle("/hop", [&](request&, response& res) { res.status(302).header("Location", "/"); });
        s.start();
        client c({.max_per_host = 3});
        mpg::wait_group all;
        for (int i = 0; i != 20; ++i)
            all.go([&, i] {
                auto r = c.get(url(s, i % 2 ? "/" : "/hop")); // a redirect leaves its place first
                EXPECT_TRUE(r) << r.error().message();
            });
        EXPECT_TRUE(mpg::test::eventually([&] { return now == 3; }));
        for (int i = 0; i != 20; ++i) {
            if (i == 10) {
                auto limit = mpg::with_timeout(mpg::context::background(), 1ms);
                EXPECT_EQ(c.get(url(s, "/"), limit).error(), mpg::errc::deadline_exceeded);
            }
            go_on.send();
        }
        go_on.close(); // the one that has given up may have used a turn
        all.wait();
        EXPECT_LE(most, 3 + 1) << "and one that had given up";
    });
}

TEST_P(http_client, goes_through_a_proxy) {
    run([] {
        live_server proxy;
        proxy->handle("/", [](request& req, response& res) {
            res.header("X-Auth", req.header("Proxy-Authorization")).header("X-Host", req.header("Host"));
            (void)res.write(req.target());
        });
        proxy.start();
        client c({.proxy = "http://user:pa%20ss@" + proxy.address().to_string()});
        auto r = c.get("http://somewhere.example:81/a?b");
        ASSERT_TRUE(r) << r.error().message();
        EXPECT_EQ(r->body().read_all(), "http://somewhere.example:81/a?b");
        EXPECT_EQ(r->header("X-Host"), "somewhere.example:81");
        EXPECT_EQ(r->header("X-Auth"), "Basic dXNlcjpwYSBzcw==");
    });
}

TEST_P(http_client, does_not_pass_by_a_proxy_that_it_cannot_use) {
    run([] {
        live_server s;
        s->handle("/", [](request&, response& res) { (void)res.write("direct"); });
        s.start();
        for (const char* named : {"socks5://127.0.0.1:1", "https://127.0.0.1:1", "bad host", "http://", "http://u@"})
            EXPECT_EQ(client({.proxy = named}).get(url(s, "/")).error(), std::errc::protocol_not_supported) << named;
        for (const char* none : {"", " "})
            EXPECT_EQ(client({.proxy = none}).get(url(s, "/"))->body().read_all(), "direct");
    });
}

TEST(http_client_proxy, who_goes_through_it) {
    using mpg::http::detail::client_proxy;
    using mpg::http::detail::client_url;
    auto goes = [](const client_proxy& p, std::string_view to) { return p.serves(*client_url::parse(to)); };
    const auto p =
        client_proxy::parse("proxy.example", "a.example, .b.example,c.example:81,10.0.0.0/8,192.0.2.1,[::2],"
                                             "2001:db8::/32, *.d.example");
    EXPECT_EQ(p.address, "proxy.example:80");
    EXPECT_EQ(p.authorization, "");
    for (const char* yes :
         {"http://x.example/", "http://xa.example/", "http://b.example/", "http://c.example/",
          "http://11.0.0.1/", "http://192.0.2.2/", "http://[::3]/", "http://d.example/"})
        EXPECT_TRUE(goes(p, yes)) << yes;
    for (const char* no :
         {"http://a.example/", "http://x.A.example/", "http://x.b.example/", "http://c.example:81/",
          "http://10.1.2.3/", "http://192.0.2.1:8080/", "http://[::2]/", "http://[2001:db8::5]/",
          "http://x.d.example/", "http://localhost/", "http://127.0.0.5/", "http://[::1]/"})
        EXPECT_FALSE(goes(p, no)) << no;
    EXPECT_FALSE(goes(client_proxy::parse("proxy.example", "*"), "http://x.example/"));
    EXPECT_FALSE(goes(client_proxy::parse("", ""), "http://x.example/"));
    const auto other = client_proxy::parse("socks5://x", "a.example");
    EXPECT_EQ(other.address, "");
    EXPECT_TRUE(other.unusable && goes(other, "http://b.example/") && !goes(other, "http://a.example/"));
    EXPECT_EQ(client_proxy::parse("http://u@[::1]:3128/", "").address, "[::1]:3128");
    EXPECT_EQ(client_proxy::parse("bad host", "").address, "");
}

TEST(http_client_proxy, of_the_environment) {
    using mpg::http::detail::client_proxy;
    auto with = [](std::initializer_list<std::pair<const char*, const char*>> set) {
        constexpr const char* all[] = {"http_proxy", "HTTP_PROXY", "https_proxy",   "HTTPS_PROXY",
                                       "no_proxy",   "NO_PROXY",   "REQUEST_METHOD"};
        std::vector<std::pair<std::string, std::string>> before;
        for (const char* name : all) {
            if (const char* v = std::getenv(name)) before.emplace_back(name, v);
            ::unsetenv(name);
        }
        for (const auto& [name, value] : set) ::setenv(name, value, 1);
        const auto p = client_proxy::from_environment(false), secure = client_proxy::from_environment(true);
        for (const char* name : all) ::unsetenv(name);
        for (const auto& [name, value] : before) ::setenv(name.c_str(), value.c_str(), 1);
        return p.address + (secure.address.empty() ? "" : " " + secure.address);
    };
    EXPECT_EQ(with({}), "");
    EXPECT_EQ(with({{"http_proxy", "a:1"}, {"https_proxy", "c:3"}, {"HTTPS_PROXY", "d:4"}}), "a:1 c:3");
    EXPECT_EQ(with({{"HTTPS_PROXY", "d:4"}, {"REQUEST_METHOD", "GET"}}), " d:4");
    EXPECT_EQ(with({{"http_proxy", "a:1"}, {"HTTP_PROXY", "b:2"}}), "a:1");
    EXPECT_EQ(with({{"HTTP_PROXY", "b:2"}}), "b:2");
    EXPECT_EQ(with({{"HTTP_PROXY", "b:2"}, {"REQUEST_METHOD", "GET"}}), "") << "a client's field";
}

} // namespace
