// libFuzzer on what comes from the network: requests, responses, chunked bodies, URLs, addresses.
//
//   MPG_FUZZ_TARGET=request http_fuzz [options of libFuzzer] CORPUS...
//
// Beside the sanitizers it is told of by `require`: what must hold for every input. Mostly that the result does not
// depend on the pieces in which the bytes come, and that what was accepted can be written out and read again.
#include "../http_offline.hpp"

#include <mpg/http/client_proxy.hpp>
#include <mpg/http/client_url.hpp>
#include <mpg/http/header_scanner.hpp>
#include <mpg/http/pattern.hpp>
#include <mpg/http/request_parser.hpp>
#include <mpg/http/response_parser.hpp>
#include <mpg/net.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using namespace mpg::http;
namespace detail = mpg::http::detail;

void require(bool ok, const char* what) {
    if (ok) return;
    std::fprintf(stderr, "does not hold: %s\n", what);
    std::abort();
}

std::deque<std::string> in_pieces(std::string_view text, std::size_t size) {
    std::deque<std::string> pieces;
    for (; !text.empty(); text.remove_prefix(std::min(size, text.size())))
        pieces.emplace_back(text.substr(0, size));
    return pieces;
}

/// Without what depends on the time, and on whether a body was there already when it was wanted.
std::string without_chance(std::string s) {
    constexpr std::string_view go_on = "HTTP/1.1 100 Continue\r\n\r\n";
    for (std::size_t at; (at = s.find(go_on)) != std::string::npos;) s.erase(at, go_on.size());
    return mpg::test::dateless(std::move(s));
}

/// What the server says is a row of responses, as our own client reads them.
void require_responses(std::string_view said) {
    while (!said.empty()) {
        detail::header_scanner scanner;
        require(scanner.scan(said) == detail::header_scanner::result::complete, "a response's header is whole");
        detail::response_head head;
        detail::response_parser parser(head, 0, scanner.length(), false);
        require(parser.parse_head(said.substr(0, scanner.length())), "a response's header is right");
        require(head.status >= 100 && head.status < 600, "a response's status is one");
        said.remove_prefix(scanner.length());
        if (head.chunked) {
            std::array<std::byte, 4096> out;
            while (!parser.done()) {
                const auto d = parser.decode_chunked(said, out);
                require(d.status == 0 && d.used + d.produced != 0, "a response's chunks are right");
                said.remove_prefix(d.used);
            }
        } else if (head.content_length) {
            require(*head.content_length <= said.size(), "a response's body is whole");
            said.remove_prefix(static_cast<std::size_t>(*head.content_length));
        } else if (head.has_body) {
            return; // up to the end
        }
    }
}

mpg::test::offline& server() {
    static mpg::test::offline& it = [&]() -> mpg::test::offline& {
        auto& s = *new mpg::test::offline; // never destroyed: libFuzzer ends the process
        s.handle("GET /ok", [](request&, response& res) { (void)res.write("ok"); });
        s.handle("GET /v/{name}/{rest...}", [](request& req, response& res) {
            res.header("X-Name", "n");
            (void)res.write(req.path_value("name"));
            (void)res.flush();
            (void)res.write(req.path_value("rest"));
            (void)res.write(req.query("q").value_or("none"));
        });
        s.handle("POST /echo", [](request& req, response& res) {
            auto body = req.body().read_all();
            (void)res.write(body ? *body : "bad");
        });
        s.handle("/left", [](request&, response& res) { (void)res.write("the body is left"); });
        s.handle("/throws", [](request&, response&) { throw std::runtime_error("x"); });
        return s;
    }();
    return it;
}

void fuzz_request(std::string_view text) {
    if (text.empty()) return;
    const auto size = static_cast<std::size_t>(static_cast<unsigned char>(text[0]) % 32 + 1);
    text.remove_prefix(1);
    const std::string whole = without_chance(server().talk(in_pieces(text, text.size() + 1)).sent);
    const std::string parts = without_chance(server().talk(in_pieces(text, size)).sent);
    require(whole == parts, "the pieces in which a request comes do not matter");
    if (text.find("HEAD") == text.npos) require_responses(whole); // those to HEAD have lengths and no bodies
}

/// The result of decoding, given `size` more bytes at a time.
struct decoded {
    std::string body;
    int status = 0;
    bool done = false;
    std::size_t fields = 0;
    friend bool operator==(const decoded&, const decoded&) = default;
};
template <class Parser> decoded decode(Parser& parser, std::string_view raw, std::size_t size, std::size_t room) {
    decoded all;
    std::vector<std::byte> out(room);
    std::size_t have = std::min(size, raw.size()), used = 0;
    while (!parser.done()) {
        const auto d = parser.decode_chunked(raw.substr(used, have - used), out);
        require(d.used <= have - used && d.produced <= out.size(), "decoding stays within its buffers");
        used += d.used;
        all.body.append(reinterpret_cast<const char*>(out.data()), d.produced);
        all.status = d.status;
        if (d.status != 0) break;
        if (d.used == 0 && d.produced == 0) {
            if (have == raw.size()) break;
            have = std::min(have + size, raw.size());
        }
    }
    all.done = parser.done();
    if (all.done) all.fields = parser.trailers().size();
    return all;
}

void fuzz_chunks(std::string_view text) {
    if (text.size() < 2) return;
    const std::size_t size = static_cast<unsigned char>(text[0]) % 16 + 1u;
    const std::size_t room = static_cast<unsigned char>(text[1]) % 64 + 1u;
    text.remove_prefix(2);
    constexpr std::string_view head_text = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    auto run = [&](std::size_t piece, std::size_t out) {
        detail::request_head head;
        detail::request_parser parser(head, 1000, 4096);
        require(parser.parse_head(head_text) == 0, "the head is right");
        return decode(parser, text, piece, out);
    };
    decoded whole = run(text.size() + 1, 4096), parts = run(size, room);
    if (whole.status != 0 || parts.status != 0) { // when a fault is seen, and which of two, may differ
        const std::size_t n = std::min(whole.body.size(), parts.body.size());
        require(whole.body.substr(0, n) == parts.body.substr(0, n), "what comes out before a fault is the same");
        require(!whole.done && !parts.done, "a fault in one is none in the other");
        return;
    }
    if (whole != parts)
        std::fprintf(stderr, "at once: %zu bytes, status %d, done %d, %zu fields; in pieces: %zu, %d, %d, %zu\n",
                     whole.body.size(), whole.status, whole.done, whole.fields, parts.body.size(), parts.status,
                     parts.done, parts.fields);
    require(whole == parts, "the pieces in which chunks come do not matter");
}

void fuzz_response(std::string_view text) {
    if (text.empty()) return;
    const bool to_head = text[0] & 1;
    const std::size_t size = static_cast<unsigned char>(text[0]) / 2 % 32 + 1u;
    text.remove_prefix(1);
    detail::header_scanner at_once, slowly;
    const auto all = at_once.scan(text);
    auto some = detail::header_scanner::result::incomplete;
    for (std::size_t n = 0; n < text.size() && some == detail::header_scanner::result::incomplete;)
        some = slowly.scan(text.substr(0, n = std::min(n + size, text.size())));
    require(all == some, "where a header ends does not depend on the pieces");
    if (all != detail::header_scanner::result::complete) return;
    require(at_once.length() == slowly.length(), "where a header ends does not depend on the pieces");
    detail::response_head head;
    detail::response_parser parser(head, 10'000, at_once.length(), to_head);
    if (!parser.parse_head(text.substr(0, at_once.length()))) return;
    require(head.status >= 100 && head.status <= 999, "a status has three digits");
    require(!head.has_body || !to_head, "an answer to HEAD has no body");
    for (const auto& f : head.fields) require(head.find(f.name) != nullptr, "a field is found");
    if (head.has_body && head.chunked) (void)decode(parser, text.substr(at_once.length()), size, 100);
}

void fuzz_url(std::string_view text) {
    for (std::string_view method : {"GET", "CONNECT", "OPTIONS"}) {
        const auto parts = detail::split_target(text, method);
        if (!parts || !parts->path.starts_with('/')) continue;
        std::string path;
        require(detail::valid_escapes(parts->path), "escapes were looked at");
        detail::decode_to(path, parts->path);
        const std::string clean = detail::clean_target(parts->path);
        require(detail::valid_escapes(clean) && detail::clean_target(clean) == clean, "a clean path stays so");
        std::string served;
        detail::decode_to(served, clean);
        require(detail::is_clean_target(clean, served) && !detail::has_dot_segment(served), "and is served");
        std::string escaped, again;
        detail::encode_path_to(escaped, path);
        require(detail::valid_escapes(escaped), "what is escaped has right escapes");
        detail::decode_to(again, escaped);
        require(again == path, "what is escaped can be read");
        (void)detail::query_parameter(parts->query, "a");
    }
    if (const auto url = detail::client_url::parse(text)) {
        const auto again = detail::client_url::parse(url->text());
        require(again && again->text() == url->text(), "a URL can be read again");
        require(mpg::net::split_host_port(url->address()).has_value(), "a URL's address has two parts");
        require(again->zone == url->zone && again->address() == url->address(), "its address stays");
        if (const auto to = url->resolve("../x?y"))
            require(to->authority == url->authority && to->zone == url->zone, "the host stays");
    } else if (const auto base = detail::client_url::parse("http://host/a/b?c")) {
        if (const auto to = base->resolve(text))
            require(detail::client_url::parse(to->text()).has_value(), "where a location leads is a URL");
    }
    try {
        const detail::pattern p = detail::pattern::parse(text);
        require(p.compare(p) == detail::relation::equal, "a pattern equals itself");
    } catch (const std::invalid_argument&) {
    }
}

void fuzz_address(std::string_view text) {
    if (const auto parts = mpg::net::split_host_port(text)) {
        const std::string port = std::to_string(parts->port), host(parts->host);
        const bool v6 = host.find(':') != host.npos;
        const std::string written = (v6 ? "[" + host + "]:" : host + ":") + port;
        const auto again = mpg::net::split_host_port(written);
        require(again && again->host == host && again->port == parts->port, "host and port can be read again");
    }
    if (const auto e = mpg::net::endpoint::parse(text)) {
        const auto again = mpg::net::endpoint::parse(e->to_string());
        require(again && *again == *e && again->hash() == e->hash(), "an endpoint can be read again");
        require(e->with_port(0).port() == 0, "a port can be changed");
    }
    if (const auto e = mpg::net::endpoint::from_path(text)) {
        const auto again = mpg::net::endpoint::from_path(e->to_string());
        require(again && *again == *e, "a path can be read again");
    }
    const std::size_t border = text.find('\n');
    const auto proxy = detail::client_proxy::parse("http://p:1", text.substr(0, border));
    if (border != text.npos)
        if (const auto url = detail::client_url::parse(text.substr(border + 1))) (void)proxy.serves(*url);
}

constexpr std::pair<std::string_view, void (*)(std::string_view)> targets[] = {
    {"request", fuzz_request}, {"response", fuzz_response}, {"chunks", fuzz_chunks},
    {"url", fuzz_url},         {"address", fuzz_address},
};
void (*target)(std::string_view) = nullptr;

} // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
    const char* wanted = std::getenv("MPG_FUZZ_TARGET");
    for (const auto& [name, f] : targets)
        if (wanted && name == wanted) target = f;
    if (target) return 0;
    std::fprintf(stderr, "MPG_FUZZ_TARGET: request, response, chunks, url or address\n");
    std::exit(2);
}
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::vector<char> exact(data, data + size); // so that a look beyond the end shows
    target({exact.data(), exact.size()});
    return 0;
}
