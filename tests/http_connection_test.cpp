// A connection of the HTTP server on a link that is a script: what the client sends, in which pieces, and
// where it stops, decided to the byte.
#include "http_offline.hpp"
#include "support.hpp"

#include <mpg/http.hpp>

#include <algorithm>
#include <cstring>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace {

using namespace std::string_view_literals;
using namespace mpg::http;
namespace detail = mpg::http::detail;
using mpg::test::dateless;
using mpg::test::offline;
using mpg::test::outcome;
using mpg::test::script_link;

/// The status codes of a row of responses that have a Content-Length (or none, and no body) or are chunked.
std::string statuses(std::string_view s) {
    std::string list;
    while (!s.empty()) {
        if (s.substr(0, 9) != "HTTP/1.1 ") return list + "?";
        const std::string_view code = s.substr(9, 3);
        (list += list.empty() ? "" : " ") += code;
        const std::size_t end = s.find("\r\n\r\n");
        if (end == s.npos) return list + "?";
        const std::string head(s.substr(0, end + 2));
        s.remove_prefix(end + 4);
        if (code == "100") continue;
        if (const std::size_t at = head.find("Content-Length: "); at != s.npos) {
            const std::size_t n = std::stoul(head.substr(at + 16));
            if (n > s.size()) return list + "?";
            s.remove_prefix(n);
        } else if (head.find("Transfer-Encoding: chunked") != s.npos) {
            const std::size_t last = s.find("0\r\n\r\n");
            if (last == s.npos) return list + "?";
            s.remove_prefix(last + 5);
        }
    }
    return list;
}

void add_handlers(offline& s) {
    s.handle("GET /ok", [](request&, response& res) { (void)res.write("ok"); });
    s.handle("/echo", [](request& req, response& res) {
        auto body = req.body().read_all();
        if (!body) {
            (void)res.status(400).write("body: " + body.error().message());
            return;
        }
        (void)res.write(*body);
    });
    s.handle("/ignore", [](request&, response& res) { (void)res.write("ignored"); });
    s.handle("/throw", [](request&, response& res) {
        (void)res.write("never seen");
        throw std::runtime_error("thrown on purpose");
    });
    s.handle("/throw_late", [](request&, response& res) {
        (void)res.write("seen");
        (void)res.flush();
        throw std::runtime_error("thrown on purpose");
    });
}

TEST(http_connection, a_plain_exchange) {
    offline s;
    add_handlers(s);
    const outcome o = s.talk({"GET /ok HTTP/1.1\r\nHost: a\r\n\r\n"});
    EXPECT_EQ(dateless(o.sent), "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    EXPECT_NE(o.sent.find("\r\nDate: "), std::string::npos);
    EXPECT_EQ(o.writes, 1u) << "header and body in one";
}

struct conversation {
    std::string_view text; // what the client sends, then it ends its side
    const char* statuses;
};

/// Whole, and in two pieces cut anywhere, and byte by byte: always the same answers.
void expect_in_every_split(const conversation& c, server_options o = {}) {
    offline s(o);
    add_handlers(s);
    const std::string whole = dateless(s.talk({std::string(c.text)}).sent);
    EXPECT_EQ(statuses(whole), c.statuses) << c.text << "\n-->\n" << whole;
    for (std::size_t cut = 1; cut < c.text.size(); ++cut) {
        const outcome got = s.talk({std::string(c.text.substr(0, cut)), std::string(c.text.substr(cut))});
        ASSERT_EQ(dateless(got.sent), whole) << c.text << "\ncut at " << cut;
    }
    std::deque<std::string> bytes;
    for (char b : c.text) bytes.emplace_back(1, b);
    EXPECT_EQ(dateless(s.talk(std::move(bytes)).sent), whole) << c.text << "\nbyte by byte";
}

TEST(http_connection, what_clients_send_gets_its_answer_in_every_split) {
    const conversation table[] = {
        // in order
        {"GET /ok HTTP/1.1\r\nHost: a\r\n\r\n", "200"},
        {"GET /ok HTTP/1.0\r\n\r\n", "200"},
        {"HEAD /ok HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
         "200?"}, // the length of what is not sent
        {"\r\n\r\nGET /ok HTTP/1.1\r\nHost: a\r\n\r\n", "200"},
        {"GET http://x.example/ok?q HTTP/1.1\r\nHost: a\r\n\r\n", "200"},
        {"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "200"},
        {"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\nGET /ok HTTP/1.1\r\nHost: a\r\n\r\n", "404 200"},
        {"POST /ok HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /ok HTTP/1.1\r\nHost: a\r\n\r\n",
         "405 200"},
        {"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\nGET /ok HTTP/1.1\r\nHost: a\r\n\r\n", "404"},
        {"CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
        {"CONNECT a: HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
        {"CONNECT a:0 HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
        {"CONNECT a:65536 HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
        {"CONNECT :80 HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
        {"GET /a/../ok HTTP/1.1\r\nHost: a\r\n\r\n", "301"},
        {"GET /a/%2e%2E/ok HTTP/1.1\r\nHost: a\r\n\r\n", "301"},
        {"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET /ok HTTP/1.1\r\nHost: "
         "a\r\n\r\n",
         "200 200"},
        {"POST /ignore HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET /ok HTTP/1.1\r\nHost: "
         "a\r\n\r\n",
         "200 200"},
        {"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nT: x\r\n\r\n"
         "GET /ok HTTP/1.1\r\nHost: a\r\n\r\n",
         "200 200"},
        {"POST /ignore HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
         "GET /ok HTTP/1.1\r\nHost: a\r\n\r\n",
         "200 200"},
        {"GET /ok HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /ok HTTP/1.1\r\nHost: a\r\n\r\n",
         "200"},
        {"GET /ok HTTP/1.0\r\n\r\nGET /ok HTTP/1.0\r\n\r\n", "200"},
        {"GET /ok HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /ok HTTP/1.0\r\n\r\n", "200 200"},
        {"POST /throw HTTP/1.1\r\nHost: a\r\n\r\nGET /ok HTTP/1.1\r\nHost: a\r\n\r\n", "500 200"},
        {"GET /throw_late HTTP/1.1\r\nHost: a\r\n\r\nGET /ok HTTP/1.1\r\nHost: a\r\n\r\n", "200?"},
        // refused, and nothing behind it is looked at
        {"GET /ok HTTP/1.1\r\n\r\nGET /ok HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
        {"GET /ok HTTP/1.1\nHost: a\n\nGET /ok HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
        {"GET /ok HTTP/1.1\r\nHost : a\r\n\r\nGET /ok HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
        {"GET /ok HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n", "400"},
        {"GET /ok\0 HTTP/1.1\r\nHost: a\r\n\r\n"sv, "400"},
        {"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
        {"GET ok HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
        {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"sv, "400"}, // TLS
        {"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
         "GET /ok HTTP/1.1\r\nHost: a\r\n\r\n",
         "400"},
        {"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: "
         "5\r\n\r\n0\r\n\r\nX",
         "400"},
        {"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "400"},
        {"POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"},
        {"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", "501"},
        {"GET /ok HTTP/3.0\r\nHost: a\r\n\r\n", "505"},
        {"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: tea\r\n\r\nab", "417"},
        // a bad body: its read fails, and the connection closes
        {"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloX\r\n0\r\n\r\n"
         "GET /ok HTTP/1.1\r\nHost: a\r\n\r\n",
         "400"},
        {"POST /ignore HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
         "GET /ok HTTP/1.1\r\nHost: a\r\n\r\n",
         "200"},
        {"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\nshort", "400"},
        // nobody to answer
        {"", ""},
        {"\r\n", ""},
        {"GET /ok HTTP/1.1\r\nHost: a\r\n", ""},
    };
    for (const conversation& c : table) expect_in_every_split(c);
}

TEST(http_connection, a_continue_is_sent_when_the_body_is_read) {
    offline s;
    add_handlers(s);
    const std::string head =
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    EXPECT_EQ(statuses(s.talk({head, "hello"}).sent), "100 200");
    EXPECT_EQ(statuses(s.talk({head + "hello"}).sent), "200") << "it is there already";
    EXPECT_EQ(
        statuses(s.talk({"POST /echo HTTP/1.0\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n", "hello"})
                     .sent),
        "200");
    // Not read: no 100, and what follows cannot be told from the body.
    std::string ignored = head;
    ignored.replace(ignored.find("/echo"), 5, "/ignore");
    const outcome o = s.talk({ignored, "GET /ok HTTP/1.1\r\nHost: a\r\n\r\n"});
    EXPECT_EQ(statuses(o.sent), "200");
    EXPECT_NE(o.sent.find("Connection: close"), std::string::npos);
    // Read after the response has begun: a 100 would stand in its midst.
    s.handle("/late", [](request& req, response& res) {
        (void)res.write("first");
        (void)res.flush();
        (void)res.write(req.body().read_all().value_or("failed"));
    });
    std::string late = head;
    late.replace(late.find("/echo"), 5, "/late");
    const outcome l = s.talk({late, "hello", "GET /ok HTTP/1.1\r\nHost: a\r\n\r\n"});
    EXPECT_EQ(dateless(l.sent), "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
                                "5\r\nfirst\r\n5\r\nhello\r\n0\r\n\r\n");
}

TEST(http_connection, a_tunnel_is_asked_of_patterns_that_name_it) {
    offline s;
    s.handle("/", [](request&, response& res) { (void)res.write("no tunnel"); });
    const std::string ask = "CONNECT a.example:80 HTTP/1.1\r\nHost: a\r\n\r\n", next = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    EXPECT_EQ(statuses(s.talk({ask + next}).sent), "404") << "what follows may be meant for the tunnel";
    s.handle("CONNECT /", [](request& req, response& res) { (void)res.write(std::string(req.host())); });
    s.handle("CONNECT b.example/", [](request& req, response& res) {
        EXPECT_EQ(req.path(), "");
        res.status(403);
    });
    EXPECT_EQ(dateless(s.talk({ask + next}).sent), "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\na.example:80");
    EXPECT_EQ(dateless(s.talk({"CONNECT b.example:1 HTTP/1.1\r\nHost: a\r\n\r\n" + next}).sent),
              "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    EXPECT_EQ(statuses(s.talk({next}).sent), "200");
}

TEST(http_connection, limits_of_the_header) {
    server_options o;
    o.max_header_bytes = 200;
    expect_in_every_split({"GET /"
                           "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                           "aaaaaaaaaaaaaaaaaaaaaa"
                           "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                           "aaaaaaaaaaaaaaaaaaaaaa"
                           " HTTP/1.1\r\nHost: a\r\n\r\n",
                           "414"},
                          o);
    expect_in_every_split({"GET /ok HTTP/1.1\r\nHost: a\r\nX: "
                           "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                           "aaaaaaaaaaaaaaaaaaaaaa\r\nY: "
                           "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                           "aaaaaaaaaaaaaaaaaaaaaa\r\n\r\n",
                           "431"},
                          o);
    std::string exact = "GET /ok HTTP/1.1\r\nHost: a\r\nX: ";
    exact += std::string(200 - 4 - exact.size(), 'x') + "\r\n\r\n";
    expect_in_every_split({exact, "200"}, o);
    exact.insert(exact.size() - 4, "x");
    expect_in_every_split({exact, "431"}, o);
    std::string many = "\r\n";
    while (many.size() < 300) many += "\r\n";
    expect_in_every_split({many, "414"}, o);
}

TEST(http_connection, limits_of_the_body) {
    server_options o;
    o.max_body_bytes = 10;
    expect_in_every_split({"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n0123456789", "200"},
                          o);
    expect_in_every_split({"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n0123456789a", "413"},
                          o);
    expect_in_every_split({"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: "
                           "chunked\r\n\r\n6\r\n012345\r\n5\r\n01234\r\n0\r\n\r\n",
                           "400"},
                          o);
}

TEST(http_connection, framing_larger_than_its_data_is_refused) {
    offline s;
    add_handlers(s);
    std::string text = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (int i = 0; i < 100; ++i) text += "1;" + std::string(2000, 'x') + "\r\ny\r\n";
    EXPECT_EQ(statuses(s.talk({text + "0\r\n\r\n"}).sent), "400");
    std::string one_line = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;";
    EXPECT_EQ(statuses(s.talk({one_line + std::string(1 << 20, 'x') + "\r\ny\r\n0\r\n\r\n"}).sent), "400");
}

TEST(http_connection, a_client_that_vanishes_anywhere_harms_nobody) {
    const std::string text =
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
        "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        "GET /ok HTTP/1.1\r\nHost: a\r\n\r\n";
    const std::error_code ends[] = {{},
                                    std::make_error_code(std::errc::connection_reset),
                                    make_error_code(mpg::errc::deadline_exceeded),
                                    make_error_code(mpg::errc::closed)};
    offline s;
    add_handlers(s);
    for (std::size_t n = 0; n <= text.size(); ++n)
        for (std::error_code end : ends)
            for (unsigned writes : {~0u, 0u, 1u}) {
                const outcome o = s.talk({text.substr(0, n)}, end, writes);
                if (writes == 0) {
                    EXPECT_EQ(o.sent, "");
                }
                if (n == text.size() && writes == ~0u) {
                    EXPECT_EQ(statuses(o.sent), "200 200 200");
                }
            }
    EXPECT_EQ(s.core.connections.count().active + s.core.connections.count().idle, 0u);
}

TEST(http_connection, a_header_that_takes_too_long_is_408) {
    offline s;
    add_handlers(s);
    const std::error_code late = make_error_code(mpg::errc::deadline_exceeded);
    EXPECT_EQ(statuses(s.talk({"GET /ok HTTP/1.1\r\nHo"}, late).sent), "408");
    EXPECT_EQ(s.talk({}, late).sent, "") << "nothing came: nothing to answer";
    EXPECT_EQ(statuses(s.talk({"GET /ok HTTP/1.1\r\nHost: a\r\n\r\n"}, late).sent), "200") << "idle";
    EXPECT_EQ(statuses(s.talk({"GET /ok HTTP/1.1\r\nHost: a\r\n\r\nG"}, late).sent), "200 408");
}

TEST(http_connection, pipelined_responses_leave_together) {
    offline s;
    add_handlers(s);
    std::string requests, expected;
    for (int i = 0; i < 1000; ++i) {
        requests += "GET /ok HTTP/1.1\r\nHost: a\r\n\r\n";
        expected += i ? " 200" : "200";
    }
    const outcome o = s.talk({requests});
    EXPECT_EQ(statuses(o.sent), expected);
    EXPECT_LE(o.writes, 30u) << "one for each buffer that was read";
}

// ---- responses
// -----------------------------------------------------------------------------------------------

std::string answer(void (*h)(request&, response&), std::string_view method = "GET",
                   std::string_view version = "1.1") {
    offline s;
    s.handle("/", h);
    std::string text(method);
    ((text += " / HTTP/") += version) += "\r\nHost: a\r\n\r\n";
    return dateless(s.talk({text}).sent);
}

TEST(http_response, without_anything_is_an_empty_200) {
    EXPECT_EQ(answer([](request&, response&) {}), "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    EXPECT_EQ(answer([](request&, response&) {}, "HEAD"), "HTTP/1.1 200 OK\r\n\r\n");
}

TEST(http_response, statuses_without_a_body) {
    auto h = [](request&, response& res) {
        res.status(204);
        EXPECT_EQ(res.write("x").error(), std::errc::operation_not_supported);
    };
    EXPECT_EQ(answer(h), "HTTP/1.1 204 No Content\r\n\r\n");
    EXPECT_EQ(answer([](request&, response& res) { res.status(304).header("Content-Length", "7"); }),
              "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n");
    EXPECT_EQ(answer([](request&, response& res) { res.status(304); }), "HTTP/1.1 304 Not Modified\r\n\r\n")
        << "0 would be said of what GET gives";
    EXPECT_EQ(answer([](request&, response& res) { res.status(299); }),
              "HTTP/1.1 299 \r\nContent-Length: 0\r\n\r\n");
}

TEST(http_response, is_chunked_when_it_is_long_or_flushed) {
    EXPECT_EQ(answer([](request&, response& res) {
                  (void)res.write("ab");
                  EXPECT_FALSE(res.flush());
                  (void)res.write("cde");
                  (void)res.write("f");
              }),
              "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n4\r\ncdef\r\n0\r\n\r\n");
    const std::string large =
        answer([](request&, response& res) { (void)res.write(std::string(100'000, 'x')); });
    EXPECT_EQ(large, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n186a0\r\n" +
                         std::string(100'000, 'x') + "\r\n0\r\n\r\n");
}

TEST(http_response, of_a_handler_that_threw_has_nothing_of_what_it_said) {
    offline s;
    s.handle("/", [](request&, response& res) {
        res.status(201).header("Date", "never").header("X-A", "b").header("Content-Length", "1");
        throw 1;
    });
    const std::string sent = s.talk({"GET / HTTP/1.1\r\nHost: a\r\n\r\n"}).sent;
    EXPECT_NE(sent.find("\r\nDate: "), sent.npos);
    EXPECT_EQ(dateless(sent), "HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/plain; charset=utf-8\r\n"
                              "Content-Length: 26\r\n\r\n500 Internal Server Error\n");
}

TEST(http_response, with_a_length_that_was_set_is_not) {
    EXPECT_EQ(
        answer([](request&, response& res) {
            res.header("Content-Length", "10000");
            for (int i = 0; i < 1000; ++i) (void)res.write("0123456789");
            EXPECT_EQ(res.write("more").error(), std::errc::message_size);
        }),
        "HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n" + [] {
            std::string s;
            for (int i = 0; i < 1000; ++i) s += "0123456789";
            return s;
        }());
}

/// The server neither looks at Range nor says anything of ranges by itself.
TEST(http_response, ranges_are_the_handlers) {
    offline s;
    s.handle("GET /whole", [](request&, response& res) { (void)res.write("0123456789"); });
    s.handle("GET /parts", [](request& req, response& res) {
        const std::string_view range = req.header("Range");
        res.header("Accept-Ranges", "bytes");
        if (range == "bytes=2-4") {
            (void)res.status(206).header("Content-Range", "bytes 2-4/10").header("Content-Length", "3").write("234");
        } else if (range == "bytes=0-0,-1") {
            (void)res.status(206).header("Content-Type", "multipart/byteranges; boundary=B").write("--B");
        } else if (!range.empty()) {
            res.status(416).header("Content-Range", "bytes */10");
        } else {
            (void)res.write("0123456789");
        }
    });
    auto ask = [&](const std::string& what, const std::string& range) {
        return dateless(s.talk({what + " HTTP/1.1\r\nHost: a\r\nRange: " + range + "\r\n\r\n"}).sent);
    };
    EXPECT_EQ(ask("GET /whole", "bytes=2-4"), "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789");
    EXPECT_EQ(ask("GET /parts", "bytes=2-4"), "HTTP/1.1 206 Partial Content\r\nAccept-Ranges: bytes\r\n"
                                              "Content-Range: bytes 2-4/10\r\nContent-Length: 3\r\n\r\n234");
    EXPECT_EQ(ask("HEAD /parts", "bytes=2-4"), "HTTP/1.1 206 Partial Content\r\nAccept-Ranges: bytes\r\n"
                                               "Content-Range: bytes 2-4/10\r\nContent-Length: 3\r\n\r\n");
    EXPECT_EQ(ask("GET /parts", "bytes=0-0,-1"), "HTTP/1.1 206 Partial Content\r\nAccept-Ranges: bytes\r\n"
                                                 "Content-Type: multipart/byteranges; boundary=B\r\nContent-Length: 3\r\n\r\n--B");
    EXPECT_EQ(ask("GET /parts", "bytes=90-"), "HTTP/1.1 416 Range Not Satisfiable\r\nAccept-Ranges: bytes\r\n"
                                              "Content-Range: bytes */10\r\nContent-Length: 0\r\n\r\n");
    EXPECT_EQ(ask("GET /parts", "nonsense"), ask("GET /parts", "bytes=90-"));
}

TEST(http_response, cut_short_ends_the_connection) {
    offline s;
    s.handle("/", [](request&, response& res) {
        res.header("Content-Length", "10");
        (void)res.write("short");
    });
    EXPECT_EQ(dateless(s.talk({"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"}).sent),
              "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort");
}

TEST(http_response, to_head_has_the_fields_of_get) {
    auto h = [](request&, response& res) { (void)res.write("hello"); };
    EXPECT_EQ(answer(h, "HEAD"), "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    auto streamed = [](request&, response& res) {
        (void)res.write("hello");
        (void)res.flush();
        (void)res.write(std::string(100'000, 'x'));
    };
    EXPECT_EQ(answer(streamed, "HEAD"), "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
}

TEST(http_response, to_1_0) {
    EXPECT_EQ(answer([](request&, response& res) { (void)res.write("x"); }, "GET", "1.0"),
              "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx");
    EXPECT_EQ(answer(
                  [](request&, response& res) {
                      (void)res.write("x");
                      (void)res.flush();
                      (void)res.write("y");
                  },
                  "GET", "1.0"),
              "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nxy")
        << "ended by the connection";
}

TEST(http_response, header_replaces_and_add_header_does_not) {
    EXPECT_EQ(answer([](request&, response& res) {
                  res.header("X-One", "1").header("X-Two", "2").header("x-one", "3");
                  res.add_header("Set-Cookie", "a").add_header("Set-Cookie", "b");
                  res.header("Connection", "keep-alive");
              }),
              "HTTP/1.1 200 OK\r\nX-Two: 2\r\nx-one: 3\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: "
              "0\r\n\r\n");
    EXPECT_EQ(answer([](request&, response& res) { res.header("connection", "Close"); }),
              "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    offline s;
    s.handle("/", [](request&, response& res) { res.header("date", "today"); });
    EXPECT_EQ(s.talk({"GET / HTTP/1.1\r\nHost: a\r\n\r\n"}).sent,
              "HTTP/1.1 200 OK\r\ndate: today\r\nContent-Length: 0\r\n\r\n");
}

TEST(http_response, cannot_be_split) {
    EXPECT_EQ(answer([](request&, response& res) {
                  const std::pair<std::string_view, std::string_view> bad[] = {
                      {"X", "a\r\nSet-Cookie: b"},
                      {"X", "a\nb"},
                      {"X", "a\0b"sv},
                      {"X\r\nY", "a"},
                      {"X: y", "a"},
                      {"", "a"},
                      {"X ", "a"},
                      {"Content-Length", "x"},
                      {"Content-Length", "-1"},
                      {"Transfer-Encoding", "chunked"},
                  };
                  for (auto [name, value] : bad) {
                      EXPECT_THROW(res.header(name, value), std::invalid_argument);
                      EXPECT_THROW(res.add_header(name, value), std::invalid_argument);
                  }
                  for (int code : {0, 99, 100, 103, 199, 1000, -1})
                      EXPECT_THROW(res.status(code), std::invalid_argument);
              }),
              "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
}

TEST(http_response, what_is_sent_cannot_be_changed) {
    EXPECT_EQ(answer([](request&, response& res) {
                  (void)res.flush();
                  EXPECT_TRUE(res.committed());
                  res.status(500).header("X", "y");
              }),
              "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
}

TEST(http_response, a_405_says_what_is_allowed) {
    offline s;
    s.handle("GET /a", [](request&, response&) {});
    s.handle("PUT /a", [](request&, response&) {});
    EXPECT_NE(s.talk({"POST /a HTTP/1.1\r\nHost: a\r\n\r\n"}).sent.find("\r\nAllow: GET, HEAD, PUT\r\n"),
              std::string::npos);
    s.handle("POST /tree/", [](request&, response&) {});
    EXPECT_TRUE(s.talk({"GET /tree HTTP/1.1\r\nHost: a\r\n\r\n"}).sent.starts_with("HTTP/1.1 405 "));
}

/// As Go 1.22 does: paths are compared and cleaned as they were sent, so that an escaped slash is data.
TEST(http_response, sends_unclean_paths_and_roots_of_subtrees_to_the_right_one) {
    offline s;
    const auto path = [](request& req, response& res) { (void)res.write(std::string(req.pattern()) + ' ' + req.path_value("x")); };
    for (const char* p : {"/", "/tree/", "GET /get/", "/one/{x}", "/two/{x}", "/two/a/", "/deep/{x}/end/"}) s.handle(p, path);
    auto get = [&](std::string target, std::string method = "GET") {
        const std::string sent = dateless(s.talk({method + ' ' + target + " HTTP/1.1\r\nHost: a\r\n\r\n"}).sent);
        const std::size_t at = sent.find("Location: ");
        return at != sent.npos ? "-> " + sent.substr(at + 10, sent.find('\r', at) - at - 10) : sent.substr(sent.find("\r\n\r\n") + 4);
    };
    EXPECT_EQ(get("/tree"), "-> /tree/") << "although \"/\" would take it";
    EXPECT_EQ(get("/tree?q=%20"), "-> /tree/?q=%20");
    EXPECT_EQ(get("/get"), "-> /get/");
    EXPECT_EQ(get("/get", "POST"), "/ ") << "it is nobody's subtree with that method";
    EXPECT_EQ(get("/two/a"), "/two/{x} a") << "what matches as a whole goes first";
    EXPECT_EQ(get("/deep/a%2Fb/end"), "-> /deep/a%2Fb/end/");
    EXPECT_EQ(get("/one/a%2F%2Fb"), "/one/{x} a//b") << "a key, whatever is in it";
    EXPECT_EQ(get("/one//a%2Fb%20c"), "-> /one/a%2Fb%20c");
    EXPECT_EQ(get("/one/./a%2fb"), "-> /one/a%2fb");
    EXPECT_EQ(get("/one/%2e%2E/two/x"), "-> /two/x");
    EXPECT_EQ(get("/one/%2e"), "-> /one");
    EXPECT_EQ(get("/one/..%2Fb"), "-> /b") << "no handler sees what it might take for a way up";
    EXPECT_EQ(get("/one/a%2F..%2F..%2Fb"), "-> /b");
    EXPECT_EQ(get("//evil.example/%2e%2e"), "-> /");
    EXPECT_EQ(get("/.//evil.example"), "-> /evil.example");
    EXPECT_EQ(get("/./\\\\evil.example"), "-> /%5C%5Cevil.example");
    EXPECT_EQ(get("/one/.../x"), "/ ");
}

TEST(http_response, redirects) {
    offline s;
    s.handle("/tree/", [](request&, response& res) { (void)res.write("tree"); });
    auto location = [&](std::string target) {
        const std::string sent = s.talk({"GET " + target + " HTTP/1.1\r\nHost: a\r\n\r\n"}).sent;
        const std::size_t at = sent.find("Location: ");
        return at == sent.npos ? "" : sent.substr(at + 10, sent.find('\r', at) - at - 10);
    };
    EXPECT_EQ(location("/tree?a=b"), "/tree/?a=b");
    EXPECT_EQ(location("//evil.example/x"), "/evil.example/x");
    EXPECT_EQ(location("/%2e%2e/tree/a%20b"), "/tree/a%20b");
    EXPECT_EQ(location("/tree/x"), "");
}

// ---- requests
// ------------------------------------------------------------------------------------------------

TEST(http_request, tells_what_was_asked) {
    offline s;
    bool called = false;
    s.handle("PUT /things/{id}/{rest...}", [&](request& req, response&) {
        called = true;
        EXPECT_EQ(req.method(), "PUT");
        EXPECT_EQ(req.target(), "/things/a%20b/c/d%2Fe?x=1&y=%41&x=2");
        EXPECT_EQ(req.path(), "/things/a b/c/d/e");
        EXPECT_EQ(req.query(), "x=1&y=%41&x=2");
        EXPECT_EQ(req.query("y"), "A");
        EXPECT_EQ(req.query("z"), std::nullopt);
        EXPECT_EQ(req.path_value("id"), "a b");
        EXPECT_EQ(req.path_value("rest"), "c/d/e");
        EXPECT_EQ(req.path_value("none"), "");
        EXPECT_EQ(req.pattern(), "PUT /things/{id}/{rest...}");
        EXPECT_EQ(req.host(), "example.com:8080");
        EXPECT_EQ(req.version(), 11);
        EXPECT_EQ(req.header("X-TEST"), "yes");
        EXPECT_EQ(req.header("missing"), "");
        EXPECT_TRUE(req.has_header("empty"));
        EXPECT_FALSE(req.has_header("missing"));
        EXPECT_EQ(req.content_length(), 3u);
        std::string names;
        for (const header_field& f : req.headers()) (names += f.name) += ' ';
        EXPECT_EQ(names, "Host x-test Empty Content-Length ");
        EXPECT_EQ(req.body().read_all(), "abc");
        EXPECT_EQ(req.header("X-Test"), "yes") << "still there after the body";
    });
    EXPECT_EQ(statuses(s.talk({"PUT /things/a%20b/c/d%2Fe?x=1&y=%41&x=2 HTTP/1.1\r\nHost: "
                               "example.com:8080\r\nx-test: yes\r\n"
                               "Empty:\r\nContent-Length: 3\r\n\r\nabc"})
                           .sent),
              "200");
    EXPECT_TRUE(called);
}

TEST(http_request, header_views_survive_a_large_chunked_body) {
    offline s;
    s.handle("GET /", [](request&, response& res) { (void)res.write("next"); });
    s.handle("POST /", [&](request& req, response& res) {
        const std::string_view early = req.header("x-mark");
        auto body = req.body().read_all();
        ASSERT_TRUE(body);
        EXPECT_EQ(body->size(), 300'000u);
        EXPECT_EQ(early, "here");
        EXPECT_EQ(req.header("X-Mark"), "here");
        (void)res.write("done");
    });
    std::string text = "POST / HTTP/1.1\r\nHost: a\r\nX-Pad: " + std::string(1900, 'p') +
                       "\r\nX-Mark: here\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (int i = 0; i < 3; ++i)
        text += "186a0\r\n" + std::string(100'000, static_cast<char>('a' + i)) + "\r\n";
    text += "0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    std::deque<std::string> pieces;
    for (std::size_t i = 0; i < text.size(); i += 777) pieces.push_back(text.substr(i, 777));
    const std::string sent = s.talk(std::move(pieces)).sent;
    EXPECT_EQ(statuses(sent), "200 200") << sent;
}

TEST(http_request, body_reads_of_any_size) {
    for (std::size_t step : {1u, 7u, 1023u, 1024u, 5000u}) {
        for (bool chunked : {false, true}) {
            offline s;
            std::string got;
            s.handle("/", [&](request& req, response&) {
                std::vector<std::byte> piece(step);
                while (true) {
                    const auto n = req.body().read(piece);
                    ASSERT_TRUE(n);
                    if (*n == 0) break;
                    got.append(reinterpret_cast<const char*>(piece.data()), *n);
                }
                EXPECT_TRUE(req.body().ended());
                EXPECT_EQ(req.body().read(piece), 0u) << "and it stays so";
            });
            std::string body;
            for (int i = 0; i < 10'000; ++i) body += static_cast<char>('a' + i % 26);
            std::string text = "POST / HTTP/1.1\r\nHost: a\r\n";
            text += chunked ? "Transfer-Encoding: chunked\r\n\r\n2710\r\n" + body + "\r\n0\r\n\r\n"
                            : "Content-Length: 10000\r\n\r\n" + body;
            EXPECT_EQ(statuses(s.talk({text.substr(0, 3000), text.substr(3000)}).sent), "200");
            EXPECT_EQ(got, body);
        }
    }
}

TEST(http_trailers, of_a_request_are_told_after_its_body) {
    offline s;
    s.handle("/", [](request& req, response& res) {
        EXPECT_TRUE(req.body().trailers().empty());
        EXPECT_EQ(req.body().read_all(), "hello");
        for (const auto& [name, value] : req.body().trailers()) (void)res.write(name + '=' + value + ';');
        EXPECT_EQ(req.body().trailer("x-sum"), "12");
        EXPECT_EQ(req.body().trailer("content-length"), "");
    });
    const std::string text =
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
        "5\r\nhello\r\n0\r\nX-Sum: 12\r\nHost: b\r\nContent-Type: d\r\n"
        "Authorization: c\r\nY: z\r\n\r\n";
    for (std::size_t cut = 1; cut < text.size(); ++cut) {
        const outcome o = s.talk({text.substr(0, cut), text.substr(cut)});
        ASSERT_NE(o.sent.find("\r\n\r\nX-Sum=12;Y=z;"), std::string::npos) << o.sent;
    }
    // The next request on the connection has none.
    const outcome o = s.talk({text + "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                                     "5\r\nhello\r\n0\r\nX-Sum: 12\r\n\r\n"});
    EXPECT_NE(o.sent.find("\r\n\r\nX-Sum=12;"), std::string::npos);
    EXPECT_EQ(statuses(o.sent), "200 200");
}

TEST(http_trailers, of_a_response_stand_behind_its_chunks) {
    offline s;
    s.handle("/", [](request&, response& res) {
        res.header("Trailer", "X-Sum");
        (void)res.write("hello");
        res.trailer("X-Sum", "12");
        for (const char* no : {"Content-Length", "transfer-encoding", "Host", "If-Match", "bad name", ""})
            EXPECT_THROW(res.trailer(no, "1"), std::invalid_argument) << no;
        EXPECT_THROW(res.trailer("A", "b\r\nc: d"), std::invalid_argument);
    });
    s.handle("/throws", [](request&, response& res) {
        res.trailer("X-Sum", "12");
        throw std::runtime_error("thrown on purpose");
    });
    auto get = [&](std::string target, std::string version = "1.1") {
        return dateless(s.talk({target + " HTTP/" + version + "\r\nHost: a\r\n\r\n"}).sent);
    };
    EXPECT_EQ(get("GET /"), "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n"
                            "5\r\nhello\r\n0\r\nX-Sum: 12\r\n\r\n");
    EXPECT_EQ(get("HEAD /"), "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n");
    EXPECT_EQ(get("GET /", "1.0"),
              "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nContent-Length: 5\r\nConnection: close\r\n\r\n"
              "hello");
    EXPECT_EQ(get("GET /throws").find("X-Sum"), std::string::npos);
}

TEST(http_stats, count_what_happens) {
    offline s({.measure_latency = true});
    add_handlers(s);
    std::string log;
    s.core.on_response = [&](const request& req, const response& res, std::chrono::nanoseconds took) {
        EXPECT_GE(took.count(), 0);
        ((log += req.method()) += ' ') += req.target();
        log += ' ' + std::to_string(res.status()) + ' ' + std::to_string(res.written()) + '\n';
    };
    s.handle("/take", [](request&, response& res) { (void)res.hijack(); });
    (void)s.talk({"GET /ok HTTP/1.1\r\nHost: a\r\n\r\nGET /none HTTP/1.1\r\nHost: a\r\n\r\nbad\r\n\r\n"});
    (void)s.talk({"GET /throw HTTP/1.1\r\nHost: a\r\n\r\nGET /throw_late HTTP/1.1\r\nHost: a\r\n\r\n"});
    (void)s.talk({"GET /take HTTP/1.1\r\nHost: a\r\n\r\n"});
    server_stats got;
    s.core.exchanges.add_to(got);
    EXPECT_EQ(got.responses[2], 1u);
    EXPECT_EQ(got.responses[4], 2u);
    EXPECT_EQ(got.responses[5], 1u);
    EXPECT_EQ(got.refused, 1u);
    EXPECT_EQ(got.hijacked, 1u);
    EXPECT_EQ(got.exceptions, 2u);
    EXPECT_EQ(got.requests_ended, 4u);
    EXPECT_EQ(got.in_flight(), 0u);
    std::uint64_t measured = 0;
    for (auto n : got.latency) measured += n;
    EXPECT_EQ(measured, 4u);
    EXPECT_EQ(log, "GET /ok 200 2\nGET /none 404 14\nGET /throw 500 26\nGET /throw_late 200 4\nGET /take 200 0\n");
}

TEST(http_stats, in_the_words_of_prometheus) {
    server_stats s;
    s.connections_accepted = 7;
    s.connections_idle = 2;
    s.responses[2] = 5;
    s.requests_started = 6;
    s.requests_ended = 5;
    s.latency[0] = 2;
    s.latency[1] = 1;
    s.latency[16] = 1;
    s.latency_sum_ns = 12'000'345'000;
    const std::string text = to_prometheus(s);
    for (const char* line :
         {"# TYPE http_server_connections gauge\n", "\nhttp_server_connections{state=\"idle\"} 2\n",
          "\nhttp_server_responses_total{code=\"2xx\"} 5\n", "\nhttp_server_requests_in_flight 1\n",
          "\nhttp_server_request_duration_seconds_bucket{le=\"0.0001\"} 2\n",
          "\nhttp_server_request_duration_seconds_bucket{le=\"0.00025\"} 3\n",
          "\nhttp_server_request_duration_seconds_bucket{le=\"10.0\"} 3\n",
          "\nhttp_server_request_duration_seconds_bucket{le=\"+Inf\"} 4\n",
          "\nhttp_server_request_duration_seconds_sum 12.000345\n",
          "\nhttp_server_request_duration_seconds_count 4\n", "\nhttp_server_connections_accepted_total 7\n"})
        EXPECT_NE(('\n' + text).find(line), std::string::npos) << line << text;
    EXPECT_EQ(to_prometheus(s, "api").find("http_server"), std::string::npos);
}

} // namespace
