// TLS between two of our own: handshakes, data, ends, cancellation, certificates, sessions.
// ctest: own-macros
// ctest: tls
// ctest: label:concurrent
#define MPG_IO_SYSCALLS "faults.hpp"
#include "kernel_tls.hpp"
#include "tls_support.hpp"

#include <mpg/context.hpp>
#include <mpg/scope.hpp>
#include <mpg/sync.hpp>
#include <mpg/time.hpp>

#include <chrono>
#include <optional>
#include <random>

using namespace std::chrono_literals;
using namespace mpg;
using namespace mpg::test;

namespace {

struct tls_stream : with_pollers {};
MPG_TEST_IO(tls_stream);

std::string random_text(std::size_t n, std::uint64_t salt) {
    std::mt19937_64 g(seed() ^ salt);
    std::string s(n, '\0');
    for (char& c : s) c = static_cast<char>(g());
    return s;
}

/// The handshake was made, the server has got "ping" and the client "pong".
void expect_works(tls_pair& p) {
    auto server = spawn([&] {
        std::byte b[4];
        ASSERT_TRUE(read_full(p.server, b));
        EXPECT_EQ(text(b), "ping");
        EXPECT_TRUE(p.server.write(bytes("pong")));
    });
    EXPECT_TRUE(p.client.write(bytes("ping")));
    std::byte b[4];
    auto n = p.client.read(b);
    ASSERT_TRUE(n) << n.error().message();
    EXPECT_EQ(text(std::span(b).first(*n)), "pong");
    server.join();
}

TEST_P(tls_stream, says_what_was_agreed_on) {
    run([] {
        for (auto v : {tls::version::tls1_2, tls::version::tls1_3}) {
            auto p = tls_local(client_config({.alpn = {"x", "h2", "http/1.1"}, .max_version = v}),
                               server_config({.alpn = {"http/1.1", "h2"}}));
            EXPECT_EQ(p.client.state(), nullptr);
            expect_works(p);
            ASSERT_TRUE(p.client.state() && p.server.state());
            const tls::connection_state &c = *p.client.state(), &s = *p.server.state();
            EXPECT_EQ(c.version, v);
            EXPECT_EQ(s.version, v);
            EXPECT_FALSE(c.cipher.empty());
            EXPECT_EQ(c.cipher, s.cipher);
            EXPECT_EQ(c.alpn, "http/1.1");
            EXPECT_EQ(s.alpn, "http/1.1");
            EXPECT_EQ(s.server_name, "localhost");
            EXPECT_TRUE(c.verified);
            EXPECT_FALSE(s.verified);
            EXPECT_FALSE(s.peer);
            EXPECT_FALSE(c.resumed || c.ktls);
            ASSERT_TRUE(c.peer);
            EXPECT_EQ(c.peer.subject(), "CN=localhost");
            EXPECT_EQ(c.peer.issuer(), "CN=Test Root");
            EXPECT_EQ(c.peer.dns_names(), std::vector<std::string>{"localhost"});
            EXPECT_LT(c.peer.not_before(), std::chrono::system_clock::now());
            EXPECT_GT(c.peer.not_after(), std::chrono::system_clock::now());
            EXPECT_NE(c.peer.pem().find("BEGIN CERTIFICATE"), std::string::npos);
        }
    });
}

TEST_P(tls_stream, carries_much_both_ways_at_once) {
    run([] {
        const std::string there = random_text(scaled(4 << 20), 1), back = random_text(scaled(4 << 20), 2);
        auto p = tls_local(client_config(), server_config());
        auto send = [](tls::stream& s, const std::string& all) {
            std::mt19937_64 g(seed());
            for (std::size_t at = 0; at != all.size();) {
                const std::size_t n = std::min<std::size_t>(1 + g() % 100'000, all.size() - at);
                if (g() % 2) {
                    ASSERT_TRUE(s.write(bytes(std::string_view(all).substr(at, n))));
                } else {
                    char* d = const_cast<char*>(all.data()) + at;
                    const ::iovec pieces[] = {{d, n / 3}, {d + n / 3, 0}, {d + n / 3, n - n / 3}};
                    const auto written = s.writev(pieces);
                    ASSERT_TRUE(written);
                    ASSERT_EQ(*written, n);
                }
                at += n;
            }
            ASSERT_FALSE(s.close_write());
        };
        scope tasks;
        tasks.go([&] { send(p.client, there); });
        tasks.go([&] { send(p.server, back); });
        tasks.go([&] { EXPECT_TRUE(read_all(p.server) == there); });
        tasks.go([&] { EXPECT_TRUE(read_all(p.client) == back); });
        tasks.wait();
        EXPECT_EQ(p.client.write(bytes("x")).error(), std::errc::broken_pipe);
        std::byte b[1];
        EXPECT_EQ(p.client.read(b).value_or(9), 0u);
    });
}

/// What one write sends stays together.
TEST_P(tls_stream, keeps_the_writes_of_many_apart) {
    run([] {
        auto p = tls_local(client_config(), server_config());
        constexpr std::size_t writers = 8, rounds = 20, size = 40'000;
        scope tasks;
        wait_group all;
        all.add(writers);
        for (std::size_t w = 0; w != writers; ++w)
            tasks.go([&, w] {
                for (std::size_t i = 0; i != rounds; ++i)
                    ASSERT_TRUE(p.client.write(bytes(std::string(size, static_cast<char>('a' + w)))));
                all.done();
            });
        tasks.go([&] {
            all.wait();
            p.client.close();
        });
        std::vector<std::byte> block(size);
        for (std::size_t i = 0; i != writers * rounds; ++i) {
            ASSERT_TRUE(read_full(p.server, block));
            for (std::byte b : block) ASSERT_EQ(b, block[0]);
        }
        std::byte b[1];
        EXPECT_EQ(p.server.read(b).value_or(9), 0u);
        tasks.wait();
    });
}

TEST_P(tls_stream, an_end_without_close_notify_is_an_error) {
    run([] {
        auto below = connect_local();
        tls_pair p{tls::stream(std::move(below.client), client_config(), "localhost"),
                   tls::stream(std::move(below.server), server_config())};
        expect_works(p);
        ::shutdown(p.client.native_handle(), SHUT_WR); // below TLS
        std::byte b[1];
        const auto n = p.server.read(b);
        ASSERT_FALSE(n);
        EXPECT_EQ(n.error(), tls::errc::truncated);
        EXPECT_EQ(p.server.read(b).error(), tls::errc::truncated);

        auto silent = connect_local();
        ASSERT_FALSE(silent.client.shutdown_write());
        tls::stream server(std::move(silent.server), server_config());
        EXPECT_EQ(server.handshake(), tls::errc::truncated);
        auto mute = connect_local();
        ASSERT_FALSE(mute.server.shutdown_write());
        tls::stream client(std::move(mute.client), client_config(), "localhost");
        EXPECT_EQ(client.handshake(), tls::errc::truncated);
    });
}

TEST_P(tls_stream, half_closed_goes_on_the_other_way) {
    run([] {
        auto p = tls_local(client_config(), server_config());
        EXPECT_EQ(p.client.close_write(), std::errc::not_connected);
        auto server = spawn([&] {
            const std::string got = read_all(p.server);
            EXPECT_TRUE(p.server.write(bytes(got + " and back")));
            p.server.close();
        });
        ASSERT_TRUE(p.client.write(bytes("there")));
        ASSERT_FALSE(p.client.close_write());
        EXPECT_EQ(read_all(p.client), "there and back");
        std::byte b[1];
        EXPECT_EQ(p.client.read(b).value_or(9), 0u);
        server.join();
    });
}

TEST_P(tls_stream, who_speaks_no_tls_is_refused) {
    run([] {
        auto below = connect_local();
        tls::stream server(std::move(below.server), server_config());
        ASSERT_TRUE(below.client.write(bytes("GET / HTTP/1.1\r\n\r\n")));
        const std::error_code e = server.handshake();
        EXPECT_EQ(e.category(), tls::category());
        EXPECT_EQ(e.message(), "http request");
        EXPECT_EQ(server.handshake(), e);
        std::byte b[1];
        EXPECT_EQ(server.read(b).error(), e);
        EXPECT_EQ(tls::stream().handshake(), mpg::errc::closed);
    });
}

// ---- certificates

TEST_P(tls_stream, certificates_that_do_not_do) {
    run([] {
        const authority other("Other Root");
        const tls::config client = client_config();
        auto why = [&](const pem_pair& shown, const char* name) {
            auto p = tls_local(client, server_config({.certificates = {authority::load(shown)}}), name);
            const handshakes h = shake_hands(p);
            EXPECT_TRUE(h.server);
            std::byte b[1];
            EXPECT_FALSE(p.client.read(b));
            return h.client;
        };
        auto verify = [](int code) { return std::error_code(code, tls::verify_category()); };
        const authority& root = test_root();
        EXPECT_EQ(why(root.issue(), "example.org"), verify(X509_V_ERR_HOSTNAME_MISMATCH));
        EXPECT_EQ(why(root.issue(), "127.0.0.2"), verify(X509_V_ERR_IP_ADDRESS_MISMATCH));
        EXPECT_EQ(why(root.issue("old", {.valid_to = -60}), "localhost"),
                  verify(X509_V_ERR_CERT_HAS_EXPIRED));
        EXPECT_EQ(why(root.issue("new", {.valid_from = 600}), "localhost"),
                  verify(X509_V_ERR_CERT_NOT_YET_VALID));
        EXPECT_EQ(why(other.issue(), "localhost"), verify(X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY));
        EXPECT_EQ(why(root.issue("wild", {.names = "DNS:*.example.org"}), "a.b.example.org"),
                  verify(X509_V_ERR_HOSTNAME_MISMATCH));
        EXPECT_EQ(verify(X509_V_ERR_CERT_HAS_EXPIRED).message(), "certificate: certificate has expired");

        const pem_pair own = [] {
            authority a("localhost"); // issuer and subject are the same
            return a.issue();
        }();
        EXPECT_EQ(why(own, "localhost"), verify(X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT));
    });
}

TEST_P(tls_stream, names_that_do) {
    run([] {
        auto works = [](const char* names, const char* name, tls::client_options o = {}) {
            const auto c = authority::load(test_root().issue("x", {.names = names}));
            auto p = tls_local(client_config(std::move(o)), server_config({.certificates = {c}}), name);
            const handshakes h = shake_hands(p);
            return !h.client && !h.server;
        };
        EXPECT_TRUE(works("DNS:*.example.org", "a.example.org"));
        EXPECT_TRUE(works("DNS:example.org", "EXAMPLE.org."));
        EXPECT_TRUE(works("IP:127.0.0.1", "127.0.0.1"));
        EXPECT_TRUE(works("IP:::1", "::1"));
        EXPECT_FALSE(works("DNS:example.org", "example.com"));
        EXPECT_TRUE(works("DNS:example.org", "example.com", {.verify = tls::verification::chain}));
        EXPECT_TRUE(works("DNS:example.org", "example.com", {.verify = tls::verification::none}));
        EXPECT_TRUE(works("DNS:example.org", "", {.server_name = "example.org"}));

        auto p = tls_local(client_config(), server_config(), "");
        EXPECT_EQ(shake_hands(p).client, tls::errc::no_server_name);
    });
}

TEST_P(tls_stream, the_name_asked_for_chooses_the_certificate) {
    run([] {
        auto make = [](const char* name, bool rsa = false) {
            return tls::certificate_source(
                authority::load(test_root().issue(name, {.names = std::string("DNS:") + name, .rsa = rsa})));
        };
        const auto server =
            server_config({.certificates = {make("a.test"), make("b.test"), make("c.test", true)}});
        auto shown = [&](const char* name, tls::client_options o = {}) {
            o.verify = tls::verification::chain;
            auto p = tls_local(client_config(o), server, name);
            const handshakes h = shake_hands(p);
            EXPECT_FALSE(h.client) << h.client.message();
            return p.client.state() ? p.client.state()->peer.subject() : "";
        };
        EXPECT_EQ(shown("a.test"), "CN=a.test");
        EXPECT_EQ(shown("b.test"), "CN=b.test");
        EXPECT_EQ(shown("c.test"), "CN=c.test");
        EXPECT_EQ(shown("d.test"), "CN=a.test");
        EXPECT_EQ(shown("127.0.0.1"), "CN=a.test");

        // A function that waits before it answers.
        const auto slow =
            server_config({.choose = [&](const tls::client_hello& h) -> result<tls::certificate> {
                const std::string name(h.server_name);
                sleep_for(1ms);
                if (name == "no.test")
                    return unexpected(make_error_code(std::errc::no_such_file_or_directory));
                return authority::load(test_root().issue(name.c_str(), {.names = "DNS:" + name}));
            }});
        auto p = tls_local(client_config(), slow, "made.test");
        expect_works(p);
        EXPECT_EQ(p.client.state()->peer.subject(), "CN=made.test");
        auto q = tls_local(client_config(), slow, "no.test");
        const handshakes h = shake_hands(q);
        EXPECT_TRUE(h.client);
        EXPECT_EQ(h.server, std::errc::no_such_file_or_directory);
    });
}

TEST_P(tls_stream, a_reload_shows_in_new_handshakes_only) {
    run([] {
        const temporary_files dir;
        const pem_pair first = test_root().issue("first"), second = test_root().issue("second");
        const auto chain = dir.put("chain.pem", first.certificate), key = dir.put("key.pem", first.key);
        auto source = tls::certificate_source::from_files(chain, key);
        ASSERT_TRUE(source) << source.error().message();
        const auto server = server_config({.certificates = {*source}, .resume = false});
        const auto client = client_config();
        auto old = tls_local(client, server);
        expect_works(old);
        EXPECT_EQ(old.client.state()->peer.subject(), "CN=first");

        dir.put("chain.pem", second.certificate); // not its key yet: refused, and the first one stays
        EXPECT_TRUE(source->reload());
        auto between = tls_local(client, server);
        expect_works(between);
        EXPECT_EQ(between.client.state()->peer.subject(), "CN=first");

        dir.put("key.pem", second.key);
        ASSERT_FALSE(source->reload());
        auto fresh = tls_local(client, server);
        expect_works(fresh);
        EXPECT_EQ(fresh.client.state()->peer.subject(), "CN=second");
        expect_works(old);
        EXPECT_TRUE(tls::certificate_source(authority::load(first)).reload());
    });
}

TEST_P(tls_stream, clients_show_certificates) {
    run([] {
        const authority people("People"), strangers("Strangers");
        const auto ann = authority::load(people.issue("Ann")), eve = authority::load(strangers.issue("Eve"));
        using tls::client_certificates;
        auto meet = [&](client_certificates mode, std::optional<tls::certificate_source> shown) {
            auto p = tls_local(client_config({.certificate = shown}),
                               server_config({.client = mode, .client_roots = people.roots()}));
            const handshakes h = shake_hands(p);
            if (h.server) return "refused: " + h.server.message();
            EXPECT_EQ(p.server.state()->verified, bool(p.server.state()->peer));
            return p.server.state()->peer ? p.server.state()->peer.subject() : "nobody";
        };
        EXPECT_EQ(meet(client_certificates::require, ann), "CN=Ann");
        EXPECT_EQ(meet(client_certificates::verify_if_given, ann), "CN=Ann");
        EXPECT_EQ(meet(client_certificates::verify_if_given, std::nullopt), "nobody");
        EXPECT_EQ(meet(client_certificates::none, ann), "nobody");
        EXPECT_EQ(meet(client_certificates::require, std::nullopt),
                  "refused: peer did not return a certificate");
        EXPECT_NE(meet(client_certificates::require, eve).find("refused: certificate:"), std::string::npos);
        EXPECT_FALSE(tls::config::server({.certificates = {ann}, .client = client_certificates::require}));
    });
}

// ---- sessions

TEST_P(tls_stream, sessions_are_resumed) {
    run([] {
        for (auto v : {tls::version::tls1_2, tls::version::tls1_3}) {
            auto meet = [](const tls::config& c, const tls::config& s) {
                auto p = tls_local(c, s);
                expect_works(p);
                EXPECT_EQ(p.client.state()->resumed, p.server.state()->resumed);
                EXPECT_TRUE(p.client.state()->verified);
                EXPECT_EQ(p.client.state()->peer.subject(), "CN=localhost");
                return p.client.state()->resumed;
            };
            const auto client = client_config({.max_version = v});
            const auto server = server_config();
            EXPECT_FALSE(meet(client, server));
            for (int i = 0; i != 10; ++i) EXPECT_TRUE(meet(client, server)) << i;
            EXPECT_FALSE(meet(client_config({.max_version = v}), server));
            const auto forgetful = client_config({.max_version = v, .sessions = 0});
            EXPECT_FALSE(meet(forgetful, server));
            EXPECT_FALSE(meet(forgetful, server));
            const auto unwilling = server_config({.resume = false});
            EXPECT_FALSE(meet(client, unwilling)); // with a session of the other server's
            EXPECT_FALSE(meet(client, unwilling));
        }
    });
}

TEST_P(tls_stream, hooks) {
    run([] {
        std::string keys;
        int checked = 0;
        const auto client =
            client_config({.check =
                               [&](const tls::connection_state& s) {
                                   yield();
                                   ++checked;
                                   return s.alpn.empty() ? std::error_code()
                                                         : make_error_code(std::errc::permission_denied);
                               },
                           .key_log = [&](std::string_view line) { (keys += line) += '\n'; }});
        auto p = tls_local(client, server_config());
        expect_works(p);
        EXPECT_EQ(checked, 1);
        EXPECT_NE(keys.find("CLIENT_TRAFFIC_SECRET_0 "), std::string::npos);
        const auto picky = client_config({.alpn = {"h2"}, .check = client.state()->check});
        auto q = tls_local(picky, server_config({.alpn = {"h2"}}));
        EXPECT_EQ(shake_hands(q).client, std::errc::permission_denied);
        // No protocol in common.
        auto r = tls_local(client_config({.alpn = {"a"}}), server_config({.alpn = {"b"}}));
        const handshakes h = shake_hands(r);
        EXPECT_EQ(h.client.message(), "tlsv1 alert no application protocol");
        EXPECT_TRUE(h.server);
        // No version in common.
        auto v = tls_local(client_config({.max_version = tls::version::tls1_2}),
                           server_config({.min_version = tls::version::tls1_3}));
        EXPECT_TRUE(shake_hands(v).client);
    });
}

// ---- waiting

TEST_P(tls_stream, a_handshake_can_be_cancelled_and_goes_on) {
    run([] {
        auto p = tls_local(client_config(), server_config());
        {
            auto ctx = with_cancel(context::background());
            auto waiting = spawn([&] { return p.client.handshake(ctx); });
            yield();
            ctx.cancel();
            EXPECT_EQ(waiting.join(), mpg::errc::cancelled);
        }
        ASSERT_FALSE(p.client.set_deadline(mpg::clock::now() + 1ms));
        EXPECT_EQ(p.client.handshake(), mpg::errc::deadline_exceeded);
        std::byte b[1];
        EXPECT_EQ(p.client.read(b).error(), mpg::errc::deadline_exceeded);
        ASSERT_FALSE(p.client.set_deadline(std::nullopt));
        expect_works(p);
        auto waiting = spawn([&] { return p.client.read(b); });
        yield();
        p.client.close();
        EXPECT_EQ(waiting.join().error(), mpg::errc::closed);
        EXPECT_EQ(p.client.write(bytes("x")).error(), mpg::errc::closed);
        EXPECT_EQ(p.client.handshake(), std::error_code());
        p.client.close();
    });
}

TEST_P(tls_stream, a_handshake_that_is_cancelled_again_and_again_ends) {
    run([] {
        for (std::size_t round = 0; round != scaled(30); ++round) {
            auto p = tls_local(client_config(), server_config());
            auto often = [](tls::stream& s, std::uint64_t salt) {
                std::mt19937_64 g(seed() ^ salt);
                for (;;) {
                    auto ctx = with_timeout(context::background(), std::chrono::microseconds(g() % 500));
                    const std::error_code e = s.handshake(ctx);
                    if (!e) return;
                    ASSERT_EQ(e, mpg::errc::deadline_exceeded);
                }
            };
            auto server = spawn([&] { often(p.server, 2 * round); });
            often(p.client, 2 * round + 1);
            server.join();
            expect_works(p);
        }
    });
}

/// Somebody between them lets so many bytes pass, in either direction, and then cuts the connection. Nobody
/// takes that for an end, and nobody hangs.
TEST_P(tls_stream, cut_off_anywhere) {
    run([] {
        const auto client = client_config({.sessions = 0}), server = server_config();
        std::mt19937_64 g(seed());
        bool whole = false;
        for (std::size_t limit = 0; !whole;
             limit += 1 + g() % scaled(200) * (base::tsan || base::asan ? 10 : 1)) {
            tcp_pair left = connect_local(), right = connect_local();
            std::atomic<std::size_t> passed{0};
            auto pass = [&](net::tcp_stream& from, net::tcp_stream& to) {
                std::byte b[300];
                for (;;) {
                    const auto n = from.read(b);
                    if (!n) return;
                    if (*n == 0) {
                        (void)to.shutdown_write();
                        return;
                    }
                    const std::size_t before = passed.fetch_add(*n);
                    const std::size_t allowed = limit > before ? std::min(*n, limit - before) : 0;
                    if (allowed != 0 && !to.write(std::span(b).first(allowed))) return;
                    if (allowed == *n) continue;
                    (void)left.server.shutdown_write();
                    (void)right.client.shutdown_write();
                    return;
                }
            };
            tls::stream c(std::move(left.client), client, "localhost"), s(std::move(right.server), server);
            bool client_ok = false, server_ok = false;
            scope all;
            all.go([&] { pass(left.server, right.client); });
            all.go([&] { pass(right.client, left.server); });
            auto use = [](tls::stream& t, bool& ok) {
                if (!t.write(bytes(std::string(2000, 'x')))) return t.close();
                const std::error_code e = t.close_write();
                std::string got;
                std::byte b[1000];
                for (;;) {
                    const auto n = t.read(b);
                    if (!n) break;
                    if (*n == 0) {
                        EXPECT_EQ(got.size(), 2000u);
                        ok = !e;
                        break;
                    }
                    got += text(std::span(b).first(*n));
                }
                t.close();
            };
            all.go([&] { use(c, client_ok); });
            all.go([&] { use(s, server_ok); });
            all.wait();
            whole = client_ok && server_ok;
            if (limit < 3000) {
                EXPECT_FALSE(whole) << limit;
            }
            ASSERT_LT(limit, 20'000u);
        }
    });
}

TEST_P(tls_stream, deadlines_hold_also_when_data_is_there) {
    run([] {
        auto p = tls_local(client_config(), server_config());
        expect_works(p);
        ASSERT_TRUE(p.server.write(bytes("abc")));
        std::byte b[1];
        ASSERT_EQ(p.client.read(b).value_or(9), 1u); // the rest has been decrypted
        ASSERT_FALSE(p.client.set_read_deadline(mpg::clock::now() - 1s));
        EXPECT_EQ(p.client.read(b).error(), mpg::errc::deadline_exceeded);
        ASSERT_FALSE(p.client.set_read_deadline(std::nullopt));
        auto ctx = with_cancel(context::background());
        ctx.cancel();
        EXPECT_EQ(p.client.read(b, ctx).error(), mpg::errc::cancelled);
        EXPECT_EQ(p.client.write(b, ctx).error(), mpg::errc::cancelled);
        EXPECT_EQ(p.client.read(b).value_or(9), 1u);
    });
}

/// A write that was cut off in the middle of a record leaves the stream whole.
TEST_P(tls_stream, a_cancelled_write_leaves_the_stream_whole) {
    run([] {
        auto p = tls_local(client_config(), server_config());
        expect_works(p);
        const std::string big(32 << 20, 'x');
        for (int round = 0; round != 3; ++round) {
            auto ctx = with_timeout(context::background(), 20ms);
            EXPECT_EQ(p.client.write(bytes(big), ctx).error(), mpg::errc::deadline_exceeded);
        }
        auto last = spawn([&] {
            EXPECT_TRUE(p.client.write(bytes("the end")));
            EXPECT_FALSE(p.client.close_write());
        });
        const std::string got = read_all(p.server);
        last.join();
        EXPECT_EQ(got.find_first_not_of('x'), got.size() - 7);
        EXPECT_EQ(got.substr(got.size() - 7), "the end");
    });
}

TEST_P(tls_stream, cancelled_at_any_moment_nothing_is_lost) {
    run([] {
        auto p = tls_local(client_config(), server_config());
        expect_works(p);
        const std::string all = random_text(scaled(1 << 20), 3);
        auto sender = spawn([&] {
            EXPECT_TRUE(p.server.write(bytes(all)));
            EXPECT_FALSE(p.server.close_write());
        });
        std::mt19937_64 g(seed());
        std::string got;
        std::vector<std::byte> part(9000);
        for (;;) {
            auto ctx = with_timeout(context::background(), std::chrono::microseconds(g() % 200));
            const auto n = p.client.read(std::span(part).first(1 + g() % part.size()), ctx);
            if (!n) {
                ASSERT_EQ(n.error(), mpg::errc::deadline_exceeded);
                continue;
            }
            if (*n == 0) break;
            got += text(std::span(part).first(*n));
        }
        sender.join();
        EXPECT_TRUE(got == all);
    });
}

TEST_P(tls_stream, many_at_once_with_a_lazy_listener) {
    run([] {
        auto l = tls::listener::bind("127.0.0.1:0", server_config());
        ASSERT_TRUE(l) << l.error().message();
        scope server;
        server.go([&] {
            while (auto s = l->accept())
                server.go([s = std::make_shared<tls::stream>(std::move(*s))] {
                    std::byte b[1000];
                    while (true) {
                        const auto n = s->read(b);
                        if (!n || *n == 0 || !s->write(std::span(b).first(*n))) return;
                    }
                });
        });
        const auto client = client_config();
        // One that never says anything holds nobody up.
        auto silent = net::tcp_stream::connect(l->local_endpoint());
        ASSERT_TRUE(silent);
        scope clients;
        std::atomic<int> good{0};
        const std::size_t n = scaled(200);
        for (std::size_t i = 0; i != n; ++i)
            clients.go([&, i] {
                auto s =
                    tls::stream::connect("localhost:" + std::to_string(l->local_endpoint().port()), client);
                ASSERT_TRUE(s) << s.error().message();
                const std::string said = random_text(3000, i);
                auto writer = spawn([&] { return bool(s->write(bytes(said))); });
                std::vector<std::byte> heard(said.size());
                if (read_full(*s, heard) && text(heard) == said) ++good;
                EXPECT_TRUE(writer.join());
            });
        clients.wait();
        EXPECT_EQ(good, static_cast<int>(n));
        silent->close();
        l->close();
        server.wait();
    });
}

/// Over something else than TCP: over TLS.
TEST_P(tls_stream, stands_on_any_stream) {
    run([] {
        auto p = tls_local(client_config(), server_config());
        tls_pair q{tls::stream(std::move(p.client), client_config(), "localhost"),
                   tls::stream(std::move(p.server), server_config())};
        expect_works(q);
        auto server = spawn([&] { return read_all(q.server); });
        EXPECT_TRUE(q.client.write(bytes(std::string(100'000, 'y'))));
        EXPECT_FALSE(q.client.close_write());
        EXPECT_EQ(server.join().size(), 100'000u);
    });
}

// ---- the kernel encrypts

/// Much in both directions, by all ways to write, up to the end.
void expect_carries_all(tls_pair& p) {
    temporary_files files;
    const std::string much = random_text(300'000, 4), content = random_text(100'000, 5);
    auto from = file::open(files.put("content", content));
    ASSERT_TRUE(from);
    std::string server_got;
    auto server = spawn([&] {
        EXPECT_TRUE(p.server.write(bytes("first")));
        server_got = read_all(p.server);
        EXPECT_TRUE(p.server.write(bytes(much)));
        EXPECT_FALSE(p.server.close_write());
    });
    std::byte first[5];
    EXPECT_TRUE(read_full(p.client, first));
    EXPECT_TRUE(p.client.write(bytes(much)));
    std::string a = "one ", b, c = "three";
    const ::iovec pieces[] = {{a.data(), a.size()}, {b.data(), b.size()}, {c.data(), c.size()}};
    EXPECT_TRUE(p.client.writev(pieces));
    copy_info how;
    EXPECT_EQ(copy(p.client, *from, how).value_or(0), content.size());
    EXPECT_EQ(how.method, p.client.state()->ktls ? copy_method::sendfile : copy_method::buffer);
    EXPECT_EQ(how.bytes, content.size());
    EXPECT_FALSE(p.client.close_write());
    EXPECT_EQ(p.client.write(bytes("x")).error(), std::errc::broken_pipe);
    EXPECT_TRUE(read_all(p.client) == much);
    server.join();
    EXPECT_TRUE(server_got == much + "one three" + content);
    std::byte more;
    EXPECT_EQ(p.server.read({&more, 1}).value_or(1), 0u); // it was a close_notify
}
constexpr const char* suites[] = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"};

bool kernel_has_tls() {
    tcp_pair p = connect_local();
    return ::setsockopt(p.client.native_handle(), IPPROTO_TCP, TCP_ULP, "tls", sizeof "tls") == 0;
}
/// How many sockets the kernel has encrypted for, by its own count; 0 where it does not count.
int encrypted_by_the_kernel() {
    std::ifstream f("/proc/net/tls_stat");
    int all = 0, n;
    for (std::string name; f >> name >> n;)
        if (name == "TlsTxSw" || name == "TlsTxDevice") all += n;
    return all;
}

/// With whatever kernel there is.
TEST_P(tls_stream, lets_the_kernel_encrypt_where_it_can) {
    run([] {
        const bool can = kernel_has_tls();
        RecordProperty("kernel_tls", can);
        std::cout << (can ? "the kernel encrypts\n" : "the kernel has no TLS: OpenSSL encrypts\n");
        EXPECT_TRUE(can || !std::getenv("MPG_TEST_WHOLE_KERNEL")); // set by scripts/vm-test
        const int before = encrypted_by_the_kernel();
        for (const char* suite : suites) {
            auto p = tls_local(client_config({.suites = suite, .ktls = true}), server_config({.ktls = true}));
            expect_carries_all(p);
            ASSERT_TRUE(p.client.state() && p.server.state());
            EXPECT_EQ(p.client.state()->cipher, suite);
            EXPECT_EQ(p.client.state()->ktls, can);
            EXPECT_EQ(p.server.state()->ktls, can);
        }
        for (auto [client, server] : {std::pair(true, false), std::pair(false, true)}) { // also one side alone
            auto p = tls_local(client_config({.ktls = client}), server_config({.ktls = server}));
            expect_carries_all(p);
            EXPECT_EQ(p.client.state()->ktls, can && client);
            EXPECT_EQ(p.server.state()->ktls, can && server);
        }
        auto old = tls_local(client_config({.max_version = tls::version::tls1_2, .ktls = true}), server_config({.ktls = true}));
        expect_carries_all(old);
        EXPECT_FALSE(old.client.state()->ktls || old.server.state()->ktls);
        auto upper = tls_local(client_config(), server_config()); // not over TCP
        tls_pair q{tls::stream(std::move(upper.client), client_config({.ktls = true}), "localhost"),
                   tls::stream(std::move(upper.server), server_config({.ktls = true}))};
        expect_carries_all(q);
        EXPECT_FALSE(q.client.state()->ktls || q.server.state()->ktls);
        // Each socket that said so above, and no other.
        EXPECT_EQ(encrypted_by_the_kernel() - before, can ? 8 : 0);
    });
}

struct kernel_that_encrypts : ::testing::TestWithParam<unsigned> {
    template <class F> void run(F f) {
        options o;
        o.procs = GetParam();
        o.backend = netpoll::epoll;
        mpg::run(o, f);
    }
};
INSTANTIATE_TEST_SUITE_P(procs, kernel_that_encrypts, ::testing::Values(1u, 4u));

/// The keys that we hand over are right: OpenSSL on the other side understands what is made with them.
TEST_P(kernel_that_encrypts, gets_keys_with_which_the_peer_can_read) {
    run([] {
        int asked = 0;
        for (const char* suite : suites)
            for (auto [client, server] : {std::pair(true, true), std::pair(true, false), std::pair(false, true)})
                for (const bool resume : {true, false}) { // tickets take numbers of records
                    kernel_tls kernel;
                    auto p = tls_local(client_config({.suites = suite, .ktls = client}), server_config({.resume = resume, .ktls = server}));
                    expect_carries_all(p);
                    ASSERT_TRUE(p.client.state() && p.server.state());
                    EXPECT_EQ(p.client.state()->ktls, client);
                    EXPECT_EQ(p.server.state()->ktls, server);
                    EXPECT_EQ(kernel.asked(), client + server);
                    EXPECT_EQ(kernel.taken(), client + server);
                    EXPECT_EQ(kernel.alerts(), client + server);
                    EXPECT_GE(kernel.records(), 20); // of 16 KiB
                    asked += kernel.asked();
                }
        EXPECT_EQ(asked, 24);
    });
}

TEST_P(kernel_that_encrypts, is_not_asked_again_where_there_is_none) {
    run([] {
        for (const auto& [error, times] : {std::pair(ENOENT, 1), std::pair(EPERM, 2)}) {
            kernel_tls kernel(error);
            const auto client = client_config(), server = server_config({.ktls = true});
            for (int i = 0; i != 2; ++i) {
                auto p = tls_local(client, server);
                expect_carries_all(p);
                EXPECT_FALSE(p.server.state()->ktls);
            }
            EXPECT_EQ(kernel.asked(), times);
            EXPECT_EQ(kernel.taken(), 0);
        }
    });
}

/// A peer that wants new keys is told why that does not go, and nothing is sent with the old ones.
TEST_P(kernel_that_encrypts, does_not_change_keys) {
    run([] {
        kernel_tls kernel;
        auto l = tls::listener::bind("127.0.0.1:0", server_config({.ktls = true}));
        ASSERT_TRUE(l);
        auto peer = spawn([to = l->local_endpoint()] {
            auto below = net::tcp_stream::connect(to);
            ASSERT_TRUE(below);
            blocking([&] {
                const tls::detail::ssl_ctx_ptr ctx(SSL_CTX_new(TLS_client_method()));
                const tls::detail::ssl_ptr ssl(SSL_new(ctx.get()));
                SSL_set_fd(ssl.get(), below->native_handle());
                ASSERT_EQ(SSL_connect(ssl.get()), 1);
                char c = 'x';
                EXPECT_EQ(SSL_write(ssl.get(), &c, 1), 1);
                EXPECT_EQ(SSL_read(ssl.get(), &c, 1), 1);
                EXPECT_EQ(SSL_key_update(ssl.get(), SSL_KEY_UPDATE_REQUESTED), 1);
                EXPECT_EQ(SSL_write(ssl.get(), &c, 1), 1);
                EXPECT_LE(SSL_read(ssl.get(), &c, 1), 0);
                EXPECT_EQ(ERR_GET_REASON(ERR_get_error()), SSL_R_TLSV1_ALERT_INTERNAL_ERROR);
                ERR_clear_error();
            });
        });
        auto s = l->accept();
        ASSERT_TRUE(s);
        std::byte b;
        EXPECT_EQ(s->read({&b, 1}).value_or(0), 1u);
        EXPECT_TRUE(s->state()->ktls);
        EXPECT_TRUE(s->write({&b, 1}));
        auto n = s->read({&b, 1}); // what stands behind the request may come first
        if (n) n = s->read({&b, 1});
        ASSERT_FALSE(n);
        EXPECT_EQ(n.error(), tls::errc::new_keys) << n.error().message();
        EXPECT_EQ(s->write({&b, 1}).error(), tls::errc::new_keys);
        peer.join();
        EXPECT_EQ(kernel.records(), 1);
        EXPECT_EQ(kernel.alerts(), 1);
        s->close();
    });
}

/// On plain threads, without a runtime.
TEST_P(tls_stream, that_is_closed_while_it_is_looked_at_is_not_taken_for_another) {
    run([] {
        using tls::detail::transport;
        auto has_bytes = connect_local();
        ASSERT_TRUE(has_bytes.server.write(bytes("x")));
        const int other = has_bytes.client.native_handle();
        std::byte one;
        ASSERT_EQ(blocking([&] { return ::recv(other, &one, 1, MSG_PEEK); }), 1);
        for (bool discards : {false, true}) {
            auto quiet = connect_local();
            tls::detail::transport_over<net::tcp_stream> t(std::move(quiet.client));
            const closed_in_recv closes([&] { t.close(); }, other);
            if (discards)
                t.discard_input();
            else
                EXPECT_NE(t.peek(), transport::coming::bytes);
            EXPECT_LT(::fcntl(closes.number(), F_GETFD), 0); // closed, once nobody looked any more
            EXPECT_EQ(::recv(other, &one, 1, MSG_PEEK | MSG_DONTWAIT), 1);
        }
    });
}

TEST(tls_thread, works) {
    auto p = tls_local(client_config(), server_config());
    std::thread server([&] {
        std::byte b[4];
        EXPECT_TRUE(read_full(p.server, b));
        EXPECT_TRUE(p.server.write(b));
    });
    EXPECT_TRUE(p.client.write(bytes("ping")));
    std::byte b[4];
    EXPECT_TRUE(read_full(p.client, b));
    EXPECT_EQ(text(b), "ping");
    server.join();
}

TEST(tls_ticket_keys, are_used_for_an_hour_and_known_for_three) {
    using keys = tls::detail::ticket_keys;
    keys k;
    const auto first = *k.current(0);
    EXPECT_EQ(k.current(keys::used_for - 1)->name, first.name);
    const auto second = *k.current(keys::used_for);
    EXPECT_NE(second.name, first.name);
    EXPECT_NE(second.cipher, first.cipher);
    EXPECT_EQ(k.find(first.name, keys::known_for - 1)->mac, first.mac);
    EXPECT_FALSE(k.find(first.name, keys::known_for));
    EXPECT_TRUE(k.find(second.name, keys::known_for));
    EXPECT_FALSE(k.find({}, 0));
}

TEST(tls_config, bad_options) {
    const pem_pair a = test_root().issue(), b = test_root().issue();
    EXPECT_FALSE(tls::certificate::from_pem(a.certificate, b.key));
    EXPECT_FALSE(tls::certificate::from_pem("", a.key));
    EXPECT_FALSE(tls::certificate::from_pem(a.certificate + "-----BEGIN CERTIFICATE-----\nx\n", a.key));
    EXPECT_FALSE(tls::certificate::from_pem(a.certificate, "nothing"));
    EXPECT_EQ(tls::certificate::from_files("/nowhere", "/nowhere").error(),
              std::errc::no_such_file_or_directory);
    EXPECT_FALSE(tls::roots::from_pem("nothing"));
    EXPECT_FALSE(tls::config::server({}));
    EXPECT_FALSE(tls::config::client({.alpn = {""}}));
    EXPECT_FALSE(tls::config::client({.ciphers = "nonsense"}));
    EXPECT_FALSE(tls::config::client({.suites = "nonsense"}));
    EXPECT_TRUE(tls::config::client());
}

} // namespace
