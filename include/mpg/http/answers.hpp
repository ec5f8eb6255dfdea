// What the server says by itself, where no handler does.
#pragma once

#include <mpg/http/core.hpp>
#include <mpg/http/exchange.hpp>
#include <mpg/http/request.hpp>
#include <mpg/http/response.hpp>
#include <mpg/http/status.hpp>
#include <mpg/http/url.hpp>

#include <cstdio>
#include <exception>
#include <string>
#include <string_view>
#include <utility>

namespace mpg::http::detail {

/// Status and phrase, also as the body.
inline void say(response& res, int status) {
    res.status(status).header("Content-Type", "text/plain; charset=utf-8");
    std::string text = std::to_string(status);
    ((text += ' ') += reason_phrase(status)) += '\n';
    (void)res.write(text);
}

/// path: escaped.
inline void redirect(response& res, const exchange& x, std::string_view path) {
    std::string location;
    encode_path_to(location, path, true);
    if (!x.parts.query.empty()) (location += '?') += x.parts.query;
    res.header("Location", location);
    say(res, 301);
}

/// 404, or 405 with what is allowed.
inline void not_found(response& res, const exchange& x, const routes& table, std::string_view host) {
    if (x.parts.path == "*") return; // OPTIONS *: the server is there
    const std::string allowed = table.allowed(host, x.parts.path);
    if (!allowed.empty()) res.header("Allow", allowed);
    say(res, allowed.empty() ? 404 : 405);
}

/// Says on stderr what a handler has thrown.
inline void report(const request& req, std::exception_ptr thrown) {
    std::string what = "not a std::exception";
    try {
        std::rethrow_exception(std::move(thrown));
    } catch (const std::exception& e) {
        what = e.what();
    } catch (...) {
    }
    std::fprintf(stderr, "http: the handler of \"%.*s\" threw: %s\n", static_cast<int>(req.pattern().size()),
                 req.pattern().data(), what.c_str());
}

} // namespace mpg::http::detail
