// Heads, chunked bodies, targets, dates: parsing without a connection, whole and in every split.
#include "support.hpp"

#include <mpg/http/date.hpp>
#include <mpg/http/request_parser.hpp>
#include <mpg/http/url.hpp>

#include <string>
#include <string_view>
#include <vector>

namespace {

using namespace mpg::http::detail;
using scan = header_scanner::result;

/// 0, or the status that refuses it; -1: no whole header.
int status_of(std::string_view bytes, std::uint64_t max_body = 0) {
    header_scanner scanner;
    switch (scanner.scan(bytes)) {
    case scan::incomplete:
        return -1;
    case scan::malformed:
        return 400;
    case scan::complete:
        break;
    }
    request_head head;
    request_parser parser(head, max_body, 64 << 10);
    return parser.parse_head(bytes.substr(0, scanner.length()));
}

TEST(http_head, is_parsed) {
    const std::string text = "POST /a/b?c=d HTTP/1.1\r\nHost: example.com:80\r\nX-One:  1 \t\r\nx-two:\r\n"
                             "Content-Length: 5\r\n\r\nhello";
    header_scanner scanner;
    ASSERT_EQ(scanner.scan(text), scan::complete);
    EXPECT_EQ(scanner.length(), text.size() - 5);
    request_head head;
    request_parser parser(head, 0, 1 << 16);
    ASSERT_EQ(parser.parse_head(std::string_view(text).substr(0, scanner.length())), 0);
    EXPECT_EQ(head.method, "POST");
    EXPECT_EQ(head.target, "/a/b?c=d");
    EXPECT_EQ(head.minor, 1);
    EXPECT_EQ(head.host, "example.com:80");
    EXPECT_TRUE(head.keep_alive);
    EXPECT_FALSE(head.chunked);
    EXPECT_EQ(head.content_length, 5u);
    ASSERT_EQ(head.fields.size(), 4u);
    EXPECT_EQ(head.field("x-ONE"), "1");
    EXPECT_EQ(head.field("X-Two"), "");
    EXPECT_EQ(head.field("x-three"), "");
}

TEST(http_head, scanner_does_not_depend_on_the_split) {
    const std::string text = "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\ntail";
    for (std::size_t first = 0; first <= text.size(); ++first)
        for (std::size_t second = first; second <= text.size(); ++second) {
            header_scanner scanner;
            scan r = scan::incomplete;
            for (std::size_t n : {first, second, text.size()})
                if (r == scan::incomplete) r = scanner.scan(std::string_view(text).substr(0, n));
            ASSERT_EQ(r, scan::complete);
            ASSERT_EQ(scanner.length(), text.size() - 4);
        }
}

TEST(http_head, keep_alive_is_the_default_of_1_1_only) {
    auto wish = [](std::string_view version, std::string_view fields) {
        std::string text = "GET / HTTP/";
        ((text += version) += "\r\nHost: a\r\n") += fields;
        text += "\r\n";
        request_head head;
        request_parser parser(head, 0, 1 << 16);
        EXPECT_EQ(parser.parse_head(text), 0) << text;
        return head.keep_alive;
    };
    EXPECT_TRUE(wish("1.1", ""));
    EXPECT_FALSE(wish("1.1", "Connection: close\r\n"));
    EXPECT_FALSE(wish("1.1", "Connection: x, CLOSE\r\n"));
    EXPECT_FALSE(wish("1.0", ""));
    EXPECT_TRUE(wish("1.0", "Connection: Keep-Alive\r\n"));
}

struct head_case {
    const char* text;
    int status;
};

TEST(http_head, hostile_ones_are_refused) {
    // Each stands for a whole header up to its empty line.
    const head_case cases[] = {
        {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 0},
        {"GET / HTTP/1.0\r\n\r\n", 0},
        {"GET / HTTP/1.1\r\n\r\n", 400},                       // no Host
        {"GET / HTTP/1.1\r\nHost:\r\n\r\n", 0},                // an empty one is allowed
        {"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400}, // two
        {"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", 400},
        // request lines
        {"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {"GET /  HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400},
        {"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {"GET /\r\nHost: a\r\n\r\n", 400},
        {" GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {"GE(T / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {"GET / HTTP/1.1\nHost: a\r\n\r\n", 400},
        {"GET / http/1.1\r\nHost: a\r\n\r\n", 400},
        {"GET / HTTP/11\r\nHost: a\r\n\r\n", 400},
        {"GET / HTTP/1.10\r\nHost: a\r\n\r\n", 400},
        {"GET / HTTX/1.1\r\nHost: a\r\n\r\n", 400},
        {"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505},
        {"GET / HTTP/0.9\r\nHost: a\r\n\r\n", 505},
        {"PRI * HTTP/2.0\r\n\r\n", 505},
        {"GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505},
        {"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {"GET / HTTP/1.1\t\r\nHost: a\r\n\r\n", 400},
        {"GET / HTTP/01.1\r\nHost: a\r\n\r\n", 400},
        {"GET / HTTP/ 1.1\r\nHost: a\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", 400},
        {"GET / HTTP/1.1\rHost: a\r\n\r\n", 400},
        {"\xef\xbb\xbfGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {"GET / \r\nHost: a\r\n\r\n", 400},
        {"GET\r\nHost: a\r\n\r\n", 400},
        // fields
        {"GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: a\r\n: y\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: a\r\nX: a\nb\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: a\r\nX: a\x7f\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: a\r\nX: a\tb\xff\r\n\r\n", 0},
        {"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", 400}, // obs-fold
        {"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n\tb\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: a\r\nX:\r\n b\r\n\r\n", 400},  // with nothing in front of it
        {"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n \r\n\r\n", 400}, // or behind
        {"GET / HTTP/1.1\r\nHost: a\r\nX:\r\n \r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost:\r\n a\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n", 400},
        // framing
        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", 0},
        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", 0},
        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\n", 0},
        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 6\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5,\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5 5\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551616\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\nContent-Length: 5\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 0},
        {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n", 0},
        {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
         400},
        {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501},
        {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n", 501},
        {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n", 501},
        {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0b"
         "chunked\r\n\r\n",
         400},
        {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n", 400},
        {"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:5\t\r\n\r\n", 0},
        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nX: y\r\ncontent-length: 6\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length\t: 5\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5;\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5.0\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5,,5\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \x85"
         "5\r\n\r\n",
         400},
        {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\tchunked \r\n\r\n", 0},
        {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding\t: chunked\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;q=1\r\n\r\n", 501},
        {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n", 501},
        {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chun ked\r\n\r\n", 501},
        {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \xa0"
         "chunked\r\n\r\n",
         501},
        {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: a\r\nX: y\rTransfer-Encoding: chunked\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: a\r\nX: y\r\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
        // expectations
        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-Continue\r\n\r\n", 0},
        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 200-ok\r\n\r\n", 417},
        {"POST / HTTP/1.0\r\nContent-Length: 5\r\nExpect: 200-ok\r\n\r\n", 0},
    };
    for (const head_case& c : cases) EXPECT_EQ(status_of(c.text), c.status) << c.text;
    using namespace std::string_view_literals;
    EXPECT_EQ(status_of("GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n"sv), 400);
    EXPECT_EQ(status_of("GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n"sv), 400);
    EXPECT_EQ(status_of("GET / HTTP/1.1\r\nHost: a\r\nX\0: y\r\n\r\n"sv), 400);
    EXPECT_EQ(status_of("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\0\r\n\r\n"sv), 400);
    EXPECT_EQ(status_of("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\0\r\n\r\n"sv), 400);
}

TEST(http_head, a_long_folded_value_is_refused) {
    std::string text = "GET / HTTP/1.1\r\nHost: a\r\nX: a";
    for (int i = 0; i < 3000; ++i) text += "\r\n b";
    EXPECT_NE(status_of(text + "\r\n\r\n"), 0);
}

TEST(http_head, a_body_beyond_the_limit_is_413) {
    EXPECT_EQ(status_of("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n", 10), 0);
    EXPECT_EQ(status_of("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n", 10), 413);
    EXPECT_EQ(status_of("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551615\r\n\r\n", 10),
              413);
    EXPECT_EQ(status_of("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551615\r\n\r\n"), 0);
}

struct decoded_body {
    std::string data;
    int status = 0;
    bool done = false;
    std::size_t used = 0;
};

/// Feeds the decoder as a connection does: it sees all bytes up to each cut that it has not used.
decoded_body decode(std::string_view raw, const std::vector<std::size_t>& cuts, std::size_t out_size = 7,
                    std::uint64_t max_body = 0) {
    request_head head;
    request_parser parser(head, max_body, 64 << 10);
    EXPECT_EQ(parser.parse_head("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"), 0);
    decoded_body b;
    std::vector<std::byte> out(out_size);
    for (std::size_t cut : cuts) {
        while (!parser.done()) {
            const auto d = parser.decode_chunked(raw.substr(b.used, cut - b.used), out);
            b.used += d.used;
            b.data.append(reinterpret_cast<const char*>(out.data()), d.produced);
            if ((b.status = d.status) != 0) return b;
            if (d.used == 0 && d.produced == 0) break;
        }
    }
    b.done = parser.done();
    return b;
}

TEST(http_chunked, every_split_gives_the_same) {
    const std::string raw =
        "5\r\nhello\r\n1;name=value\r\n,\r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\nOther:\r\n\r\nNEXT";
    const std::size_t end = raw.size() - 4;
    std::vector<std::size_t> bytewise;
    for (std::size_t i = 0; i <= raw.size(); ++i) bytewise.push_back(i);
    std::vector<std::vector<std::size_t>> all{bytewise};
    for (std::size_t i = 0; i <= raw.size(); ++i)
        for (std::size_t k = i; k <= raw.size(); ++k) all.push_back({i, k, raw.size()});
    for (const auto& cuts : all)
        for (std::size_t out : {std::size_t{1}, std::size_t{64}}) {
            const decoded_body b = decode(raw, cuts, out);
            ASSERT_EQ(b.status, 0);
            ASSERT_TRUE(b.done);
            ASSERT_EQ(b.data, "hello,0123456789");
            ASSERT_EQ(b.used, end);
        }
}

TEST(http_chunked, an_empty_body_in_every_split) {
    const std::string_view raw = "0\r\n\r\n";
    std::vector<std::size_t> bytewise;
    for (std::size_t i = 0; i <= raw.size(); ++i) bytewise.push_back(i);
    const decoded_body b = decode(raw, bytewise);
    EXPECT_TRUE(b.done);
    EXPECT_EQ(b.used, raw.size());
}

TEST(http_chunked, malformed_ones_are_400_in_every_split) {
    for (const char* raw : {
             "x\r\nhello\r\n0\r\n\r\n",
             "-1\r\nhello\r\n0\r\n\r\n",
             "+5\r\nhello\r\n0\r\n\r\n",
             "0x5\r\nhello\r\n0\r\n\r\n",
             " 5\r\nhello\r\n0\r\n\r\n",
             "5\nhello\r\n0\r\n\r\n",
             "5\r\nhelloX\r\n0\r\n\r\n",
             "5\r\nhello0\r\n\r\n",
             "5 x\r\nhello\r\n0\r\n\r\n",
             "\r\nhello\r\n0\r\n\r\n",
             "10000000000000000\r\nhello\r\n0\r\n\r\n",
             "5;\r\nhello\r\n0\r\n\r\n",
             "5;a=\"\n\"\r\nhello\r\n0\r\n\r\n",
             "5;a\rb\r\nhello\r\n0\r\n\r\n",
             "5\r\nhello\r\n0\r\nX : y\r\n\r\n",
             "5\r\nhello\r\n0\r\nX: y\r\n z\r\n\r\n",
             "5\r\nhello\r\n0\r\nContent-Length: 9\r\n\r\n",
             "5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
             "5\r\nhello\r\n0\r\n\rX\r\n\r\n",
             "5\r\r\nhello\r\n0\r\n\r\n",
             "5\r\nhello\n0\r\n\r\n",
             "5\r\nhello\r0\r\n\r\n",
             "5 \r\nhello\r\n0\r\n\r\n",
             "5\t\r\nhello\r\n0\r\n\r\n",
             "5,\r\nhello\r\n0\r\n\r\n",
             "5;;\r\nhello\r\n0\r\n\r\n",
             "5;a\n\r\nhello\r\n0\r\n\r\n",
             "5;a=\"b\r\nhello\r\n0\r\n\r\n\"\r\nhello\r\n0\r\n\r\n", // a line end within quotes
             "5\r\nhello\r\n\r\n0\r\n\r\n",
             "0\n\r\n\r\n",
             "0\r\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
             "0\r\nX: y\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
             "0\r\nX: a\rb\r\n\r\n",
             "0\r\n X: y\r\n\r\n",
             "0\r\nX\r\n\r\n",
         }) {
        const std::string_view text = raw;
        for (std::size_t cut = 0; cut <= text.size(); ++cut) {
            const decoded_body b = decode(text, {cut, text.size()});
            EXPECT_FALSE(b.done) << raw << " cut at " << cut;
            EXPECT_EQ(b.status, 400) << raw << " cut at " << cut;
        }
    }
}

TEST(http_chunked, the_limit_counts_data) {
    EXPECT_EQ(decode("5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n", {100}, 7, 10).status, 0);
    EXPECT_EQ(decode("5\r\nhello\r\n6\r\nworld!\r\n0\r\n\r\n", {100}, 7, 10).status, 413);
    EXPECT_EQ(decode("ffffffffffffffff\r\nx", {100}, 7, 10).status, 413);
}

TEST(http_target, forms) {
    auto parts = split_target("/a/b?c=d?e#f", "GET");
    ASSERT_TRUE(parts);
    EXPECT_EQ(parts->path, "/a/b");
    EXPECT_EQ(parts->query, "c=d?e");
    parts = split_target("http://user.example:80?x", "GET");
    ASSERT_TRUE(parts);
    EXPECT_EQ(parts->authority, "user.example:80");
    EXPECT_EQ(parts->path, "/");
    EXPECT_EQ(parts->query, "x");
    EXPECT_EQ(split_target("example.com:443", "CONNECT")->authority, "example.com:443");
    EXPECT_EQ(split_target("*", "OPTIONS")->path, "*");
    for (const char* bad : {"*", "a", "://x", "http:///x", "http://u@h/", "/%", "/%2", "/%gg", "?x", "#"})
        EXPECT_FALSE(split_target(bad, "GET")) << bad;
    EXPECT_FALSE(split_target("/x", "CONNECT"));
}

/// Reserved and unreserved characters (RFC 3986, 2) but '/', '?', '#' and '@', which end a host, and ',', which lists several.
TEST(http_target, hosts_byte_by_byte) {
    const std::string_view allowed = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-._~:[]!$&'()*+;=%";
    for (int byte = 0; byte != 256; ++byte) {
        const char c = static_cast<char>(byte);
        const bool may = allowed.find(c) != std::string_view::npos;
        EXPECT_EQ(is_host({&c, 1}), may) << byte;
        EXPECT_EQ(is_host(std::string("a") + c + "b"), may) << byte;
        // What a whole header makes of it.
        EXPECT_EQ(status_of(std::string("GET / HTTP/1.1\r\nHost: a") + c + "b\r\n\r\n"), may ? 0 : 400) << byte;
    }
    EXPECT_TRUE(is_host(""));
}

TEST(http_target, clean_paths) {
    for (const char* clean : {"/", "/a", "/a/", "/a/b.c/..d/.e"}) {
        EXPECT_TRUE(is_clean_path(clean)) << clean;
        EXPECT_EQ(clean_path(clean), clean);
    }
    const std::pair<const char*, const char*> dirty[] = {
        {"//", "/"},       {"//evil.example", "/evil.example"},
        {"/a//b", "/a/b"}, {"/a/./b", "/a/b"},
        {"/a/../b", "/b"}, {"/../..", "/"},
        {"/a/..", "/"},    {"/a/b/../", "/a/"},
        {"/.", "/"},       {"/a/.", "/a"},
        {"a", "/a"},       {"", "/"},
    };
    for (auto [from, to] : dirty) {
        EXPECT_FALSE(is_clean_path(from)) << from;
        EXPECT_EQ(clean_path(from), to) << from;
        EXPECT_TRUE(is_clean_path(clean_path(from))) << from;
    }
}

TEST(http_target, query_parameters) {
    EXPECT_EQ(query_parameter("ms=5&x=%41+b&ms=6&flag&bad=%zz&e=", "ms"), "5");
    EXPECT_EQ(query_parameter("ms=5&x=%41+b", "x"), "A b");
    EXPECT_EQ(query_parameter("a&flag", "flag"), "");
    EXPECT_EQ(query_parameter("%66lag=1", "flag"), "1");
    EXPECT_EQ(query_parameter("bad=%zz", "bad"), std::nullopt);
    EXPECT_EQ(query_parameter("", "x"), std::nullopt);
}

std::string date(std::int64_t t) {
    char text[date_size];
    format_date(t, text);
    return std::string(text, date_size);
}

TEST(http_date, is_imf_fixdate) {
    EXPECT_EQ(date(784111777), "Sun, 06 Nov 1994 08:49:37 GMT");
    EXPECT_EQ(date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
    EXPECT_EQ(date(951782399), "Mon, 28 Feb 2000 23:59:59 GMT");
    EXPECT_EQ(date(951782400), "Tue, 29 Feb 2000 00:00:00 GMT");
    EXPECT_EQ(date(4102444799), "Thu, 31 Dec 2099 23:59:59 GMT");
}

TEST(http_date, agrees_with_gmtime) {
    for (std::int64_t t = -86400 * 400; t < std::int64_t{4102444800}; t += 86400 * 13 + 3607) {
        const time_t seconds = t;
        ::tm parts;
        ASSERT_TRUE(::gmtime_r(&seconds, &parts));
        char text[64];
        ASSERT_EQ(::strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &parts), date_size);
        ASSERT_EQ(date(t), text);
    }
}

} // namespace
