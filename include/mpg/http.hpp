// HTTP/1.1.
//
//   mpg::http::server server({.idle_timeout = std::chrono::seconds(60)});
//   server.handle("GET /hello/{name}", [](mpg::http::request& req, mpg::http::response& res) {
//       res.header("Content-Type", "text/plain");
//       res.write("Hello, " + req.path_value("name") + "\n");
//   });
//   std::error_code why = server.listen_and_serve(":8080");      // returns errc::server_closed after
//   shutdown()
//
//   // elsewhere, for example when mpg::notify({SIGTERM}) gave a value:
//   server.shutdown(mpg::with_timeout(mpg::context::background(), std::chrono::seconds(3)));
//
// server          patterns as Go 1.22's ServeMux has them, limits and time-outs, keep-alive, pipelining,
// graceful end request         method, path, fields, body (a reader), ctx(), path_value() response status,
// fields, write, flush, hijack; Content-Length or chunked by itself
//
// A handler runs in its connection's task and may block as any task. Parsing is Boost.Beast's; this header is
// the only one that includes it. What hostile requests get: <mpg/http/request_parser.hpp> and
// tests/http_server_test.cpp.
#pragma once

#include <mpg/http/client.hpp>
#include <mpg/http/options.hpp>
#include <mpg/http/request.hpp>
#include <mpg/http/response.hpp>
#include <mpg/http/server.hpp>
#include <mpg/http/status.hpp>
#include <mpg/sched/whole.hpp>
