// What the client of its own accord sends a second time: to where a redirect points, and when a kept connection has died.
#include "http_support.hpp"

#include <atomic>
#include <string>
#include <string_view>
#include <utility>

namespace {

using mpg::http::client;
using mpg::http::client_request;
using mpg::http::request;
using mpg::http::response;
using mpg::test::live_server;

struct http_client_retry : mpg::test::with_pollers {};
MPG_TEST_IO(http_client_retry);

/// Answers the first request of each connection; what becomes of the second one is `then`: sent before the connection closes.
class fickle_server {
  public:
    fickle_server()
        : listener_(mpg::test::listen_local())
        , url_("http://" + listener_.local_endpoint().to_string() + "/")
        , task_(mpg::spawn([this] {
            while (auto peer = listener_.accept()) {
                std::byte piece[4096];
                if (!peer->read(piece) || !peer->write(mpg::test::bytes("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))) continue;
                const auto n = peer->read(piece);
                if (!n || *n == 0) continue;
                ++seconds_;
                (void)peer->write(mpg::test::bytes(then.load()));
            }
        })) {}
    ~fickle_server() {
        listener_.close();
        task_.join();
    }
    const std::string& url() const { return url_; }
    /// Requests that were not the first of their connection.
    int seconds() const { return seconds_; }

    std::atomic<const char*> then{""};

  private:
    mpg::net::tcp_listener listener_;
    std::string url_;
    std::atomic<int> seconds_{0};
    mpg::task<void> task_;
};

TEST_P(http_client_retry, sends_again_what_may_come_twice) {
    run([] {
        fickle_server s;
        client c;
        int expected = 0;
        for (const char* method : {"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"}) {
            c.close_idle();
            ASSERT_TRUE(c.get(s.url()));
            auto r = c.fetch({.method = method, .url = s.url(), .body = *method == 'P' ? "body" : ""});
            ASSERT_TRUE(r) << method << ": " << r.error().message();
            EXPECT_EQ(r->status(), 200);
            EXPECT_EQ(s.seconds(), ++expected) << method;
        }
    });
}

TEST_P(http_client_retry, sends_nothing_again_that_may_not_come_twice) {
    run([] {
        fickle_server s;
        client c;
        int expected = 0;
        const auto source = [](std::span<std::byte>) -> mpg::result<std::size_t> { return std::size_t{0}; };
        const std::pair<const char*, bool> requests[] = {{"POST", false}, {"PATCH", false}, {"LINK", false}, {"get", false}, {"PUT", true}};
        for (const auto& [method, streamed] : requests) {
            c.close_idle();
            ASSERT_TRUE(c.get(s.url()));
            client_request r{.method = method, .url = s.url()};
            if (streamed) r.stream = source;
            EXPECT_FALSE(c.fetch(std::move(r))) << method;
            EXPECT_EQ(s.seconds(), ++expected) << method;
        }
    });
}

TEST_P(http_client_retry, sends_nothing_again_once_an_answer_has_begun) {
    run([] {
        fickle_server s;
        client c;
        int expected = 0;
        for (const char* begun : {"H", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 100 Continue\r\n\r\n", "\r\n"}) {
            s.then = begun;
            c.close_idle();
            ASSERT_TRUE(c.get(s.url()));
            EXPECT_FALSE(c.get(s.url())) << begun;
            EXPECT_EQ(s.seconds(), ++expected) << begun;
        }
    });
}

/// Tells method, body and some fields of what comes, and redirects to where it is asked to.
struct echoing_server : live_server {
    echoing_server() {
        (*this)->handle("/to/{status}", [](request& req, response& res) {
            (void)req.body().read_all();
            res.status(std::stoi(req.path_value("status"))).header("Location", req.query("at").value_or(""));
            (void)res.write("moved");
        });
        (*this)->handle("/", [](request& req, response& res) {
            std::string text = std::string(req.method()) + ' ' + req.body().read_all().value_or("failed");
            for (const char* name : {"Content-Type", "Authorization", "Cookie", "X"})
                if (req.has_header(name)) ((text += ' ') += name) += "=" + std::string(req.header(name));
            res.header("X-Text", text).header("X-Host", req.header("Host"));
        });
        start();
    }
    std::string url(std::string_view path = "/") const { return "http://" + address().to_string() + std::string(path); }
};

TEST_P(http_client_retry, follows_each_redirect_in_its_way) {
    run([] {
        echoing_server s;
        client c;
        auto follow = [&](int status, std::string method, std::string body) {
            client_request r{.method = std::move(method), .url = s.url("/to/" + std::to_string(status) + "?at=/there")};
            r.headers = {{"Authorization", "a"}, {"Cookie", "c"}, {"X", "x"}};
            if (!body.empty()) r.headers.emplace_back("Content-Type", "t");
            r.body = std::move(body);
            auto got = c.fetch(std::move(r));
            return got ? std::string(got->header("X-Text")) : got.error().message();
        };
        const std::string fields = " Authorization=a Cookie=c X=x";
        for (int status : {301, 302, 303}) {
            EXPECT_EQ(follow(status, "GET", ""), "GET " + fields) << status;
            EXPECT_EQ(follow(status, "HEAD", ""), "HEAD " + fields) << status;
            EXPECT_EQ(follow(status, "POST", "body"), "GET " + fields) << status;
            EXPECT_EQ(follow(status, "PUT", "body"), "GET " + fields) << status;
            EXPECT_EQ(follow(status, "DELETE", ""), "GET " + fields) << status;
        }
        for (int status : {307, 308}) {
            EXPECT_EQ(follow(status, "GET", ""), "GET " + fields) << status;
            EXPECT_EQ(follow(status, "HEAD", ""), "HEAD " + fields) << status;
            EXPECT_EQ(follow(status, "POST", "body"), "POST body Content-Type=t" + fields) << status;
            EXPECT_EQ(follow(status, "DELETE", ""), "DELETE " + fields) << status;
        }
        EXPECT_EQ(s->stats().connections_accepted, 1u) << "the body of a redirect is read to its end";
        for (int status : {300, 305, 306}) EXPECT_EQ(c.get(s.url("/to/" + std::to_string(status) + "?at=/there"))->status(), status);
        EXPECT_EQ(c.get(s.url("/to/302"))->status(), 302) << "to nowhere";
    });
}

TEST_P(http_client_retry, sends_a_streamed_body_once) {
    run([] {
        echoing_server s;
        for (int status : {302, 303, 307, 308}) {
            client_request r{.method = "POST", .url = s.url("/to/" + std::to_string(status) + "?at=/there")};
            r.stream = [n = 3](std::span<std::byte> to) mutable -> mpg::result<std::size_t> {
                if (n-- == 0) return std::size_t{0};
                to[0] = std::byte{'b'};
                return std::size_t{1};
            };
            auto got = mpg::http::fetch(std::move(r));
            ASSERT_TRUE(got) << got.error().message();
            if (status < 307) {
                EXPECT_EQ(got->header("X-Text"), "GET");
            } else {
                EXPECT_EQ(got->status(), status) << "its caller may send it again";
            }
        }
    });
}

TEST_P(http_client_retry, another_host_is_told_no_secrets) {
    run([] {
        echoing_server first, other;
        client c;
        auto fetch = [&](const std::string& at) {
            client_request r{.method = "POST", .url = "http://user:secret@" + first.url("/to/307?at=" + at).substr(7)};
            r.headers = {{"cookie", "c"}, {"X", "x"}, {"Host", "mine.example"}};
            r.body = "body";
            auto got = c.fetch(std::move(r));
            return got ? std::string(got->header("X-Text")) + " to " + std::string(got->header("X-Host")) : got.error().message();
        };
        EXPECT_EQ(fetch(other.url("/")), "POST body X=x to " + other.address().to_string());
        EXPECT_EQ(fetch(other.url("/").substr(5)), "POST body X=x to " + other.address().to_string()) << "//host/";
        EXPECT_EQ(fetch(other.url("/to/307?at=" + first.url("/"))), "POST body X=x to " + first.address().to_string())
            << "nor is the first one again";
        EXPECT_EQ(fetch("/there"), "POST body Authorization=Basic dXNlcjpzZWNyZXQ= Cookie=c X=x to mine.example");
    });
}

} // namespace
