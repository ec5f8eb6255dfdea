// A server under clients that mean harm, or are many: what it holds has bounds, others are served meanwhile, and nothing
// is left. Clients that are many live in a process of their own. $MPG_TEST_LOAD: how many connections at once, of which 5
// times as many come one after another, and 100 times as many requests; scripts/soak MINUTES load has 10,000, hence 50,000
// and a million.
//
// ctest: timeout:300
#include "http_support.hpp"
#include "other_process.hpp"

#include <mpg/context.hpp>
#include <mpg/scope.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <sys/resource.h>
#include <vector>

using namespace mpg::test;
using namespace std::chrono_literals;
using mpg::http::request;
using mpg::http::response;

struct http_load : with_pollers {
    /// At once: as many as asked for, if there may be descriptors for one end of each.
    static std::size_t connections() {
        const std::size_t n = asked_for().value_or(400), most = descriptors_allowed(n + 200) - 200;
        if (most < n) std::cout << "only " << most << " connections at once, by the hard limit of descriptors\n";
        return std::min(n, most);
    }
    static std::size_t one_after_another() { return asked_for().value_or(160) * 5; }
    static std::size_t requests() { return asked_for().value_or(120) * 100; }

  private:
    static std::optional<std::size_t> asked_for() {
        const char* given = std::getenv("MPG_TEST_LOAD");
        return given ? std::optional<std::size_t>(std::strtoull(given, nullptr, 10)) : std::nullopt;
    }
    /// Raises the limit, beyond the hard one where this user may.
    static std::size_t descriptors_allowed(std::size_t wanted) {
        ::rlimit now;
        ::getrlimit(RLIMIT_NOFILE, &now);
        const ::rlimit more{std::max<::rlim_t>(now.rlim_cur, wanted), std::max<::rlim_t>(now.rlim_max, wanted)};
        if (::setrlimit(RLIMIT_NOFILE, &more) == 0) return more.rlim_cur;
        now.rlim_cur = now.rlim_max;
        ::setrlimit(RLIMIT_NOFILE, &now);
        return now.rlim_cur;
    }
};
MPG_TEST_IO(http_load);

namespace {

std::size_t resident_bytes() {
    std::ifstream statm("/proc/self/statm");
    std::size_t size = 0, resident = 0;
    statm >> size >> resident;
    return resident * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

void add_handlers(live_server& s) {
    s->handle("GET /ok", [](request&, response& res) { (void)res.write("ok"); });
    s->handle("POST /count", [](request& req, response& res) {
        std::array<std::byte, 4096> buffer;
        std::size_t n = 0;
        while (auto got = req.body().read(buffer)) {
            if (*got == 0) return void(res.write(std::to_string(n)));
            n += *got;
        }
        (void)res.status(400).write("broken");
    });
    s->handle("GET /endless", [](request&, response& res) {
        const std::string part(16 << 10, 'e');
        while (res.write(part)) {
        }
    });
}

/// Serves them.
struct served : live_server {
    explicit served(mpg::http::server_options o = {})
        : live_server(o) {
        add_handlers(*this);
        start();
    }
};

std::vector<mpg::net::tcp_stream> connect_many(const mpg::net::endpoint& to, std::size_t n, std::string_view first) {
    std::vector<mpg::net::tcp_stream> all;
    for (std::size_t i = 0; i != n; ++i) {
        auto c = mpg::net::tcp_stream::connect(to);
        if (!c || (!first.empty() && !c->write(bytes(first)))) return all;
        all.push_back(std::move(*c));
    }
    return all;
}

bool drained(live_server& s) {
    return eventually([&] {
        const auto n = s->connections();
        return n.active + n.idle == 0;
    });
}

} // namespace

TEST_P(http_load, idle_connections_are_cheap_and_others_are_served) {
    const std::size_t n = connections();
    other_process clients(setup(), [n](line_talk& server) {
        const auto at = *mpg::net::endpoint::parse(server.hear());
        auto idle = connect_many(at, n, "GET /ok HTTP/1.1\r\nHost: a\r\n\r\n");
        ASSERT_EQ(idle.size(), n);
        for (auto& c : idle) {
            std::array<std::byte, 512> buffer;
            ASSERT_TRUE(c.read(buffer));
        }
        server.say("all are served");
        std::size_t ended = 0;
        for (auto& c : idle) {
            std::byte one;
            ended += c.read(std::span(&one, 1)) == 0u;
        }
        EXPECT_EQ(ended, n);
    });
    run([n, &talk = clients.talk()] {
        mpg::http::server_options o;
        o.idle_timeout = 10min;
        served s(o);
        std::vector<http_peer> warm;
        for (int i = 0; i != 20; ++i) warm.emplace_back(s.address());
        for (auto& p : warm) EXPECT_EQ(p.get("/ok").status, 200);
        const std::size_t before = resident_bytes(), open = detail::descriptors().size();
        talk.say(s.address().to_string());
        ASSERT_EQ(talk.hear(), "all are served");
        ASSERT_TRUE(eventually([&] { return s->connections().idle == n + warm.size(); }));
        EXPECT_EQ(detail::descriptors().size(), open + n);
        auto each = [&] {
            const std::size_t now = resident_bytes();
            return static_cast<double>(now - std::min(before, now)) / static_cast<double>(n) / 1024;
        };
        std::cout << n << " idle connections, KiB each: " << each() << " at once, ";
        mpg::sleep_for(600ms); // idle for long enough to give back what handlers have used of the stacks
        // ThreadSanitizer keeps several bytes for each of ours, AddressSanitizer a second stack. Few have more of what all share.
        const double most = mpg::base::tsan || mpg::base::asan ? 192 : n < 400 ? 48 : 8;
        EXPECT_TRUE(eventually([&] { return each() < most; })) << each();
        std::cout << each() << " at rest\n";
        for (auto& p : warm) EXPECT_EQ(p.get("/ok").status, 200);
        const auto m = mpg::http::to_prometheus(s->stats());
        EXPECT_NE(m.find("http_server_connections{state=\"idle\"} "), std::string::npos);
        auto soon = mpg::with_timeout(mpg::context::background(), 60s);
        EXPECT_FALSE(s->shutdown(soon));
        EXPECT_LE(detail::descriptors().size(), open);
    });
}

/// Whoever drips a header, dawdles with a body, does not read, or sends rubbish: all at once, and all are let go.
TEST_P(http_load, hostile_clients_are_let_go) {
    constexpr std::array<std::string_view, 7> first{"",
                                                    "GET /ok HTTP/1.1\r\nHost: a\r\nX-",
                                                    "POST /count HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nx",
                                                    "POST /count HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
                                                    "GET /endless HTTP/1.1\r\nHost: a\r\n\r\n",
                                                    "\x16\x03\x01 no HTTP at all\r\n\r\n",
                                                    "GET / HTTP/9.9\r\n\r\n"};
    const std::size_t n = std::max<std::size_t>((connections() + first.size() - 1) / first.size(), 5);
    other_process clients(setup(), [n, &first](line_talk& server) {
        const auto at = *mpg::net::endpoint::parse(server.hear());
        std::vector<std::vector<mpg::net::tcp_stream>> groups;
        for (std::string_view f : first) {
            groups.push_back(connect_many(at, n, f));
            ASSERT_EQ(groups.back().size(), n);
        }
        std::atomic<bool> ends{false};
        auto drips = mpg::spawn([&] { // a byte now and then is no progress
            while (!ends) {
                for (auto& c : groups[1]) (void)c.write(bytes("a"));
                mpg::sleep_for(20ms);
            }
        });
        server.say("all are there");
        EXPECT_EQ(server.hear(), "go"); // their ends have been open until now
        ends = true;
        drips.join();
    });
    run([n, &talk = clients.talk()] {
        mpg::http::server_options o;
        o.read_header_timeout = o.read_timeout = o.write_timeout = 800ms;
        served s(o);
        const std::size_t open = detail::descriptors().size(), before = resident_bytes();
        std::size_t most = before;
        auto look = [&] { most = std::max(most, resident_bytes()); };
        talk.say(s.address().to_string());
        http_peer honest = s.connect();
        for (int i = 0; i != 50; ++i) {
            EXPECT_EQ(honest.get("/ok").status, 200) << i;
            mpg::sleep_for(2ms);
            look();
        }
        honest.close();
        EXPECT_EQ(talk.hear(), "all are there");
        EXPECT_TRUE(eventually([&] {
            mpg::sleep_for(1ms);
            look();
            const auto c = s->connections();
            return c.active + c.idle == 0;
        })) << "without their help: their ends are open still";
        const double each = static_cast<double>(most - before) / static_cast<double>(n * 7) / 1024;
        std::cout << n * 7 << " hostile clients, " << each << " KiB each at most\n";
        if (!mpg::base::asan && !mpg::base::tsan && n * 7 >= 400) {
            EXPECT_LT(each, 48);
        }
        EXPECT_LE(detail::descriptors().size(), open);
        talk.say("go");
        EXPECT_EQ(s.connect().get("/ok").status, 200);
        const auto st = s->stats();
        EXPECT_EQ(st.connections_accepted, n * 7 + 2);
        EXPECT_GE(st.refused, 2 * n);
        EXPECT_EQ(st.in_flight(), 0u);
    });
}

TEST_P(http_load, connections_one_after_another_leave_nothing) {
    const std::size_t n = one_after_another();
    run([n] {
        served s;
        const std::size_t before = detail::descriptors().size();
        for (std::size_t i = 0; i != n; ++i) {
            http_peer p = s.connect();
            ASSERT_EQ(p.get("/ok", "Connection: close\r\n").status, 200) << i;
            ASSERT_TRUE(p.ends());
        }
        EXPECT_TRUE(drained(s));
        EXPECT_EQ(s->stats().connections_accepted, n);
        EXPECT_LE(detail::descriptors().size(), before + 1);
    });
}

/// All at once, each one request after the other.
TEST_P(http_load, many_requests_on_connections_that_stay) {
    const std::size_t n = std::min(connections(), requests() / 100), each = (requests() + n - 1) / n;
    other_process clients(setup(), [n, each](line_talk& server) {
        const auto at = *mpg::net::endpoint::parse(server.hear());
        const std::size_t open = detail::descriptors().size();
        std::atomic<std::size_t> good{0};
        std::vector<http_peer> peers; // one after another, since a listener's queue is shorter
        for (std::size_t i = 0; i != n; ++i) peers.emplace_back(at);
        server.say("all are connected");
        EXPECT_EQ(server.hear(), "ask");
        mpg::scope asking;
        for (http_peer& p : peers)
            asking.go([&] {
                std::size_t mine = 0;
                while (mine != each && p.get("/ok").body == "ok") ++mine;
                good += mine;
                p.close();
            });
        asking.wait();
        EXPECT_EQ(good, n * each);
        EXPECT_LE(detail::descriptors().size(), open);
        server.say("all have been answered");
    });
    run([n, each, &talk = clients.talk()] {
        mpg::http::server_options o;
        o.read_header_timeout = 10min; // the first to connect waits for the last
        served s(o);
        const std::size_t open = detail::descriptors().size();
        talk.say(s.address().to_string());
        EXPECT_EQ(talk.hear(), "all are connected");
        EXPECT_TRUE(eventually([&] { return s->stats().connections_accepted == n; }));
        talk.say("ask");
        EXPECT_EQ(talk.hear(), "all have been answered");
        EXPECT_TRUE(drained(s));
        EXPECT_EQ(s->stats().connections_accepted, n);
        EXPECT_EQ(s->stats().responses[2], n * each);
        EXPECT_LE(detail::descriptors().size(), open + 1);
    });
}

/// What a handler was called for is answered in full; who is not answered any more finds the connection closed.
TEST_P(http_load, a_shutdown_under_full_load_loses_no_request) {
    const std::size_t n = connections();
    other_process clients(setup(), [n](line_talk& server) {
        const auto at = *mpg::net::endpoint::parse(server.hear());
        std::atomic<std::size_t> answered{0}, torn{0};
        std::vector<http_peer> peers;
        for (std::size_t i = 0; i != n; ++i) peers.emplace_back(at);
        mpg::scope asking;
        for (http_peer& p : peers)
            asking.go([&] {
                for (bool more = p.connected(); more;) {
                    const reply r = p.get("/work");
                    more = r.status == 200;
                    answered += more;
                    torn += !more && !r.head.empty();
                }
            });
        EXPECT_TRUE(eventually([&] { return answered >= 3 * n; }));
        server.say("many have been answered");
        asking.wait();
        EXPECT_EQ(torn, 0u);
        server.say(std::to_string(answered));
    });
    run([&talk = clients.talk()] {
        mpg::http::server_options o;
        o.read_header_timeout = 10min;
        live_server s(o);
        std::atomic<std::size_t> begun{0};
        s->handle("GET /work", [&](request&, response& res) {
            const std::size_t nth = ++begun;
            if (nth % 8 == 0) mpg::sleep_for(std::chrono::microseconds(nth % 977));
            (void)res.write(std::string(1 + nth % 3000, 'w'));
        });
        s.start();
        talk.say(s.address().to_string());
        ASSERT_EQ(talk.hear(), "many have been answered");
        auto soon = mpg::with_timeout(mpg::context::background(), 60s);
        EXPECT_FALSE(s->shutdown(soon));
        EXPECT_EQ(talk.hear(), std::to_string(begun)) << "of the requests that handlers have had";
        EXPECT_EQ(s.served(), mpg::errc::server_closed);
        EXPECT_FALSE(s.connect().get("/work").status);
    });
}

/// The limit holds, and who waits for a place gets one.
TEST_P(http_load, no_more_connections_than_allowed) {
    const std::size_t n = std::max<std::size_t>(connections() / 4, 10);
    run([n] {
        mpg::http::server_options o;
        o.max_connections = n / 2;
        served s(o);
        std::atomic<std::size_t> served{0}, most{0};
        std::vector<mpg::task<void>> all;
        for (std::size_t i = 0; i != n; ++i)
            all.push_back(mpg::spawn([&] {
                http_peer p = s.connect();
                served += p.get("/ok").status == 200;
                const auto c = s->connections();
                for (std::size_t now = c.active + c.idle, m = most; now > m && !most.compare_exchange_weak(m, now);) {
                }
            }));
        for (auto& t : all) t.join();
        EXPECT_EQ(served, n);
        EXPECT_LE(most, n / 2);
    });
}

TEST_P(http_load, a_handler_may_move_its_write_deadline) {
    run([] {
        for (const auto limit : {100ms, 0ms}) {
            mpg::http::server_options o;
            o.write_timeout = limit;
            live_server s(o);
            s->handle("GET /slow", [](request& req, response& res) {
                const auto own = req.query("own").value_or("");
                if (own == "late") res.set_write_deadline(mpg::clock::now() + 1h);
                if (own == "soon") res.set_write_deadline(mpg::clock::now());
                if (own == "none") res.set_write_deadline(std::nullopt);
                mpg::sleep_for(150ms);
                (void)res.write("slow");
            });
            s->handle("GET /shut", [](request&, response& res) {
                res.set_write_deadline(mpg::clock::now() + 1h);
                (void)res.write("x");
            });
            s.start();
            http_peer p = s.connect();
            for (const char* own : {"late", "none"}) EXPECT_EQ(p.get(std::string("/slow?own=") + own).body, "slow");
            EXPECT_EQ(p.get("/shut").body, "x");
            EXPECT_EQ(p.get("/slow").status, limit == 0ms ? 200 : 0) << "the next request has the server's again";
            EXPECT_EQ(s.connect().get("/slow?own=soon").status, 0);
        }
    });
}
