// debug::handlers: what the pages give, as the real tools read them.
// ctest: lines
// ctest: needs:go golang-go
// ctest: needs:promtool prometheus
// ctest: needs:dot graphviz
#include "http_support.hpp"
#include "shell.hpp"

#include <mpg/debug.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

MPG_PROFILE_HEAP

namespace {

using mpg::test::shell;
using namespace std::chrono_literals;

struct folder {
    std::filesystem::path path;
    folder() {
        char name[] = "/tmp/mpg_debug_XXXXXX";
        path = ::mkdtemp(name);
    }
    ~folder() { std::filesystem::remove_all(path); }
    std::string keep(const char* name, const std::string& data) const {
        std::ofstream(path / name, std::ios::binary) << data;
        return path / name;
    }
};
std::string pprof(const std::string& arguments, int& rc) {
    return mpg::blocking([&] { return shell("PPROF_TMPDIR=/tmp go tool pprof " + arguments, &rc); });
}

/// What the web interface of pprof (-http) shows of a profile: pages as "top", "flamegraph", "" (the graph).
std::string pprof_web(const std::string& file, std::initializer_list<const char*> pages) {
    std::string out;
    for (int attempt = 0; attempt < 5; ++attempt) { // somebody else may take the port in between
        auto free_port = mpg::net::tcp_listener::bind("127.0.0.1:0");
        if (!free_port) return "no port";
        const std::string at = free_port->local_endpoint().to_string();
        free_port->close();
        // pprof itself, not by way of `go tool`, so that it is what is killed.
        std::string script = "PPROF_TMPDIR=/tmp $(go tool -n pprof) -no_browser -http=" + at + " " + file + " >/dev/null 2>&1 & web=$!\n";
        script += "until curl -sf -o /dev/null http://" + at + "/ui/top; do kill -0 $web || exit 1; sleep 0.05; done\n";
        for (const char* page : pages) script += std::string("curl -sf http://") + at + "/ui/" + page + " || exit 2\n";
        script += "kill $web || exit 3; wait $web || true\n";
        int rc = -1;
        out = mpg::blocking([&] { return shell(script, &rc); });
        if (rc == 0) return out;
    }
    return "failed: " + out;
}

[[gnu::noinline]] void parked_here(mpg::chan<void>& c) {
    (void)c.recv();
    asm volatile("");
}
[[gnu::noinline]] void parked_there(mpg::chan<void>& c) {
    (void)c.recv();
    asm volatile("nop"); // so that it is another function than parked_here
}
/// A task that waits on a channel that nobody else knows.
[[gnu::noinline]] void loses_a_channel() {
    mpg::chan<int> c;
    mpg::go([c] { (void)c.recv(); });
    asm volatile("");
}
[[gnu::noinline]] double burns(const std::atomic<bool>& enough) {
    double x = 1;
    while (!enough.load(std::memory_order_relaxed))
        for (int i = 0; i < 1000; ++i) x += std::sqrt(x);
    return x;
}

/// By each form of operator new, 1000 bytes each.
[[gnu::noinline]] void allocates_each_way(std::array<void*, 8>& all) {
    constexpr std::align_val_t line{64};
    all = {::operator new(1000),
           ::operator new(1000, line),
           ::operator new(1000, std::nothrow),
           ::operator new(1000, line, std::nothrow),
           ::operator new[](1000),
           ::operator new[](1000, line),
           ::operator new[](1000, std::nothrow),
           ::operator new[](1000, line, std::nothrow)};
    asm volatile("");
}
void frees_each_way(const std::array<void*, 8>& all) {
    constexpr std::align_val_t line{64};
    ::operator delete(all[0], std::size_t{1000});
    ::operator delete(all[1], std::size_t{1000}, line);
    ::operator delete(all[2], std::nothrow);
    ::operator delete(all[3], line, std::nothrow);
    ::operator delete[](all[4], std::size_t{1000});
    ::operator delete[](all[5], std::size_t{1000}, line);
    ::operator delete[](all[6], std::nothrow);
    ::operator delete[](all[7], line, std::nothrow);
}
[[gnu::noinline]] std::unique_ptr<char[]> allocates_64_kilobytes() {
    std::unique_ptr<char[]> p(new char[64'000]);
    asm volatile("");
    return p;
}
[[gnu::noinline]] std::unique_ptr<long> allocates_a_little() {
    std::unique_ptr<long> p(new long(7));
    asm volatile("");
    return p;
}
/// alloc_objects, alloc_space, inuse_objects, inuse_space of what a function of that name has allocated.
std::array<std::int64_t, 4> heap_of(const char* function) {
    std::array<std::int64_t, 4> sum{};
    auto* from = mpg::debug::detail::heap_profiler::get();
    if (!from) return sum;
    const mpg::debug::profile p = mpg::debug::detail::heap_profile(*from);
    (void)mpg::debug::detail::with_symbols([&](mpg::debug::detail::symbolizer& symbols) {
        for (const auto& s : p.samples) {
            if (s.stack.empty() || symbols.at(s.stack.front()).back().function.find(function) == std::string::npos) continue;
            for (std::size_t i = 0; i < 4; ++i) sum[i] += s.values[i];
        }
        return std::string();
    });
    return sum;
}
/// How often a profile of contention has a stack with functions of both names.
std::int64_t contentions_of(mpg::debug::detail::contention_profiler::kind k, const char* leaf, const char* caller) {
    std::int64_t n = 0;
    const mpg::debug::profile p = mpg::debug::detail::contention_profile(k);
    (void)mpg::debug::detail::with_symbols([&](mpg::debug::detail::symbolizer& symbols) {
        for (const auto& s : p.samples) {
            std::string names;
            for (auto pc : s.stack)
                for (const auto& frame : symbols.at(pc)) names += frame.function + "\n";
            if (names.find(leaf) != std::string::npos && names.find(caller) != std::string::npos) n += s.values[0];
        }
        return std::string();
    });
    return n;
}
/// Sanitizers have an operator new of their own.
constexpr bool heap_is_profiled = !mpg::base::asan && !mpg::base::tsan;
/// Samples every block for as long as it lives; of threads that begin in that time at once.
struct every_block {
    const std::int64_t before = mpg::debug::set_heap_profile_rate(1);
    ~every_block() { EXPECT_EQ(mpg::debug::set_heap_profile_rate(before), heap_is_profiled ? 1 : 0); }
};

TEST(heap_profile, counts_every_form_of_new_and_delete) {
    using four = std::array<std::int64_t, 4>;
    every_block on;
    EXPECT_EQ(on.before, heap_is_profiled ? 512 << 10 : 0);
    if (!heap_is_profiled) return;
    const four old = heap_of("allocates_each_way("); // when the test is repeated
    auto now = [&] {
        four n = heap_of("allocates_each_way(");
        for (std::size_t i = 0; i < n.size(); ++i) n[i] -= old[i];
        return n;
    };
    std::thread([&] {
        std::array<void*, 8> first, second;
        allocates_each_way(first);
        EXPECT_EQ(now(), (four{8, 8000, 8, 8000}));
        for (void* p : first) EXPECT_EQ(reinterpret_cast<std::uintptr_t>(p) % 64, 0u);
        allocates_each_way(second);
        frees_each_way(first);
        EXPECT_EQ(now(), (four{16, 16000, 8, 8000}));
        frees_each_way(second);
        EXPECT_THROW((void)::operator new(std::size_t{1} << 60), std::bad_alloc);
        EXPECT_EQ(::operator new[](std::size_t{1} << 60, std::nothrow), nullptr);
        void *none = ::operator new(0), *too = ::operator new(0);
        EXPECT_NE(none, too);
        ::operator delete(none);
        ::operator delete(too);
        ::operator delete(nullptr);
    }).join();
    EXPECT_EQ(now(), (four{16, 16000, 0, 0}));
}

struct heap_profiles : mpg::test::with_procs {};
MPG_TEST_PROCS(heap_profiles);

// Blocks are freed by another task than the one that took them.
TEST_P(heap_profiles, what_is_freed_elsewhere_is_no_longer_in_use) {
    every_block on;
    const auto before = heap_of("allocates_a_little(");
    run([] {
        mpg::chan<std::unique_ptr<long>> c(16);
        mpg::wait_group g;
        std::atomic<int> makers{8};
        for (int i = 0; i < 8; ++i) {
            g.go([&] {
                for (int k = 0; k < 2000; ++k) c.send(allocates_a_little());
                if (--makers == 0) c.close();
            });
            g.go([&] {
                while (auto p = c.recv()) EXPECT_EQ(**p, 7);
            });
        }
        g.wait();
    });
    const auto after = heap_of("allocates_a_little(");
    EXPECT_EQ(after[0] > before[0], heap_is_profiled);
    EXPECT_EQ(after[2], 0);
    EXPECT_EQ(after[3], 0);
}

/// An element that may throw when it is moved.
struct careful {
    int n = 0;
    careful() = default;
    explicit careful(int v) : n(v) {}
    careful(careful&& o) noexcept(false) : n(o.n) {}
    careful& operator=(careful&& o) noexcept(false) {
        n = o.n;
        return *this;
    }
};
struct named_channels : mpg::test::with_procs {
    /// Sends 4 * 500 values in each way that there is, by 4 tasks, half of them to tasks that receive in each way.
    template <class T> void passes(std::size_t capacity) {
        mpg::chan<T> c(capacity);
        mpg::debug::named_channel name("counted", c);
        mpg::wait_group g, senders;
        for (int task = 0; task < 4; ++task) {
            senders.add(1);
            g.go([&, task] {
                for (int i = 0; i < 500; ++i) {
                    T v(i);
                    switch ((i + task) % 5) {
                    case 0: c.send(std::move(v)); break;
                    case 1:
                        while (c.try_send(v) != mpg::chan_status::ok) mpg::yield();
                        break;
                    case 2: EXPECT_EQ(c.send_for(v, 1h), mpg::chan_status::ok); break;
                    case 3: EXPECT_EQ(c.send(mpg::context::background(), v), mpg::chan_status::ok); break;
                    default: mpg::select(mpg::on_send(c, std::move(v))); break;
                    }
                }
                senders.done();
            });
            g.go([&, task] {
                for (int i = task;; ++i) {
                    T v(-1);
                    bool open = true;
                    if (i % 3 == 0)
                        mpg::select(mpg::on_recv(c, [&](std::optional<T> got) { open = got.has_value(); }));
                    else if (i % 3 == 1)
                        open = c.recv().has_value();
                    else
                        open = c.recv_for(v, 1h) == mpg::chan_status::ok;
                    if (!open) break;
                }
            });
        }
        senders.wait();
        c.close();
        g.wait();
        EXPECT_NE(mpg::debug::metrics().find("\nmpg_channel_accepted_total{name=\"counted\"} 2000\n"), std::string::npos) << mpg::debug::metrics();
    }
};
MPG_TEST_PROCS(named_channels);

TEST_P(named_channels, count_what_goes_in) {
    run([this] {
        for (std::size_t capacity : {std::size_t{0}, std::size_t{1}, std::size_t{64}}) {
            passes<int>(capacity);
            passes<careful>(capacity);
        }
        // What does not go in is not counted; a nil channel has none.
        mpg::chan<void> full(1);
        mpg::debug::named_channel name("full", full), nil("nil", mpg::chan<int>(nullptr));
        EXPECT_EQ(full.try_send(), mpg::chan_status::ok);
        EXPECT_EQ(full.try_send(), mpg::chan_status::full);
        mpg::select(mpg::on_send(full), mpg::otherwise());
        full.close();
        EXPECT_THROW(full.send(), mpg::channel_closed);
        const std::string text = mpg::debug::metrics();
        EXPECT_NE(text.find("\nmpg_channel_accepted_total{name=\"full\"} 1\n"), std::string::npos) << text;
        EXPECT_NE(text.find("\nmpg_channel_accepted_total{name=\"nil\"} 0\n"), std::string::npos) << text;
        EXPECT_EQ(text.find("mpg_channel_dropped_total"), std::string::npos) << text;
    });
}

struct debug_pages : ::testing::Test {
    // A server with the pages, and some tasks to look at. f(http_peer&), or f(http_peer&, live_server&).
    template <class F> void with_server(F f) {
        mpg::test::run_with_procs(4, [&] {
            mpg::test::live_server server;
            mpg::debug::handlers(*server.operator->());
            server.start();
            mpg::chan<void> never;
            mpg::wait_group g;
            for (int i = 0; i < 7; ++i) g.go([&] { parked_here(never); });
            auto peer = server.connect();
            if constexpr (std::is_invocable_v<F, mpg::test::http_peer&>)
                f(peer);
            else
                f(peer, server);
            never.close();
            g.wait();
            peer.close();
            server->close();
            EXPECT_EQ(server.served(), mpg::errc::server_closed);
        });
    }
    folder dir;
};

TEST_F(debug_pages, goroutine_profile_opens_in_pprof) {
    with_server([&](mpg::test::http_peer& peer) {
        mpg::test::reply r;
        std::string file, top;
        int rc = -1;
        // The tasks need not all have come to their wait yet.
        EXPECT_TRUE(mpg::test::eventually([&] {
            r = peer.get("/debug/pprof/goroutine?debug=1");
            return r.body.find("7 @ 0x") != std::string::npos;
        })) << r.body;
        EXPECT_EQ(r.body.find("goroutine profile: total "), 0u) << r.body;
        EXPECT_NE(r.body.find("parked_here("), std::string::npos) << r.body;

        r = peer.get("/debug/pprof/goroutine");
        ASSERT_EQ(r.status, 200);
        EXPECT_EQ(r.field("Content-Type"), "application/octet-stream");
        ASSERT_GE(r.body.size(), 2u);
        EXPECT_EQ(r.body.substr(0, 2), "\x1f\x8b");
        file = dir.keep("goroutine.pb.gz", r.body);
        top = pprof("-top -cum " + file, rc);
        EXPECT_EQ(rc, 0) << top;
        EXPECT_NE(top.find("Type: goroutine"), std::string::npos) << top;
        EXPECT_NE(top.find("parked_here"), std::string::npos) << top;
        std::string traces = pprof("-traces " + file, rc);
        EXPECT_EQ(rc, 0) << traces;
        EXPECT_NE(traces.find("         7   "), std::string::npos) << traces;
        std::string raw = pprof("-raw " + file, rc);
        EXPECT_EQ(rc, 0) << raw;
        EXPECT_NE(raw.find("PeriodType: goroutine count"), std::string::npos) << raw;
        EXPECT_NE(raw.find("debug_http_test"), std::string::npos) << raw;
    });
}

TEST_F(debug_pages, trace_opens_in_go_tool_trace) {
    with_server([&](mpg::test::http_peer& peer) {
        std::atomic<bool> enough{false};
        mpg::wait_group g;
        mpg::chan<int> c;
        g.go([&] {
            while (!enough) {
                c.send(1);
                mpg::sleep_for(1ms);
            }
            c.close();
        });
        g.go([&] {
            for (int v : c) (void)v;
        });
        mpg::test::reply r = peer.get("/debug/pprof/trace?seconds=0.1");
        ASSERT_EQ(r.status, 200);
        EXPECT_EQ(r.field("Content-Type"), "application/octet-stream");
        EXPECT_EQ(r.field("Content-Disposition"), "attachment; filename=\"trace\"");
        const std::string file = dir.keep("trace", r.body);
        int rc = -1;
        const std::string events = mpg::blocking([&] { return shell("go tool trace -d " + file, &rc); });
        EXPECT_EQ(rc, 0) << events;
        EXPECT_NE(events.find(" GoBlockRecv "), std::string::npos) << events;
        EXPECT_NE(events.find(" GoSleep "), std::string::npos) << events;
        // Its pages check more than the parser does.
        std::string pages;
        for (int attempt = 0; attempt < 5; ++attempt) { // somebody else may take the port in between
            auto free_port = mpg::net::tcp_listener::bind("127.0.0.1:0");
            ASSERT_TRUE(free_port);
            const std::string at = free_port->local_endpoint().to_string();
            free_port->close();
            std::string script = "BROWSER=true $(go tool -n trace) -http=" + at + " " + file + " >/dev/null 2>&1 & web=$!\n";
            script += "until curl -sf -o /dev/null http://" + at + "/; do kill -0 $web || exit 1; sleep 0.05; done\n";
            for (const char* page : {"jsontrace", "goroutines", "io?raw=1", "sched?raw=1"})
                script += std::string("curl -sf 'http://") + at + "/" + page + "' || exit 2\n";
            script += "kill $web || exit 3; wait $web || true\n";
            pages = mpg::blocking([&] { return shell(script, &rc); });
            if (rc == 0) break;
        }
        EXPECT_EQ(rc, 0) << pages;
        // A lambda's place if it was inlined, else its function.
        EXPECT_TRUE(pages.find("debug_http_test.cpp:") != std::string::npos || pages.find("trace_opens_in_go_tool_trace") != std::string::npos)
            << pages.substr(0, 10'000);
        EXPECT_NE(pages.find("\"displayTimeUnit\""), std::string::npos) << pages.substr(0, 10'000);

        r = peer.get("/debug/pprof/trace?seconds=0.01&format=json");
        EXPECT_EQ(r.field("Content-Type"), "application/json");
        EXPECT_EQ(r.body.find("{\"traceEvents\":["), 0u) << r.body.substr(0, 100);
        r = peer.get("/debug/pprof/trace?seconds=0.01", "Accept: application/json\r\n");
        EXPECT_EQ(r.field("Content-Type"), "application/json");
        r = peer.get("/debug/pprof/trace?seconds=0.01&format=pdf");
        EXPECT_EQ(r.status, 400);
        // A recorder that is on says what it has, at once.
        mpg::debug::start_trace();
        r = peer.get("/debug/pprof/trace");
        EXPECT_EQ(r.body.substr(0, 13), "go 1.19 trace");
        EXPECT_TRUE(mpg::debug::tracing());
        mpg::debug::stop_trace();
        enough = true;
        g.wait();
    });
}

TEST_F(debug_pages, text_forms_are_gos) {
    with_server([&](mpg::test::http_peer& peer) {
        mpg::test::reply r;
        EXPECT_TRUE(mpg::test::eventually([&] {
            r = peer.get("/debug/pprof/goroutine?debug=2");
            std::size_t n = 0;
            for (std::size_t at = 0; (at = r.body.find("[chan receive]:\n", at)) != std::string::npos; ++at) ++n;
            return n >= 7;
        })) << r.body;
        EXPECT_EQ(r.body.find("goroutine "), 0u);
        EXPECT_NE(r.body.find("created by "), std::string::npos);
        int rc = -1;
        std::string file = dir.keep("goroutine.txt", peer.get("/debug/pprof/goroutine?debug=1").body);
        std::string top = pprof("-top -cum -symbolize=none " + file, rc);
        EXPECT_EQ(rc, 0) << top;
    });
}

TEST_F(debug_pages, cpu_profile_shows_who_burns) {
    with_server([&](mpg::test::http_peer& peer) {
        std::atomic<bool> enough{false};
        auto hog = mpg::spawn([&] { return burns(enough); });
        mpg::test::reply r = peer.get("/debug/pprof/profile?seconds=2");
        enough = true;
        EXPECT_GT(hog.join(), 0);
        ASSERT_EQ(r.status, 200) << r.body;
        std::string file = dir.keep("cpu.pb.gz", r.body);
        int rc = -1;
        std::string top = pprof("-top -nodecount=5 " + file, rc);
        EXPECT_EQ(rc, 0) << top;
        EXPECT_NE(top.find("Type: cpu"), std::string::npos) << top;
        EXPECT_NE(top.find("burns"), std::string::npos) << top;
        std::string peek = pprof("-peek burns " + file, rc);
        EXPECT_EQ(rc, 0) << peek;
        EXPECT_NE(peek.find("run_task"), std::string::npos) << peek;
    });
}

[[gnu::noinline]] void waits_here(mpg::chan<int>& c) {
    (void)c.recv();
    asm volatile("");
}
/// Until n tasks wait for that.
void await_waiting(mpg::sched::wait_reason why, std::ptrdiff_t n) {
    EXPECT_TRUE(mpg::test::eventually([&] {
        const mpg::debug::snapshot shot = mpg::debug::take_snapshot();
        return std::count_if(shot.tasks.begin(), shot.tasks.end(), [&](const auto& t) {
                   return t.state == mpg::sched::task_state::waiting && t.reason == why;
               }) >= n;
    }));
}
[[gnu::noinline]] void holds_here(mpg::mutex& m) {
    m.unlock();
    asm volatile("");
}
[[gnu::noinline]] void wants_it(mpg::mutex& m) {
    m.lock();
    m.unlock();
    asm volatile("");
}
/// Waits and contention of known shape; n of each. others: tasks that wait to receive anyway.
void contend(int n, std::ptrdiff_t others) {
    mpg::chan<int> c;
    mpg::mutex m;
    for (int i = 0; i < n; ++i) {
        mpg::wait_group g;
        g.go([&] { waits_here(c); });
        m.lock();
        g.go([&] { wants_it(m); });
        await_waiting(mpg::sched::wait_reason::mutex, 1);
        await_waiting(mpg::sched::wait_reason::chan_recv, others + 1);
        holds_here(m);
        c.send(1);
        g.wait();
    }
}

TEST_F(debug_pages, block_and_mutex_profiles_open_in_pprof) {
    with_server([&](mpg::test::http_peer& peer) {
        contend(1, 7); // off: not seen
        // What others of this process have left.
        using mpg::debug::detail::contention_profiler;
        const std::int64_t before[] = {contentions_of(contention_profiler::block, "waits_here", ""),
                                       contentions_of(contention_profiler::mutex, "holds_here", "block_and_mutex_profiles")};
        mpg::debug::set_block_profile_rate(1);
        EXPECT_EQ(mpg::debug::set_mutex_profile_fraction(1), 0);
        contend(10, 7);
        mpg::debug::set_block_profile_rate(0);
        EXPECT_EQ(mpg::debug::set_mutex_profile_fraction(-1), 1);
        EXPECT_EQ(mpg::debug::set_mutex_profile_fraction(0), 1);
        contend(1, 7); // off again

        struct {
            const char *page, *leaf, *not_there;
        } const pages[] = {{"block", "waits_here", "holds_here"}, {"mutex", "holds_here", "waits_here"}};
        for (const auto& [page, leaf, not_there] : pages) {
            mpg::test::reply r = peer.get(std::string("/debug/pprof/") + page);
            ASSERT_EQ(r.status, 200);
            const std::string file = dir.keep(page, r.body);
            int rc = -1;
            std::string raw = pprof("-raw " + file, rc);
            EXPECT_EQ(rc, 0) << raw;
            EXPECT_NE(raw.find("contentions/count delay/nanoseconds"), std::string::npos) << raw;
            std::string top = pprof("-top -cum -unit=ms " + file, rc);
            EXPECT_EQ(rc, 0) << top;
            EXPECT_NE(top.find("Type: delay"), std::string::npos) << top;
            EXPECT_NE(top.find(leaf), std::string::npos) << top;
            EXPECT_EQ(top.find("mpg::debug::"), std::string::npos) << top; // our own frames are not shown
            std::string times = pprof("-traces -sample_index=contentions -focus=" + std::string(leaf) + " " + file, rc);
            EXPECT_EQ(rc, 0) << times;
            const std::string n = std::to_string(before[page == std::string("mutex")] + 10);
            EXPECT_NE(times.find(std::string(10 - n.size(), ' ') + n + "   "), std::string::npos) << times;
            std::string svg = pprof("-svg -output=" + file + ".svg " + file, rc);
            EXPECT_EQ(rc, 0) << svg;
            std::ifstream in(file + ".svg");
            const std::string image{std::istreambuf_iterator<char>(in), {}};
            EXPECT_NE(image.find("<svg"), std::string::npos);
            EXPECT_NE(image.find(leaf), std::string::npos);
            EXPECT_EQ(image.find(not_there), std::string::npos);

            // The text form, which pprof reads too.
            r = peer.get(std::string("/debug/pprof/") + page + "?debug=1");
            const std::string head = page == std::string("block") ? "--- contention:\ncycles/second=1000000000\n" : "--- mutex:\ncycles/second=1000000000\n";
            EXPECT_EQ(r.body.find(head), 0u) << r.body;
            EXPECT_NE(r.body.find(" " + n + " @ 0x"), std::string::npos) << r.body;
            top = pprof("-raw " + dir.keep("text", r.body), rc);
            EXPECT_EQ(rc, 0) << top;
        }
    });
}

TEST_F(debug_pages, every_profile_opens_in_the_web_interface_of_pprof) {
    with_server([&](mpg::test::http_peer& peer) {
        mpg::debug::set_block_profile_rate(1);
        (void)mpg::debug::set_mutex_profile_fraction(1);
        contend(2, 7);
        mpg::debug::set_block_profile_rate(0);
        (void)mpg::debug::set_mutex_profile_fraction(0);
        std::vector<std::unique_ptr<char[]>> kept;
        for (int i = 0; i < 500; ++i) kept.push_back(allocates_64_kilobytes());
        std::atomic<bool> enough{false};
        mpg::wait_group burner;
        burner.go([&] { EXPECT_GT(burns(enough), 0); });
        const std::pair<const char*, const char*> pages[] = {{"goroutine", "parked_here"},        {"threadcreate", "threadcreate"},
                                                             {"block", "waits_here"},             {"mutex", "holds_here"},
                                                             {"heap", "allocates_64_kilobytes"},  {"allocs", "allocates_64_kilobytes"},
                                                             {"profile?seconds=1", "burns"}};
        for (const auto& [page, function] : pages) {
            if (*function == 'a' && !heap_is_profiled) continue;
            std::string file;
            int rc = -1;
            // On a busy machine nobody may have computed for that second.
            ASSERT_TRUE(mpg::test::eventually([&] {
                const mpg::test::reply r = peer.get(std::string("/debug/pprof/") + page);
                file = dir.keep("web.pb.gz", r.body);
                return r.status != 200 || pprof("-raw " + file, rc).find(function) != std::string::npos;
            })) << page;
            const std::string web = pprof_web(file, {"", "top", "flamegraph"});
            EXPECT_NE(web.find("<svg"), std::string::npos) << page << web;
            EXPECT_NE(web.find("makeTopTable"), std::string::npos) << page << web;
            EXPECT_NE(web.find("flamegraph"), std::string::npos) << page << web;
            if (std::string_view(page) != function) {
                EXPECT_NE(web.find(function), std::string::npos) << page << web;
            }
        }
        enough = true;
        burner.wait();
    });
}

TEST_F(debug_pages, heap_profile_opens_in_pprof) {
    with_server([&](mpg::test::http_peer& peer) {
        if (!heap_is_profiled) {
            EXPECT_EQ(peer.get("/debug/pprof/heap").status, 404);
            return;
        }
        // 64 MB in use and as much that no longer is. 120 samples each are expected: never below half, nor above twice that.
        std::vector<std::unique_ptr<char[]>> kept;
        for (int i = 0; i < 2000; ++i) {
            kept.push_back(allocates_64_kilobytes());
            if (i % 2 != 0) kept.pop_back();
        }
        const auto of = heap_of("allocates_64_kilobytes(");
        EXPECT_TRUE(of[1] > 64'000'000 && of[1] < 256'000'000) << of[1];
        EXPECT_TRUE(of[3] > 32'000'000 && of[3] < 128'000'000) << of[3];
        EXPECT_NEAR(static_cast<double>(of[0]), static_cast<double>(of[1]) / 64'000, 1);
        EXPECT_NEAR(static_cast<double>(of[2]), static_cast<double>(of[3]) / 64'000, 1);
        for (const auto& [page, usual, most] : {std::tuple("heap", "inuse_space", of[3]), std::tuple("allocs", "alloc_space", of[1])}) {
            mpg::test::reply r = peer.get(std::string("/debug/pprof/") + page);
            ASSERT_EQ(r.status, 200);
            EXPECT_NE(r.field("Content-Disposition").find(page), std::string::npos);
            const std::string file = dir.keep(page, r.body);
            int rc = -1;
            const std::string top = pprof("-top -unit=B " + file, rc);
            EXPECT_EQ(rc, 0) << top;
            EXPECT_NE(top.find(std::string("Type: ") + usual), std::string::npos) << top;
            // It is the first, and the library's own functions do not stand below it.
            const std::size_t at = top.find("sum%        cum   cum%\n");
            ASSERT_NE(at, std::string::npos) << top;
            const std::string first = top.substr(at + 24, top.find('\n', at + 24) - at - 24);
            EXPECT_NE(first.find(std::to_string(most) + "B"), std::string::npos) << top;
            EXPECT_NE(first.find("allocates_64_kilobytes"), std::string::npos) << top;
            for (const char* all : {"alloc_objects", "alloc_space", "inuse_objects", "inuse_space"}) {
                const std::string other = pprof(std::string("-top -sample_index=") + all + " " + file, rc);
                EXPECT_EQ(rc, 0) << other;
                EXPECT_NE(other.find("allocates_64_kilobytes"), std::string::npos) << other;
            }
            const std::string picture = pprof("-svg " + file, rc);
            EXPECT_EQ(rc, 0) << picture;

            r = peer.get(std::string("/debug/pprof/") + page + "?debug=1");
            EXPECT_EQ(r.body.find("heap profile: "), 0u) << r.body;
            EXPECT_NE(r.body.find(" @ heapprofile\n"), std::string::npos) << r.body;
            const std::string text = pprof("-top -unit=B -symbolize=none " + dir.keep("text", r.body), rc);
            EXPECT_EQ(rc, 0) << text;
            const std::string total = r.body.substr(0, r.body.find(" ["));
            EXPECT_NE(text.find("for " + total.substr(total.rfind(' ') + 1) + "B, 100%"), std::string::npos) << text; // not scaled
        }
    });
}

TEST_F(debug_pages, what_changes_within_seconds_opens_in_pprof) {
    with_server([&](mpg::test::http_peer&, mpg::test::live_server& server) {
        struct {
            const char *page, *type, *wanted; // of pprof -raw
            const char* not_there = "parked_here";
            mpg::test::reply got{};
        } pages[] = {{"goroutine", "goroutine/count", "parked_there"},
                     {"threadcreate", "threadcreate/count", "threadcreate"},
                     {"block", "contentions/count delay/nanoseconds", "waits_here", "holds_here"},
                     {"mutex", "contentions/count delay/nanoseconds", "holds_here", "waits_here"},
                     {"heap", "inuse_space/bytes", heap_is_profiled ? "allocates_64_kilobytes" : ""},
                     {"allocs", "alloc_space/bytes", heap_is_profiled ? "allocates_64_kilobytes" : ""}};
        mpg::debug::set_block_profile_rate(1);
        (void)mpg::debug::set_mutex_profile_fraction(1);
        contend(3, 7); // before: not seen
        // Once more if all that happens here has taken longer than the pages look.
        for (bool late = true; late;) {
            std::atomic<int> answered{0}, asked{0};
            mpg::chan<void> never, asks;
            mpg::wait_group askers, parked;
            for (auto& p : pages) {
                if (!*p.wanted) continue;
                ++asked;
                askers.go([&] {
                    auto peer = server.connect();
                    p.got = peer.get(std::string("/debug/pprof/") + p.page + "?seconds=2");
                    ++answered;
                    peer.close();
                });
            }
            await_waiting(mpg::sched::wait_reason::chan_recv, 7 + asked);
            for (int i = 0; i < 5; ++i) parked.go([&] { parked_there(never); });
            contend(2, 7 + asked + 5);
            std::vector<std::unique_ptr<char[]>> kept;
            for (int i = 0; i < 1000; ++i) kept.push_back(allocates_64_kilobytes());
            late = answered > 0;
            askers.wait();
            never.close();
            parked.wait();
        }
        mpg::debug::set_block_profile_rate(0);
        (void)mpg::debug::set_mutex_profile_fraction(0);
        for (const auto& p : pages) {
            if (!*p.wanted) continue;
            ASSERT_EQ(p.got.status, 200) << p.page << p.got.body;
            EXPECT_EQ(p.got.field("Content-Disposition"), "attachment; filename=\"" + std::string(p.page) + "-delta\"");
            const std::string file = dir.keep(p.page, p.got.body);
            int rc = -1;
            const std::string raw = pprof("-raw " + file, rc);
            EXPECT_EQ(rc, 0) << raw;
            EXPECT_NE(raw.find(p.type), std::string::npos) << raw;
            EXPECT_NE(raw.find("Duration: 2."), std::string::npos) << raw;
            EXPECT_NE(raw.find(p.wanted), std::string::npos) << p.page << raw;
            EXPECT_EQ(raw.find(p.not_there), std::string::npos) << p.page << raw;
        }
        int rc = -1;
        const std::string traces = pprof("-traces -focus=parked_there " + dir.keep("tasks", pages[0].got.body), rc);
        EXPECT_NE(traces.find("         5   "), std::string::npos) << traces;
        const std::string times = pprof("-traces -sample_index=contentions -focus=waits_here " + dir.keep("waits", pages[2].got.body), rc);
        EXPECT_NE(times.find("         2   "), std::string::npos) << times;
        if (!heap_is_profiled) return;
        const std::string top = pprof("-top -unit=B -focus=allocates_64_kilobytes " + dir.keep("blocks", pages[4].got.body), rc);
        const std::size_t at = top.find("sum%        cum   cum%\n");
        ASSERT_NE(at, std::string::npos) << top;
        const double bytes = std::stod(top.substr(at + 23)); // 120 samples are expected
        EXPECT_TRUE(bytes > 32e6 && bytes < 128e6) << top;
    });
}

TEST(profile_difference, keeps_what_has_changed) {
    mpg::debug::profile before, after;
    before.start = std::chrono::system_clock::time_point(1s);
    after.start = std::chrono::system_clock::time_point(3s);
    before.samples = {{{1, 2}, {5, 50}}, {{1}, {3, 30}}, {{7}, {1, 10}}};
    after.samples = {{{1, 2}, {7, 70}}, {{7}, {1, 10}}, {{9}, {4, 40}}};
    const mpg::debug::profile p = mpg::debug::detail::difference(after, before);
    EXPECT_EQ(p.duration, 2s);
    ASSERT_EQ(p.samples.size(), 3u);
    using stack = mpg::debug::detail::call_stack;
    using values = std::vector<std::int64_t>;
    EXPECT_EQ(p.samples[0].stack, (stack{1, 2}));
    EXPECT_EQ(p.samples[0].values, (values{2, 20}));
    EXPECT_EQ(p.samples[1].stack, (stack{9}));
    EXPECT_EQ(p.samples[1].values, (values{4, 40}));
    EXPECT_EQ(p.samples[2].stack, (stack{1}));
    EXPECT_EQ(p.samples[2].values, (values{-3, -30}));
}

// Those of Go's net/http/pprof, with its words.
TEST_F(debug_pages, what_makes_no_sense_is_refused_as_go_does) {
    with_server([&](mpg::test::http_peer& peer) {
        const struct {
            const char* path;
            int status;
            const char* says;
        } cases[] = {
            {"goroutine?seconds=x", 400, "invalid value for \"seconds\" - must be a positive integer\n"},
            {"goroutine?seconds=1.5", 400, "invalid value for \"seconds\" - must be a positive integer\n"},
            {"threadcreate?seconds=0", 400, "invalid value for \"seconds\" - must be a positive integer\n"},
            {"block?seconds=-3", 400, "invalid value for \"seconds\" - must be a positive integer\n"},
            {"mutex?seconds=99999999999999999999", 400, "invalid value for \"seconds\" - must be a positive integer\n"},
            {"goroutine?seconds=1&debug=1", 400, "seconds and debug params are incompatible\n"},
            {"threadcreate?debug=2&seconds=1", 400, "seconds and debug params are incompatible\n"},
            {"nothing", 404, "Unknown profile\n"},
            {"nothing?seconds=1", 404, "Unknown profile\n"},
        };
        for (const auto& c : cases) {
            const mpg::test::reply r = peer.get(std::string("/debug/pprof/") + c.path);
            EXPECT_EQ(r.status, c.status) << c.path;
            EXPECT_EQ(r.body, c.says) << c.path;
            EXPECT_EQ(r.field("X-Go-Pprof"), "1") << c.path;
            EXPECT_EQ(r.field("Content-Type"), "text/plain; charset=utf-8") << c.path;
        }
        // An empty value is none.
        EXPECT_EQ(peer.get("/debug/pprof/threadcreate?seconds=").field("Content-Disposition"), "attachment; filename=\"threadcreate\"");
    });
}

// A time that the caller asks for is not cut short by the server's.
TEST_F(debug_pages, may_look_longer_than_a_response_may_take) {
    mpg::test::run_with_procs(4, [&] {
        mpg::test::live_server server({.write_timeout = 1s});
        mpg::debug::handlers(*server.operator->());
        server.start();
        auto peer = server.connect();
        for (const char* page : {"goroutine", "profile"})
            EXPECT_EQ(peer.get(std::string("/debug/pprof/") + page + "?seconds=1").status, 200) << page;
        peer.close();
        server->close();
        EXPECT_EQ(server.served(), mpg::errc::server_closed);
    });
}

TEST_F(debug_pages, only_one_profiles_at_a_time) {
    with_server([&](mpg::test::http_peer& peer) {
        ASSERT_TRUE(mpg::debug::detail::cpu_profiler::instance().start());
        EXPECT_EQ(peer.get("/debug/pprof/profile?seconds=1").status, 500);
        (void)mpg::debug::detail::cpu_profiler::instance().stop();
        EXPECT_EQ(peer.get("/debug/pprof/profile?seconds=1").status, 200);
    });
}

TEST_F(debug_pages, threads_symbols_command_line_and_index) {
    with_server([&](mpg::test::http_peer& peer) {
        int rc = -1;
        std::string file = dir.keep("threads.pb.gz", peer.get("/debug/pprof/threadcreate").body);
        std::string top = pprof("-raw " + file, rc);
        EXPECT_EQ(rc, 0) << top;
        EXPECT_NE(top.find("threadcreate"), std::string::npos) << top;
        EXPECT_NE(peer.get("/debug/pprof/cmdline").body.find("debug_http_test"), std::string::npos);
        char address[32];
        std::snprintf(address, sizeof address, "%p", reinterpret_cast<void*>(&parked_here));
        std::string names = peer.get(std::string("/debug/pprof/symbol?") + address).body;
        EXPECT_EQ(names.find("num_symbols: 1\n"), 0u);
        EXPECT_NE(names.find("parked_here"), std::string::npos) << names;
        EXPECT_NE(peer.get("/debug/pprof/").body.find("<a href=\"goroutine?debug=1\">"), std::string::npos);
    });
}

TEST_F(debug_pages, leaks_are_proved_on_request) {
    with_server([&](mpg::test::http_peer& peer) {
        const char* page = "/debug/pprof/leaks?seconds=3600";
        EXPECT_EQ(peer.get(page).body, "no task has waited for 60 minutes\n");
        if (mpg::base::asan || mpg::base::tsan) {
            EXPECT_EQ(peer.get(std::string(page) + "&prove=1").body.find("no proof: not under a sanitizer"), 0u);
            return;
        }
        loses_a_channel();
        mpg::test::reply r;
        // It need not have come to its wait; and an address that was left behind somewhere costs a proof: then another one is lost.
        EXPECT_TRUE(mpg::test::eventually([&] {
            r = peer.get(std::string(page) + "&prove=1");
            if (r.body.find("can never go on") != std::string::npos) return true;
            loses_a_channel();
            return false;
        })) << r.body;
        EXPECT_EQ(r.field("Content-Type"), "text/plain; charset=utf-8");
        EXPECT_NE(r.body.find(" [chan receive, "), std::string::npos) << r.body;
        EXPECT_NE(r.body.find("created at (anonymous namespace)::loses_a_channel() at "), std::string::npos) << r.body;
        EXPECT_NE(r.body.find(" waits for ever: it holds the last handle of channel 0x"), std::string::npos) << r.body;
        EXPECT_EQ(r.body.find("parked_here"), std::string::npos) << r.body; // their channel is known
        // What is proved stays so.
        EXPECT_NE(peer.get(page).body.find("can never go on"), std::string::npos);
    });
}

TEST_F(debug_pages, promtool_accepts_the_metrics) {
    with_server([&](mpg::test::http_peer& peer) {
        mpg::chan<int> one(4), other(5);
        for (int i = 0; i < 2; ++i) one.send(i);
        other.send(1);
        mpg::debug::named_channel first("a \"queue\"", one), second("a \"queue\"", other);
        mpg::elastic_chan<int> news({.low = 0, .high = 1, .max = 2}, mpg::overflow::drop_oldest);
        for (int i = 0; i < 5; ++i) EXPECT_EQ(news.try_send(i), mpg::chan_status::ok);
        mpg::debug::named_channel third("news", news);
        mpg::test::reply r = peer.get("/metrics");
        ASSERT_EQ(r.status, 200);
        EXPECT_EQ(r.field("Content-Type"), "text/plain; version=0.0.4; charset=utf-8");
        std::string file = dir.keep("metrics", r.body);
        int rc = -1;
        std::string said = mpg::blocking([&] { return shell("promtool check metrics < " + file, &rc); });
        EXPECT_EQ(rc, 0) << said;
        EXPECT_EQ(said, "") << r.body;
        for (const char* name : {"mpg_sched_latency_seconds_bucket{le=\"+Inf\"} ", "mpg_wait_seconds_count ", "mpg_stalls_total ",
                                 "mpg_threads{state=\"running\"} ", "mpg_timers ", "mpg_stacks{state=\"cached\"} ", "mpg_stack_cached_bytes ",
                                 "mpg_poller_polls_total ", "mpg_channel_length{name=\"a \\\"queue\\\"\"} 3\n",
                                 "mpg_channel_capacity{name=\"a \\\"queue\\\"\"} 9\n",
                                 "mpg_channel_accepted_total{name=\"a \\\"queue\\\"\"} 3\n", "mpg_channel_accepted_total{name=\"news\"} 5\n", "mpg_channel_dropped_total{name=\"news\"} 3\n",
                                 "mpg_channel_rejected_total{name=\"news\"} 0\n", "mpg_channel_grown_total{name=\"news\"} 1\n",
                                 "mpg_channel_high_water{name=\"news\"} 2\n", "mpg_tasks{state=\"waiting\"} ", "mpg_procs 4\n", "mpg_run_queue_tasks{p=\"3\"} ",
                                 "mpg_poller_info{kind=\"", "http_server_requests_in_flight 1\n", "process_cpu_seconds_total "})
            EXPECT_NE(r.body.find(name), std::string::npos) << name << r.body;
    });
}

// The names under which Prometheus' library for Go has what means the same (client_golang with the scheduler's metrics).
TEST_F(debug_pages, what_means_the_same_as_in_go_has_its_name) {
    with_server([&](mpg::test::http_peer& peer) {
        const std::string text = "\n" + peer.get("/metrics").body;
        auto value = [&](const std::string& name) {
            const std::size_t at = text.find("\n" + name + " ");
            EXPECT_NE(at, std::string::npos) << name << text;
            return at == std::string::npos ? -1 : std::atof(text.c_str() + at + name.size() + 2);
        };
        EXPECT_EQ(value("go_sched_gomaxprocs_threads"), 4);
        EXPECT_GE(value("go_goroutines"), 8); // the seven, the server's, this one
        EXPECT_GE(value("go_sched_goroutines_goroutines"), 8);
        EXPECT_GE(value("go_sched_goroutines_created_goroutines_total"), 8);
        EXPECT_EQ(value("go_sched_goroutines_created_goroutines_total"), value("mpg_tasks_created_total"));
        EXPECT_GE(value("go_sched_goroutines_waiting_goroutines"), 1);
        EXPECT_GE(value("go_sched_goroutines_running_goroutines"), 1);
        EXPECT_GE(value("go_sched_goroutines_runnable_goroutines"), 0);
        EXPECT_GE(value("go_sched_goroutines_not_in_go_goroutines"), 0);
        EXPECT_GE(value("go_sched_threads_total_threads"), 1);
        EXPECT_EQ(value("go_sched_threads_total_threads"), value("go_threads"));
        EXPECT_EQ(value("go_sched_latencies_seconds_count"), value("mpg_sched_latency_seconds_count"));
        for (const char* of_the_process : {"cpu_seconds_total", "open_fds", "max_fds", "virtual_memory_bytes", "virtual_memory_max_bytes",
                                           "resident_memory_bytes", "start_time_seconds", "network_receive_bytes_total",
                                           "network_transmit_bytes_total"})
            EXPECT_GE(value(std::string("process_") + of_the_process), 0);
    });
}

TEST_F(debug_pages, metrics_are_given_in_the_format_asked_for) {
    with_server([&](mpg::test::http_peer& peer) {
        const std::pair<const char*, bool> cases[] = {
            {"", false},
            {"Accept: */*\r\n", false},
            {"Accept: text/plain\r\n", false},
            {"Accept: application/openmetrics-text\r\n", true},
            {"Accept: application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1\r\n", true},
            {"Accept: text/plain, Application/OpenMetrics-Text ; q=0.5\r\n", false},
            {"Accept: application/openmetrics-text;q=0\r\n", false},
        };
        for (const auto& [accept, open] : cases) {
            const mpg::test::reply r = peer.get("/metrics", accept);
            EXPECT_EQ(r.field("Content-Type"), open ? "application/openmetrics-text; version=1.0.0; charset=utf-8" : "text/plain; version=0.0.4; charset=utf-8") << accept;
            EXPECT_EQ(r.body.size() > 6 && r.body.substr(r.body.size() - 6) == "# EOF\n", open) << accept;
            EXPECT_NE(r.body.find(open ? "# TYPE mpg_tasks_created counter\n" : "# TYPE mpg_tasks_created_total counter\n"), std::string::npos) << r.body;
            EXPECT_NE(r.body.find("\nmpg_tasks_created_total "), std::string::npos) << r.body;
        }
    });
}

} // namespace
