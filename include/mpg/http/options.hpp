// What bounds a server.
#pragma once

#include <mpg/cancel/span.hpp>
#include <mpg/cancel/trace_propagator.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace mpg::http {

/// Limits of a server. 0 means: no limit. Names and meaning of the time-outs are those of Go's http.Server,
/// but here the two that hold off idle and dawdling clients are on by default.
struct server_options {
    /// Request line and header fields of one request, also the trailers of a chunked body: 414 or 431 beyond
    /// it.
    std::size_t max_header_bytes = 64 << 10;
    /// Body of one request, without the framing: 413 beyond it. Bodies are streamed, so this bounds time, not
    /// memory.
    std::uint64_t max_body_bytes = 0;
    /// Connections open at once; further ones wait in the kernel's backlog.
    std::size_t max_connections = 0;
    /// From the first byte of a request (on a fresh connection: from its acceptance) to the end of its
    /// header: 408, or a plain close when not one byte came.
    std::chrono::nanoseconds read_header_timeout = std::chrono::seconds(10);
    /// From the first byte of a request to the last one of its body: then the body's read fails.
    std::chrono::nanoseconds read_timeout{0};
    /// From the end of a request's header to the last byte of its response: then writes fail, the connection
    /// closes.
    std::chrono::nanoseconds write_timeout{0};
    /// From the end of one exchange to the first byte of the next request: then the connection closes.
    std::chrono::nanoseconds idle_timeout = std::chrono::seconds(120);
    /// Count how long requests take (server::stats): two looks at the clock for each.
    bool measure_latency = false;
    /// How trace contexts come in: request::ctx() carries what it finds (mpg::trace_of). Null: they are not looked for.
    const propagator* trace_propagator = &default_propagator();
    /// Is told of each request; request::ctx() then carries the span. Null: nobody is.
    span_hook* spans = nullptr;
};

} // namespace mpg::http
