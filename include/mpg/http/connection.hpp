// One connection of a server: reads requests, calls handlers, sends responses, in order, until it ends.
#pragma once

#include <mpg/base/clock.hpp>
#include <mpg/http/answers.hpp>
#include <mpg/http/body.hpp>
#include <mpg/http/client_watch.hpp>
#include <mpg/http/connection_input.hpp>
#include <mpg/http/core.hpp>
#include <mpg/http/date.hpp>
#include <mpg/http/exchange.hpp>
#include <mpg/http/registry.hpp>
#include <mpg/http/request.hpp>
#include <mpg/http/response.hpp>
#include <mpg/http/wire.hpp>
#include <mpg/sched/unwound.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace mpg::http::detail {

/// Its task: registry::entry says what others may do meanwhile. Responses wait for each other while whole
/// requests are in the input buffer, and leave together; whatever may wait for the client sends them first.
class connection final : public connection_input {
  public:
    connection(core& c, std::unique_ptr<link> l)
        : connection_input(c, std::move(l)) {}
    ~connection() { core_.connections.remove(*this); }

    /// Its task.
    void run() {
        bool more = true;
        while (more && await_request()) {
            const exchange_pool::handle x = core_.exchanges.borrow();
            const collecting output(wire_, x->out);
            do more = serve_one(*x);
            while (more && !wire_.in().empty());
            if (!gone_ && wire_.send()) more = false;
        }
        if (linger_ && !gone_) linger();
    }

  private:
    /// The wire's output goes into an exchange's memory.
    struct collecting {
        wire& to;
        collecting(wire& w, std::string& out) noexcept
            : to(w) {
            to.collect_in(&out);
        }
        ~collecting() { to.collect_in(nullptr); }
        collecting(const collecting&) = delete;
        collecting& operator=(const collecting&) = delete;
    };

    static constexpr std::size_t batch_bytes = 64 << 10; // of responses

    // ---- one request ----

    /// False: no further request.
    bool serve_one(exchange& x) {
        const server_options& o = core_.options;
        if (const int status = read_head(x)) return status > 0 && refuse(x, status);
        served_ = true;
        if (o.write_timeout.count() > 0)
            below().set_write_deadline(base::to_time_point(base::deadline_after(o.write_timeout)));

        wire_.in().pin();
        struct unpinner {
            input_buffer& in;
            ~unpinner() { in.unpin(); }
        } unpin{wire_.in()};

        const auto parts = split_target(x.head.target, x.head.method);
        if (!parts || !is_host(parts->authority)) return refuse(x, 400);
        x.parts = *parts;
        if (x.head.chunked || x.head.content_length.value_or(0) > 0) {
            nanoseconds left = o.read_timeout;
            if (left.count() > 0)
                left =
                    std::max(left - nanoseconds(first_wait_ ? base::now() - first_wait_ : 0), nanoseconds(1));
            read_within(left);
        }
        return exchange_messages(x);
    }

    /// Makes request and response, finds the handler, calls it, and finishes. False: no further request.
    bool exchange_messages(exchange& x) {
        client_watch watch(wire_, core_.base);
        struct events final : body_events {
            explicit events(client_watch& w) noexcept
                : watch(w) {}
            void body_ended() override { watch.body_ended(); }
            void body_failed() noexcept override { watch.gone(); }
            client_watch& watch;
        } on_body(watch);
        const bool has_body = x.head.chunked || x.head.content_length.value_or(0) > 0;
        body_reader body(wire_, *x.parser, x.head, has_body, x.head.expect_continue,
                         core_.options.max_header_bytes, on_body);

        std::string_view path = x.parts.path;
        if (path.find('%') != std::string_view::npos) {
            x.path.clear();
            decode_to(x.path, path);
            path = x.path;
        }
        const routes& table = core_.table.get();
        const std::string_view host = table.asks_for_hosts() ? routing_host(x) : std::string_view();
        const routes::route* route = table.find(x.head.method, host, routing_path(x), x.values);

        request req(x.head, x.parts, path, route ? &route->what : nullptr, x.values, body, watch, wire_,
                    core_.options.trace_propagator);
        response res(wire_, watch, date_, x.buffers, core_.connections.draining(), x.head, &body, *this,
                     &take_stream);
        std::unique_ptr<span> traced;
        if (core_.options.spans) [[unlikely]] traced = req.start_span(*core_.options.spans);
        const bool timed = core_.options.measure_latency || core_.on_response;
        const base::nanos began = timed ? base::now() : 0;
        std::string elsewhere; // the path that is asked for in place of this one
        if (x.head.method != "CONNECT" && x.parts.path != "*") {
            if (!is_clean_target(x.parts.path, path))
                elsewhere = clean_target(x.parts.path);
            else if (table.belongs_to_subtree(x.head.method, host, x.parts.path, route))
                (elsewhere = x.parts.path) += '/';
        }
        if (route && elsewhere.empty()) {
            x.counters.started.add();
            const bool goes_on = call(x, *route->target, req, res) && !gone_;
            const base::nanos took = timed ? base::now() - began : 0;
            x.counters.ended.add();
            if (core_.options.measure_latency) x.counters.count_latency(took);
            if (gone_) x.counters.hijacked.add();
            if (core_.on_response) core_.on_response(req, res, nanoseconds(took));
            if (traced && !goes_on && !gone_) traced->set_error("exception");
            if (!goes_on) return false;
        } else {
            elsewhere.empty() ? not_found(res, x, table, host) : redirect(res, x, elsewhere);
            if (core_.on_response) core_.on_response(req, res, nanoseconds(base::now() - began));
        }

        if (!leaves_usable(body)) res.keep_alive_ = false;
        res.finish();
        count(x, res);
        if (traced) {
            set_span_status(*traced, res.status(), 500);
            traced.reset();
        }
        watch.stop();
        if (res.deadline_moved_ && !gone_ && core_.options.write_timeout.count() == 0) {
            const bool failed = static_cast<bool>(wire_.send());
            below().set_write_deadline(std::nullopt);
            if (failed) return false;
        }
        if (!res.keep_alive_) {
            linger_ = !body.ended() || !wire_.in().empty();
            return false;
        }
        if (wire_.out().size() >= batch_bytes && wire_.send()) return false;
        return drain(body);
    }

    /// False: it threw and the connection has to end.
    bool call(exchange& x, handler_base& h, request& req, response& res) {
        wire_.let_wait();
        try {
            h.call(req, res);
            return true;
        } catch (const unwound&) {
            throw;
        } catch (...) {
            x.counters.exceptions.add();
            if (core_.on_exception)
                core_.on_exception(req, std::current_exception());
            else
                report(req, std::current_exception());
        }
        if (gone_ || res.committed_) return false;
        res.buffers_.fields.clear();
        res.buffers_.body.clear();
        res.buffers_.trailers.clear();
        res.length_.reset();
        res.own_date_ = false;
        res.written_ = 0;
        say(res, 500);
        return true;
    }

    // ---- answers of our own ----

    /// Answers what is no request and ends the connection. Always false.
    bool refuse(exchange& x, int status) {
        x.head.keep_alive = false;
        if (core_.options.write_timeout.count() > 0)
            below().set_write_deadline(
                base::to_time_point(base::deadline_after(core_.options.write_timeout)));
        client_watch nobody(wire_, core_.base);
        response res(wire_, nobody, date_, x.buffers, core_.connections.draining(), x.head, nullptr, *this,
                     &take_stream);
        say(res, status);
        res.finish();
        x.counters.refused.add();
        count(x, res);
        linger_ = true;
        return false;
    }

    static void count(exchange& x, const response& res) noexcept {
        const int kind = res.status() / 100;
        x.counters.responses[kind < 6 ? kind : 0].add();
    }

    // ---- where a request goes ----

    /// CONNECT names no path, and is served by patterns for "/" that name it.
    static std::string_view routing_path(const exchange& x) noexcept {
        return x.head.method == "CONNECT" ? "/" : x.parts.path;
    }
    std::string_view routing_host(exchange& x) const {
        x.host.clear();
        const std::string_view host = x.parts.authority.empty() ? x.head.host : x.parts.authority;
        for (char c : host_without_port(host)) x.host += lower(c);
        return x.host;
    }

    // ---- after a request ----

    /// Whether a further request can be found behind this one's body.
    static bool leaves_usable(const body_reader& b) noexcept {
        return b.ended_ ||
               (!b.error_ && !b.continue_expected_ && (b.chunked_ || b.remaining_ <= most_drained));
    }

    static hijacked take_stream(connection& self) {
        self.gone_ = true;
        self.core_.connections.remove(self);
        hijacked h;
        h.other = self.below().release_other();
        if (!h.other) h.stream = self.below().release();
        (void)h.set_deadline(std::nullopt);
        return h;
    }

    date_cache date_;
    bool gone_ = false; // hijacked
};

/// What the connection's task runs. When a runtime stops before that starts, it is only destroyed.
class connection_task {
  public:
    connection_task(core_user user, std::unique_ptr<connection> c) noexcept
        : user_(std::move(user))
        , connection_(std::move(c)) {}
    void operator()() {
        try {
            connection_->run();
        } catch (const std::exception& e) { // out of memory: this connection ends, the server does not
            std::fprintf(stderr, "http: a connection ends: %s\n", e.what());
        }
    }

  private:
    core_user user_; // outlives the connection
    std::unique_ptr<connection> connection_;
};

} // namespace mpg::http::detail
