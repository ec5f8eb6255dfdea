// Trace contexts: which trace a request belongs to, carried by mpg::context and over the network.
//
//   const mpg::trace_context* t = mpg::trace_of(req.ctx());        // what came as traceparent, b3 or X-B3-...
//   auto answer = client.fetch({.url = backend}, req.ctx());       // goes on in the same trace
//
//   trace_context        trace id, span id, sampling, tracestate; with_trace, trace_of
//   propagator           w3c_propagator, b3_propagator, b3_multi_propagator, composite_propagator: between headers and
//                        trace contexts; default_propagator() reads whichever is there and writes all
//   span, span_hook      for a tracing library such as OpenTelemetry's, which the HTTP server and client then tell of
//                        each request; start_span for work of your own
#pragma once

#include <mpg/cancel/span.hpp>
#include <mpg/cancel/trace_propagator.hpp>
#include <mpg/sched/whole.hpp>
