// Trace contexts: parsing, propagation by the HTTP server and client, spans.
#include "http_support.hpp"
#include "otel_hook.hpp"

#include <mpg/trace_context.hpp>

#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace {

using mpg::trace_context;
using mpg::trace_sampling;

constexpr const char* trace = "0af7651916cd43dd8448eb211c80319c";
constexpr const char* span_of_it = "b7ad6b7169203331";
constexpr const char* parent = "00f067aa0ba902b7";
std::string both(const char* sep = "-") { return std::string(trace) + sep + span_of_it; }

using fields = std::vector<std::pair<std::string, std::string>>;

struct source : mpg::header_source {
    fields all;
    source(std::initializer_list<std::pair<std::string, std::string>> f) : all(f) {}
    std::vector<std::string_view> values(std::string_view name) const override {
        std::vector<std::string_view> v;
        for (const auto& [n, value] : all)
            if (mpg::http::detail::equal_fold(n, name)) v.push_back(value);
        return v;
    }
};
struct sink : mpg::header_sink {
    std::map<std::string, std::string> all;
    void set(std::string_view name, std::string_view value) override { all.emplace(name, value); }
};
std::map<std::string, std::string> injected(const trace_context& t) {
    sink s;
    mpg::default_propagator().inject(t, s);
    return s.all;
}
std::optional<trace_context> extracted(const source& s) { return mpg::default_propagator().extract(s); }

// ---- W3C ----

TEST(traceparent, is_read) {
    auto t = extracted({{"TraceParent", "00-" + both() + "-01"}, {"tracestate", "a=1,b=2"}, {"tracestate", "c@d=3"}});
    ASSERT_TRUE(t);
    EXPECT_EQ(t->trace.to_string(), trace);
    EXPECT_EQ(t->span.to_string(), span_of_it);
    EXPECT_EQ(t->sampling, trace_sampling::yes);
    EXPECT_TRUE(t->sampled() && t->valid() && t->remote);
    EXPECT_EQ(t->state, "a=1,b=2,c@d=3");
    EXPECT_FALSE(extracted({{"traceparent", "00-" + both() + "-00"}})->sampled());
    EXPECT_TRUE(extracted({{"traceparent", "00-" + both() + "-02"}})->random);
    EXPECT_EQ(extracted({{"traceparent", "00-" + both() + "-ff"}})->sampling, trace_sampling::yes);
    // A later version: what is known of it counts.
    EXPECT_TRUE(extracted({{"traceparent", "01-" + both() + "-01"}}));
    EXPECT_TRUE(extracted({{"traceparent", "cc-" + both() + "-01-what-the-future-brings"}}));
}

TEST(traceparent, bad_ones_are_none) {
    const std::string good = "00-" + both() + "-01";
    std::vector<std::string> bad = {
        "", "00", "-", "---", good + "-", good + "-00", good + "0", good.substr(0, 54), " " + good, good + " ", // lengths
        "ff-" + both() + "-01", "0-" + both() + "-01", "0g-" + both() + "-01", "-0-" + both() + "-01", "0A-" + both() + "-01",
        "01-" + both() + "-01.what", "01-" + both() + "-0", "cc-" + both() + "-01x",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01", "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", "00-0af7651916cd43dd8448eb211c80319c-B7AD6B7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01", "00-0af7651916cd43dd8448eb211c80319cc-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319g-b7ad6b7169203331-01", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333.-01",
        "00_" + both() + "-01", "00-" + both("_") + "-01", "00-" + both() + "_01", "00-" + both() + "-0G", "00-" + both() + "-A0",
        "00-" + both() + "-1", "00-" + both() + "-0x", "00-" + both() + "- 1", "00-" + both() + "-0" + std::string(1, '\0')};
    for (const std::string& b : bad) EXPECT_FALSE(extracted({{"traceparent", b}})) << b;
    // Twice, even the same.
    EXPECT_FALSE(extracted({{"traceparent", good}, {"traceparent", good}}));
    // tracestate alone says nothing.
    EXPECT_FALSE(extracted({{"tracestate", "a=1"}}));
}

TEST(tracestate, is_kept_whole_or_not_at_all) {
    auto state = [](std::string value) {
        auto t = extracted({{"traceparent", "00-" + both() + "-01"}, {"tracestate", std::move(value)}});
        return t ? t->state : "no trace";
    };
    const std::string k256(256, 'k'), v256(256, 'v');
    const std::pair<std::string, std::string> good[] = {
        {"", ""}, {"a=1", "a=1"}, {" a=1 \t,\tb=2 ", "a=1,b=2"}, {",,a=1,,", "a=1"}, {"a= 1", "a= 1"}, {"0a=1", "0a=1"},
        {"t-_*/1@s=x;y:z", "t-_*/1@s=x;y:z"}, {"a=!~", "a=!~"}, {k256 + "=1", k256 + "=1"}, {"k=" + v256, "k=" + v256},
        {"aa=1,a=2", "aa=1,a=2"}};
    for (const auto& [in, out] : good) EXPECT_EQ(state(in), out) << in;
    std::string many, too_many;
    for (int i = 0; i < 33; ++i) {
        if (i < 32) many += (many.empty() ? "k" : ",k") + std::to_string(i) + "=v";
        too_many += (too_many.empty() ? "k" : ",k") + std::to_string(i) + "=v";
    }
    EXPECT_EQ(state(many), many);
    const std::string bad[] = {"a", "=1", "a=", "A=1", "a=1,b", "a=1=2", "a=1,a=2", "a =1", "@a=1", "_a=1", "a=\x7f", "a=\t1\x01",
                               "k" + k256 + "=1", "k=v" + v256, "\xc3\xa4=1", "a=\xc3\xa4", too_many, "a=1;b=2,c"};
    for (const std::string& b : bad) EXPECT_EQ(state(b), "") << b;
    // Long ones go first, then the last ones.
    const std::string v100(100, 'v'), v200(200, 'v');
    EXPECT_EQ(state("a=" + v100 + ",b=" + v200 + ",c=" + v100 + ",d=" + v100 + ",e=" + v100),
              "a=" + v100 + ",c=" + v100 + ",d=" + v100 + ",e=" + v100);
    std::string six, five;
    for (char c : {'a', 'b', 'c', 'd', 'e', 'f'}) {
        const std::string member = std::string(1, c) + "=" + v100;
        six += (six.empty() ? "" : ",") + member;
        if (c < 'e') five += (five.empty() ? "" : ",") + member;
    }
    EXPECT_EQ(state(six), five);
}

// ---- B3 ----

TEST(b3, one_header_is_read) {
    auto t = extracted({{"B3", both() + "-1-" + parent}});
    ASSERT_TRUE(t);
    EXPECT_EQ(t->trace.to_string(), trace);
    EXPECT_EQ(t->span.to_string(), span_of_it);
    EXPECT_EQ(t->parent.to_string(), parent);
    EXPECT_EQ(t->sampling, trace_sampling::yes);
    EXPECT_EQ(extracted({{"b3", both()}})->sampling, trace_sampling::deferred);
    EXPECT_EQ(extracted({{"b3", both() + "-0"}})->sampling, trace_sampling::no);
    EXPECT_EQ(extracted({{"b3", both() + "-d"}})->sampling, trace_sampling::debug);
    EXPECT_EQ(extracted({{"b3", std::string(span_of_it) + "-" + parent}})->trace.to_string(), "0000000000000000b7ad6b7169203331");
    for (auto [text, what] : {std::pair("0", trace_sampling::no), std::pair("1", trace_sampling::yes), std::pair("d", trace_sampling::debug)}) {
        auto only = extracted({{"b3", text}});
        ASSERT_TRUE(only);
        EXPECT_EQ(only->sampling, what);
        EXPECT_FALSE(only->valid());
    }
}

TEST(b3, bad_ones_are_none) {
    const std::string good = both();
    for (const std::string& b : std::vector<std::string>{
             "", "-", "2", "D", "true", trace, good + "-", good + "-2", good + "-true", good + "-11", good + "-1-", good + "-1-" + "1",
             good + "-1-" + parent + "-", good + "-1-" + parent + "-0", good + "--" + parent, good + "-" + parent,
             "-" + good, "00000000000000000000000000000000-b7ad6b7169203331-1", "0000000000000000-b7ad6b7169203331",
             "0af7651916cd43dd8448eb211c80319c-0000000000000000", good + "-1-0000000000000000", "0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331",
             "0af7651916cd43dd8448eb211c8031-b7ad6b7169203331", "0af7651916cd43dd8448eb211c80319cc-b7ad6b7169203331",
             "0af7651916cd43dd8448eb211c80319c-b7ad6b716920333", good + "-1 ", " " + good})
        EXPECT_FALSE(extracted({{"b3", b}})) << b;
    EXPECT_FALSE(extracted({{"b3", good}, {"b3", good}}));
}

TEST(b3, several_headers_are_read) {
    auto t = extracted({{"x-b3-traceid", trace}, {"X-B3-SpanId", span_of_it}, {"X-B3-ParentSpanId", parent}, {"X-B3-Sampled", "1"}});
    ASSERT_TRUE(t);
    EXPECT_EQ(t->trace.to_string(), trace);
    EXPECT_EQ(t->parent.to_string(), parent);
    EXPECT_EQ(t->sampling, trace_sampling::yes);
    auto sampling = [](std::string name, std::string value) {
        return extracted({{"X-B3-TraceId", trace}, {"X-B3-SpanId", span_of_it}, {std::move(name), std::move(value)}})->sampling;
    };
    EXPECT_EQ(sampling("X-B3-Sampled", "0"), trace_sampling::no);
    EXPECT_EQ(sampling("X-B3-Sampled", "true"), trace_sampling::yes);
    EXPECT_EQ(sampling("X-B3-Sampled", "false"), trace_sampling::no);
    EXPECT_EQ(sampling("X-B3-Flags", "1"), trace_sampling::debug);
    EXPECT_EQ(sampling("X-B3-Flags", "0"), trace_sampling::deferred);
    EXPECT_EQ(extracted({{"X-B3-Sampled", "0"}})->sampling, trace_sampling::no);
    const source bad[] = {
        {},
        {{"X-B3-TraceId", trace}},
        {{"X-B3-SpanId", span_of_it}},
        {{"X-B3-ParentSpanId", parent}, {"X-B3-Sampled", "1"}},
        {{"X-B3-TraceId", trace}, {"X-B3-SpanId", ""}},
        {{"X-B3-TraceId", trace}, {"X-B3-SpanId", "0000000000000000"}},
        {{"X-B3-TraceId", "0"}, {"X-B3-SpanId", span_of_it}},
        {{"X-B3-TraceId", trace}, {"X-B3-SpanId", trace}},
        {{"X-B3-TraceId", trace}, {"X-B3-SpanId", span_of_it}, {"X-B3-ParentSpanId", "x"}},
        {{"X-B3-TraceId", trace}, {"X-B3-SpanId", span_of_it}, {"X-B3-Sampled", "d"}},
        {{"X-B3-TraceId", trace}, {"X-B3-SpanId", span_of_it}, {"X-B3-Sampled", "yes"}},
        {{"X-B3-TraceId", trace}, {"X-B3-SpanId", span_of_it}, {"X-B3-Flags", "2"}},
        {{"X-B3-TraceId", trace}, {"X-B3-TraceId", trace}, {"X-B3-SpanId", span_of_it}},
        {{"X-B3-Flags", "0"}},
    };
    for (const source& b : bad) EXPECT_FALSE(extracted(b)) << (b.all.empty() ? "" : b.all.back().first + b.all.back().second);
}

// ---- both ----

TEST(propagators, prefer_in_order_and_write_all) {
    const std::string other = "11111111111111111111111111111111-2222222222222222-0";
    EXPECT_EQ(extracted({{"b3", other}, {"traceparent", "00-" + both() + "-01"}})->trace.to_string(), trace);
    // What is malformed does not count.
    EXPECT_EQ(extracted({{"b3", other}, {"traceparent", "00-" + both() + "-0"}})->trace.to_string(), std::string(32, '1'));
    mpg::w3c_propagator w3c;
    mpg::b3_propagator b3;
    EXPECT_EQ(mpg::composite_propagator({&b3, &w3c}).extract(source{{"b3", other}, {"traceparent", "00-" + both() + "-01"}})->trace.to_string(),
              std::string(32, '1'));

    trace_context t = *extracted({{"b3", both() + "-1-" + parent}});
    t.state = "a=1";
    std::map<std::string, std::string> expected = {{"traceparent", "00-" + both() + "-01"}, {"tracestate", "a=1"},
        {"b3", both() + "-1-" + parent}, {"X-B3-TraceId", trace}, {"X-B3-SpanId", span_of_it},
        {"X-B3-ParentSpanId", parent}, {"X-B3-Sampled", "1"}};
    EXPECT_EQ(injected(t), expected);
    t = *extracted({{"b3", both() + "-d"}});
    expected = {{"traceparent", "00-" + both() + "-01"}, {"b3", both() + "-d"}, {"X-B3-TraceId", trace}, {"X-B3-SpanId", span_of_it}, {"X-B3-Flags", "1"}};
    EXPECT_EQ(injected(t), expected);
    t = *extracted({{"b3", both()}});
    expected = {{"traceparent", "00-" + both() + "-00"}, {"b3", both()}, {"X-B3-TraceId", trace}, {"X-B3-SpanId", span_of_it}};
    EXPECT_EQ(injected(t), expected);
    t = *extracted({{"b3", "0"}});
    expected = {{"b3", "0"}, {"X-B3-Sampled", "0"}};
    EXPECT_EQ(injected(t), expected);
    EXPECT_TRUE(injected({}).empty());
}

TEST(trace_contexts, go_with_contexts) {
    using mpg::context;
    EXPECT_EQ(mpg::trace_of(context::background()), nullptr);
    const context ctx = mpg::with_trace(context::background(), *extracted({{"b3", both()}}));
    const context child = mpg::with_cancel(ctx);
    ASSERT_NE(mpg::trace_of(child), nullptr);
    EXPECT_EQ(mpg::trace_of(child)->trace.to_string(), trace);
}

// ---- HTTP ----

/// What spans were told, in order.
class recorder final : public mpg::span_hook {
  public:
    std::unique_ptr<mpg::span> start(const mpg::span_info& what) override {
        std::lock_guard hold(mutex_);
        const auto n = ++count_;
        trace_context t;
        if (what.parent) t = *what.parent;
        if (!t.trace.valid()) t.trace = *mpg::trace_id::parse(std::string(31, '0') + "7");
        t.span = *mpg::span_id::parse("000000000000000" + std::to_string(n));
        log_.push_back("start " + std::to_string(n) + (what.kind == mpg::span_kind::server ? " server " : " client ") + std::string(what.name) +
                       (what.parent ? " below " + what.parent->span.to_string() : ""));
        return std::make_unique<one>(*this, n, t);
    }
    std::vector<std::string> log() {
        std::lock_guard hold(mutex_);
        return log_;
    }

  private:
    struct one final : mpg::span {
        recorder& of;
        int n;
        trace_context t;
        one(recorder& r, int number, trace_context c) : of(r), n(number), t(std::move(c)) {}
        ~one() override { say("end"); }
        trace_context context() const override { return t; }
        void set_attribute(std::string_view key, std::string_view value) override {
            if (key != "url.full" && key != "server.address") say(std::string(key) + "=" + std::string(value));
        }
        void set_attribute(std::string_view key, std::int64_t value) override { say(std::string(key) + "=" + std::to_string(value)); }
        void set_error(std::string_view what) override { say("error " + std::string(what)); }
        void say(const std::string& what) {
            std::lock_guard hold(of.mutex_);
            of.log_.push_back(std::to_string(n) + " " + what);
        }
    };
    std::mutex mutex_;
    int count_ = 0;                // guarded by mutex_
    std::vector<std::string> log_; // guarded by mutex_
};

std::string seen(mpg::http::request& req) {
    std::string all;
    for (const auto& f : req.headers())
        if (f.name == "traceparent" || f.name == "tracestate" || f.name == "b3" || f.name.substr(0, 5) == "X-B3-")
            ((all += f.name) += ": ") += std::string(f.value) + "\n";
    return all;
}

TEST(http_traces, pass_through_a_server) {
    mpg::test::run_with_procs(2, [] {
        mpg::test::live_server back, front, silent({.trace_propagator = nullptr});
        back->handle("GET /", [](mpg::http::request& req, mpg::http::response& res) { (void)res.write(seen(req)); });
        auto forward = [&back](mpg::http::request& req, mpg::http::response& res) {
            auto answer = mpg::http::fetch({.url = "http://" + back.address().to_string() + "/", .headers = {{"X-Other", "1"}}}, req.ctx());
            if (answer) (void)res.write(answer->body().read_all(10'000).value_or("failed"));
        };
        auto by_hand = [&back](mpg::http::request& req, mpg::http::response& res) {
            auto answer = mpg::http::fetch({.url = "http://" + back.address().to_string() + "/", .headers = {{"B3", "0"}}}, req.ctx());
            if (answer) (void)res.write(answer->body().read_all(10'000).value_or("failed"));
        };
        front->handle("GET /", forward);
        front->handle("GET /by_hand", by_hand);
        silent->handle("GET /", forward);
        back.start();
        front.start();
        silent.start();
        auto peer = front.connect();
        EXPECT_EQ(peer.get("/", "traceparent: 00-" + both() + "-01\r\ntracestate: a=1\r\nTraceState: b=2\r\n").body,
                  "traceparent: 00-" + both() + "-01\ntracestate: a=1,b=2\nb3: " + both() + "-1\nX-B3-TraceId: " + trace +
                      "\nX-B3-SpanId: " + span_of_it + "\nX-B3-Sampled: 1\n");
        // The next request over the same connection has nothing of the one before.
        EXPECT_EQ(peer.get("/").body, "");
        EXPECT_EQ(peer.get("/", "b3: " + both() + "\r\n").body.substr(0, 70), "traceparent: 00-" + both() + "-00\nb");
        EXPECT_EQ(peer.get("/by_hand", "traceparent: 00-" + both() + "-01\r\n").body, "");
        auto other = silent.connect();
        EXPECT_EQ(other.get("/", "traceparent: 00-" + both() + "-01\r\n").body, "");
        for (auto* s : {&back, &front, &silent}) {
            (*s)->close();
            EXPECT_EQ(s->served(), mpg::errc::server_closed);
        }
    });
}

TEST(http_traces, spans_are_told) {
    recorder spans;
    mpg::test::run_with_procs(2, [&] {
        mpg::test::live_server s({.spans = &spans});
        s->handle("GET /a/{x}", [](mpg::http::request& req, mpg::http::response& res) { (void)res.write(seen(req) + mpg::trace_of(req.ctx())->span.to_string()); });
        s->handle("/throws", [](mpg::http::request&, mpg::http::response&) { throw 1; });
        s->on_exception([](const mpg::http::request&, std::exception_ptr) {});
        s.start();
        mpg::http::client_options options;
        options.spans = &spans;
        mpg::http::client client(options);
        const std::string url = "http://" + s.address().to_string();
        {
            auto r = client.get(url + "/a/1?q=2");
            ASSERT_TRUE(r);
            const std::string body = r->body().read_all(10'000).value_or("");
            EXPECT_EQ(body.substr(0, 69), "traceparent: 00-00000000000000000000000000000007-0000000000000001-00\n");
            EXPECT_EQ(body.substr(body.size() - 16), "0000000000000002");
        }
        s->close();
        EXPECT_EQ(s.served(), mpg::errc::server_closed);
        EXPECT_FALSE(client.get(url + "/"));
    });
    auto log = spans.log();
    // Who ends first, client or server, is nobody's promise.
    std::erase(log, "2 end");
    std::erase(log, "2 http.response.status_code=200");
    const std::vector<std::string> expected = {
        "start 1 client GET", "1 http.request.method=GET", "start 2 server GET /a/{x} below 0000000000000001",
        "2 http.request.method=GET", "2 url.scheme=http", "2 url.path=/a/1", "2 http.route=/a/{x}", "1 http.response.status_code=200",
        "1 end", "start 3 client GET", "3 http.request.method=GET", "3 error Connection refused", "3 end"};
    EXPECT_EQ(log, expected);
    EXPECT_EQ(spans.log().size(), expected.size() + 2);
}

TEST(http_traces, failures_and_odd_methods_are_told) {
    recorder spans;
    mpg::test::run_with_procs(2, [&] {
        mpg::test::live_server s({.spans = &spans});
        s->handle("/throws", [](mpg::http::request&, mpg::http::response&) { throw 1; });
        s->on_exception([](const mpg::http::request&, std::exception_ptr) {});
        s.start();
        auto peer = s.connect();
        EXPECT_EQ(peer.get("/throws", "b3: 0\r\n").status, 500);
        ASSERT_TRUE(peer.send("BREW /pot HTTP/1.1\r\nHost: t\r\n\r\n"));
        EXPECT_EQ(peer.read().status, 404);
        peer.close();
        s->close();
        EXPECT_EQ(s.served(), mpg::errc::server_closed);
    });
    const std::vector<std::string> expected = {
        "start 1 server GET /throws below 0000000000000000", "1 http.request.method=GET", "1 url.scheme=http", "1 url.path=/throws",
        "1 http.route=/throws", "1 http.response.status_code=500", "1 error 500", "1 end",
        "start 2 server HTTP", "2 http.request.method=_OTHER", "2 http.request.method_original=BREW", "2 url.scheme=http", "2 url.path=/pot",
        "2 http.response.status_code=404", "2 end"};
    EXPECT_EQ(spans.log(), expected);
}

// ---- OpenTelemetry ----

TEST(opentelemetry_hook, hands_ids_on_both_ways) {
    auto tracer = std::make_shared<otel::trace::Tracer>();
    otel_hook hook(tracer);
    {
        mpg::context ctx = mpg::with_trace(mpg::context::background(), *extracted({{"traceparent", "00-" + both() + "-03"}, {"tracestate", "a=1"}}));
        auto outer = mpg::start_span(hook, ctx, "outer", mpg::span_kind::consumer);
        ASSERT_TRUE(outer);
        const mpg::trace_context* now = mpg::trace_of(ctx);
        EXPECT_EQ(now->trace.to_string(), trace);
        EXPECT_EQ(now->span.to_string(), "0000000000000001");
        EXPECT_TRUE(now->sampled() && now->random && !now->remote);
        EXPECT_EQ(now->state, "a=1");
        auto inner = mpg::start_span(hook, ctx, "inner");
        inner->set_attribute("words", std::string_view("some"));
        inner->set_attribute("number", std::int64_t{-7});
        inner->set_error("bad luck");
    }
    mpg::context none = mpg::context::background();
    auto root = mpg::start_span(hook, none, "root");
    EXPECT_EQ(mpg::trace_of(none)->trace.to_string(), "00000000000000000000000000000007");
    EXPECT_FALSE(span_context_of(*extracted({{"b3", both() + "-0"}})).trace_flags().IsSampled());
    const std::vector<std::string> expected = {"start outer kind 4 below a remote one", "start inner kind 0 below one", "words=some", "number=-7",
                                               "error bad luck", "end", "end", "start root kind 0 root"};
    EXPECT_EQ(tracer->log->lines, expected);
}

TEST(opentelemetry_hook, is_what_the_page_shows) {
    auto text = [](const char* file) {
        std::ifstream f(std::string(MPG_SOURCE_DIR "/") + file);
        return std::string(std::istreambuf_iterator<char>(f), {});
    };
    const std::string hook = text("tests/otel_hook.hpp"), begin = "#include <mpg/trace_context.hpp>";
    const std::size_t from = hook.find(begin);
    ASSERT_NE(from, std::string::npos);
    EXPECT_NE(text("docs/observability.md").find("```cpp\n" + hook.substr(from) + "```\n"), std::string::npos);
}

} // namespace
