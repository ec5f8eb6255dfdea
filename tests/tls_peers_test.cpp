// TLS against others: OpenSSL's own programs, curl, Go; and HTTPS, between two of ours and with curl.
// ctest: tls
// ctest: needs:openssl openssl
// ctest: needs:curl curl
// ctest: needs:go golang-go
#include "http_support.hpp"
#include "shell.hpp"
#include "tls_support.hpp"

#include <mpg/http.hpp>
#include <mpg/sync.hpp>

#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <memory>
#include <mutex>
#include <string_view>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace std::chrono_literals;
using namespace mpg;
using namespace mpg::test;

namespace {

struct tls_peers : with_pollers {
    static std::vector<io_setup> setups() { return {{2, netpoll::io_uring}, {2, netpoll::epoll}}; }
};
INSTANTIATE_TEST_SUITE_P(io, tls_peers, ::testing::ValuesIn(tls_peers::setups()), [](const auto& of) {
    return std::string(to_string(of.param.backend)) + "_" + std::to_string(of.param.procs);
});

/// What a shell command writes, and "exit N" when it fails.
std::string shell(const std::string& command) {
    return blocking([&] {
        int rc = 0;
        std::string out = mpg::test::shell(command, &rc);
        if (rc != 0) out += "exit " + std::to_string(rc);
        return out;
    });
}

/// A program that says where it listens; ended with this object.
class other_server {
  public:
    explicit other_server(const std::string& command) {
        const std::string text = "exec " + command + " 2>&1";
        int said[2];
        EXPECT_EQ(::pipe2(said, O_CLOEXEC), 0);
        pid_ = ::fork();
        if (pid_ == 0) {
            ::prctl(PR_SET_PDEATHSIG, SIGKILL);
            ::dup2(said[1], 1);
            ::execl("/bin/sh", "sh", "-c", text.c_str(), nullptr);
            ::_exit(127);
        }
        ::close(said[1]);
        from_ = ::fdopen(said[0], "r");
    }
    other_server(const other_server&) = delete;
    other_server& operator=(const other_server&) = delete;
    ~other_server() {
        ::kill(pid_, SIGKILL);
        blocking([&] { ::waitpid(pid_, nullptr, 0); });
        std::fclose(from_);
    }
    /// The rest of the first line with that beginning.
    std::string line(std::string_view beginning) {
        return blocking([&] {
            char text[1000];
            while (std::fgets(text, sizeof text, from_))
                if (std::string_view(text).starts_with(beginning)) {
                    std::string rest(text + beginning.size());
                    return rest.substr(0, rest.find_first_of("\r\n"));
                }
            return std::string("nothing");
        });
    }

  private:
    ::pid_t pid_ = -1;
    std::FILE* from_ = nullptr;
};

/// Gives back what comes, until the end.
class echo_server {
  public:
    explicit echo_server(tls::config c)
        : listener_(*tls::listener::bind("127.0.0.1:0", std::move(c))) {
        tasks_.go([this] {
            while (auto s = listener_.accept())
                tasks_.go([s = std::make_shared<tls::stream>(std::move(*s))] {
                    std::vector<std::byte> b(20'000);
                    for (;;) {
                        const auto n = s->read(b);
                        if (!n || *n == 0) break;
                        if (!s->write(std::span(b).first(*n))) return;
                    }
                    (void)s->close_write();
                });
        });
    }
    ~echo_server() { listener_.close(); }
    std::string address() const { return listener_.local_endpoint().to_string(); }

  private:
    tls::listener listener_;
    scope tasks_;
};

std::string through(tls::stream& s, const std::string& data) {
    auto writer = spawn([&] { return bool(s.write(bytes(data))) && !s.close_write(); });
    std::string back = read_all(s);
    EXPECT_TRUE(writer.join());
    return back;
}

std::string random_text(std::size_t n) {
    std::mt19937_64 g(seed());
    std::string s(n, '\0');
    for (char& c : s) c = static_cast<char>(g());
    return s;
}

// ---- OpenSSL's programs

TEST_P(tls_peers, openssl_s_client) {
    run([] {
        const temporary_files dir;
        const std::string roots = dir.put("roots.pem", test_root().pem());
        const std::string other = dir.put("other.pem", authority("Other").pem());
        echo_server s(server_config({.alpn = {"echo"}}));
        const std::string command = "printf 'hello\\n' | openssl s_client -connect " + s.address() +
                                    " -servername localhost -verify_return_error ";
        for (const char* version : {"-tls1_2", "-tls1_3"}) {
            // -quiet waits for the server's end after its own; so it has to be told.
            const std::string said = shell(command + "-verify_hostname localhost -alpn echo -brief -CAfile " +
                                           roots + ' ' + version);
            EXPECT_NE(said.find("Verification: OK"), std::string::npos) << said;
            EXPECT_NE(said.find("Verified peername: localhost"), std::string::npos) << said;
        }
        EXPECT_NE(shell(command + "-brief -CAfile " + other).find("unable to get local issuer"),
                  std::string::npos);
        // A session is written to a file and resumed.
        const std::string session = dir.path() + "/session",
                          full = command + "-CAfile " + roots + " -tls1_2 ";
        EXPECT_NE(shell(full + "-sess_out " + session).find("New, TLSv1.2"), std::string::npos);
        EXPECT_NE(shell(full + "-sess_in " + session).find("Reused, TLSv1.2"), std::string::npos);
        EXPECT_NE(shell("openssl s_client -tls1_1 -connect " + s.address() + " </dev/null").find("alert"),
                  std::string::npos);
    });
}

TEST_P(tls_peers, openssl_s_server) {
    run([] {
        const temporary_files dir;
        const pem_pair p = test_root().issue();
        other_server s("openssl s_server -accept 127.0.0.1:0 -rev -alpn echo -cert " +
                       dir.put("c.pem", p.certificate) + " -key " + dir.put("k.pem", p.key));
        const std::string address = s.line("ACCEPT ");
        for (auto v : {tls::version::tls1_2, tls::version::tls1_3}) {
            const auto config =
                client_config({.server_name = "localhost", .alpn = {"echo"}, .max_version = v});
            for (int round = 0; round != 3; ++round) {
                auto c = tls::stream::connect(address, config);
                ASSERT_TRUE(c) << c.error().message();
                EXPECT_EQ(c->state()->alpn, "echo");
                EXPECT_EQ(c->state()->version, v);
                EXPECT_EQ(c->state()->resumed, round != 0);
                ASSERT_TRUE(c->write(bytes("hello\n")));
                std::byte b[6];
                ASSERT_TRUE(read_full(*c, b));
                EXPECT_EQ(text(b), "olleh\n");
                ASSERT_FALSE(c->close_write());
                EXPECT_EQ(read_all(*c), "");
            }
        }
    });
}

/// OpenSSL as it is used without us: blocking, on a thread of its own.
class plain_openssl {
  public:
    explicit plain_openssl(const net::tcp_stream& s)
        : ctx_(SSL_CTX_new(TLS_client_method()))
        , ssl_(SSL_new(ctx_.get())) {
        SSL_set_fd(ssl_.get(), s.native_handle());
    }
    SSL* get() const { return ssl_.get(); }

  private:
    tls::detail::ssl_ctx_ptr ctx_;
    tls::detail::ssl_ptr ssl_;
};

TEST_P(tls_peers, keys_change_on_the_way) {
    run([] {
        auto below = connect_local();
        tls::stream server(std::move(below.server), server_config());
        std::string got;
        std::thread peer([&] {
            plain_openssl c(below.client);
            EXPECT_EQ(SSL_connect(c.get()), 1);
            char b[1000];
            for (int i = 0; i != 200; ++i) {
                EXPECT_EQ(SSL_key_update(c.get(), SSL_KEY_UPDATE_REQUESTED), 1);
                EXPECT_EQ(SSL_write(c.get(), "0123456789", 10), 10);
                const int n = SSL_read(c.get(), b, sizeof b);
                EXPECT_GT(n, 0);
                got.append(b, static_cast<std::size_t>(std::max(n, 0)));
            }
            SSL_shutdown(c.get());
            below.client.close();
        });
        std::byte b[10];
        int rounds = 0;
        for (; read_full(server, b); ++rounds) EXPECT_TRUE(server.write(b));
        blocking([&] { peer.join(); });
        EXPECT_EQ(rounds, 200);
        EXPECT_EQ(got.size(), 2000u);
    });
}

/// Who wants answers and takes none is cut off.
TEST_P(tls_peers, keys_changed_without_end) {
    ::signal(SIGPIPE, SIG_IGN); // plain OpenSSL's writes
    run([] {
        auto below = connect_local();
        tls::stream server(std::move(below.server), server_config());
        std::thread peer([&] {
            plain_openssl c(below.client);
            EXPECT_EQ(SSL_connect(c.get()), 1);
            EXPECT_EQ(SSL_write(c.get(), "x", 1), 1);
            while (SSL_key_update(c.get(), SSL_KEY_UPDATE_REQUESTED) == 1 && SSL_do_handshake(c.get()) == 1) {
            }
        });
        std::byte b[1];
        ASSERT_EQ(server.read(b).value_or(0), 1u);
        auto writer = spawn([&] { return server.write(bytes(std::string(64 << 20, 'x'))); });
        const auto n = server.read(b);
        ASSERT_FALSE(n);
        EXPECT_EQ(n.error(), tls::errc::too_many_messages);
        server.close();
        const auto written = writer.join(); // it may have found room once more before the end
        ASSERT_FALSE(written);
        EXPECT_TRUE(written.error() == mpg::errc::closed || written.error() == tls::errc::too_many_messages)
            << written.error().message();
        blocking([&] { peer.join(); });
    });
    ::signal(SIGPIPE, SIG_DFL);
}

// ---- Go

TEST_P(tls_peers, go_crypto_tls) {
    run([] {
        const temporary_files dir;
        const std::string program = dir.path() + "/tls_peer";
        ASSERT_EQ(shell("cd " + dir.path() + " && GO111MODULE=off go build -o " + program +
                        " " MPG_SOURCE_DIR "/tests/tls_peer.go"),
                  "");
        const std::string roots = dir.put("roots.pem", test_root().pem());
        {
            echo_server s(server_config({.alpn = {"echo"}}));
            for (const std::string version : {"303", "304"})
                EXPECT_EQ(shell(program + " client " + s.address() + ' ' + roots + " 3 " + version),
                          version + " false echo\n" + version + " true echo\n" + version + " true echo\n");
        }
        const pem_pair p = test_root().issue();
        other_server s(program + " server " + dir.put("c.pem", p.certificate) + ' ' +
                       dir.put("k.pem", p.key));
        const std::string address = s.line("");
        for (auto v : {tls::version::tls1_2, tls::version::tls1_3}) {
            const auto config =
                client_config({.server_name = "localhost", .alpn = {"echo"}, .max_version = v});
            for (int round = 0; round != 3; ++round) {
                auto c = tls::stream::connect(address, config);
                ASSERT_TRUE(c) << c.error().message();
                EXPECT_EQ(c->state()->resumed, round != 0);
                const std::string data = random_text(1 << 20);
                EXPECT_TRUE(through(*c, data) == data);
            }
        }
    });
}

// ---- HTTPS

class https_server {
  public:
    explicit https_server(tls::server_options o = {}, http::server_options h = {})
        : listener_(*tls::listener::bind("127.0.0.1:0", server_config(std::move(o))))
        , server_(h) {
        server_.handle("GET /ok", [](http::request&, http::response& res) { (void)res.write("ok"); });
        server_.handle("POST /echo", [](http::request& req, http::response& res) {
            std::byte b[5000];
            for (;;) {
                const auto n = req.body().read(b);
                if (!n || *n == 0) return;
                (void)res.write(std::span(b).first(*n));
            }
        });
    }
    void start() {
        serving_ = spawn([this] { return server_.serve(listener_); });
    }
    http::server* operator->() { return &server_; }
    std::string url(std::string_view path) const {
        return "https://localhost:" + std::to_string(listener_.local_endpoint().port()).append(path);
    }
    std::string address() const { return listener_.local_endpoint().to_string(); }
    std::error_code served() { return serving_.join(); }

  private:
    tls::listener listener_;
    http::server server_;
    task<std::error_code> serving_;
};

TEST_P(tls_peers, https_with_curl) {
    run([] {
        const temporary_files dir;
        const std::string roots = dir.put("roots.pem", test_root().pem());
        https_server s({.alpn = {"http/1.1"}});
        s.start();
        const std::string curl = "curl -sS --max-time 60 --noproxy '*' --cacert " + roots + ' ';
        EXPECT_EQ(shell(curl + s.url("/ok")), "ok");
        EXPECT_EQ(shell(curl + "-w '%{num_connects} ' " + s.url("/ok") + ' ' + s.url("/ok")), "ok1 ok0 ");
        EXPECT_EQ(shell(curl + "--tls-max 1.2 " + s.url("/ok")), "ok");
        const std::string data = dir.put("data", random_text(3 << 20));
        EXPECT_EQ(shell(curl + "--data-binary @" + data + " -o " + data + ".back " + s.url("/echo") +
                        " && cmp " + data + ' ' + data + ".back"),
                  "");
        EXPECT_NE(shell("curl -sS --noproxy '*' " + s.url("/ok")).find("exit 60"), std::string::npos);
        EXPECT_NE(shell("curl -sS --noproxy '*' http" + s.url("/ok").substr(5)).find("exit"),
                  std::string::npos);
        EXPECT_FALSE(s->shutdown(with_timeout(context::background(), 30s)));
        EXPECT_EQ(s.served(), mpg::errc::server_closed);
    });
}

TEST_P(tls_peers, https_between_two_of_ours) {
    run([] {
        const authority people("People");
        https_server s({.client = tls::client_certificates::verify_if_given, .client_roots = people.roots()});
        s->handle("GET /who", [](http::request& req, http::response& res) {
            const tls::connection_state* state = tls::state_of(req);
            (void)res.write(!state ? "no TLS" : state->peer ? state->peer.subject() : state->server_name);
        });
        s->handle("GET /hijack", [](http::request&, http::response& res) {
            auto h = res.hijack();
            EXPECT_TRUE(h.is_open());
            EXPECT_TRUE(h.write(bytes("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n")));
            std::byte b[4];
            EXPECT_TRUE(read_full(h, b));
            EXPECT_TRUE(h.write(b));
            EXPECT_FALSE(h.shutdown_write());
        });
        s->handle("GET /there",
                  [&](http::request&, http::response& res) { res.status(302).header("Location", "/ok"); });
        s.start();
        http::client c({.tls = tls::for_http(client_config())});
        auto body = [](result<http::client_response> r) {
            if (!r) return r.error().message();
            return std::to_string(r->status()) + ' ' + r->body().read_all().value_or("broken");
        };
        EXPECT_EQ(body(c.get(s.url("/ok"))), "200 ok");
        EXPECT_EQ(body(c.get(s.url("/there"))), "200 ok");
        EXPECT_EQ(body(c.get(s.url("/who"))), "200 localhost");
        const std::string data = random_text(1 << 20);
        EXPECT_EQ(body(c.fetch({.method = "POST", .url = s.url("/echo"), .body = data})), "200 " + data);
        EXPECT_EQ(s->stats().connections_accepted, 1u); // one connection for all that
        http::client ann(
            {.tls = tls::for_http(client_config({.certificate = authority::load(people.issue("Ann"))}))});
        EXPECT_EQ(body(ann.get(s.url("/who"))), "200 CN=Ann");
        http::client stranger({.tls = tls::for_http(client_config({.roots = people.roots()}))});
        EXPECT_EQ(body(stranger.get(s.url("/ok"))), "certificate: unable to get local issuer certificate");
        EXPECT_EQ(http::get(s.url("/ok")).error(), std::errc::protocol_not_supported);

        auto raw = tls::stream::connect(s.address(), client_config());
        ASSERT_TRUE(raw) << raw.error().message();
        ASSERT_TRUE(raw->write(bytes("GET /hijack HTTP/1.1\r\nHost: a\r\n\r\nping")));
        const std::string got = read_all(*raw);
        EXPECT_EQ(got.substr(got.size() - 8), "\r\n\r\nping");
    });
}

TEST_P(tls_peers, https_through_a_proxy) {
    run([] {
        https_server s;
        s.start();
        auto l = listen_local();
        mpg::mutex m; // guards these two: a connection orders what is done on both sides, but only the kernel knows
        std::string heads, answer = "200 Connection established";
        auto answers = [&](std::string_view with) {
            std::lock_guard hold(m);
            answer = with;
        };
        scope proxy;
        proxy.go([&] {
            while (auto from = l.accept()) {
                std::string head;
                for (std::byte b[1]; !head.ends_with("\r\n\r\n") && read_full(*from, b);) head += text(b);
                auto to = net::tcp_stream::connect(s.address());
                ASSERT_TRUE(to);
                {
                    std::lock_guard hold(m);
                    heads += head;
                    head = "HTTP/1.1 " + answer + "\r\nVia: me\r\n\r\n";
                }
                ASSERT_TRUE(from->write(bytes(head)));
                auto back = spawn([&] {
                    (void)copy(*from, *to);
                    from->close();
                });
                (void)copy(*to, *from);
                to->close();
                back.join();
            }
        });
        {
            http::client c({.proxy = "http://u:p@" + l.local_endpoint().to_string(),
                            .tls = tls::for_http(client_config())});
            for (int i = 0; i != 3; ++i) {
                auto r = c.get(s.url("/ok"));
                ASSERT_TRUE(r) << r.error().message();
                EXPECT_EQ(r->body().read_all().value_or(""), "ok");
            }
            const std::string name = s.url("").substr(8);
            {
                std::lock_guard hold(m);
                EXPECT_EQ(heads, "CONNECT " + name + " HTTP/1.1\r\nHost: " + name +
                                     "\r\nProxy-Authorization: Basic dTpw\r\n\r\n");
            }
            c.close_idle();
            {
                std::lock_guard hold(m);
                heads.clear();
            }
            { // a zone means something to this machine only: no proxy is told
                http::client any({.proxy = "http://" + l.local_endpoint().to_string(),
                                  .tls = tls::for_http(client_config({.verify = tls::verification::none}))});
                auto r = any.get("https://[fe80::1%25lo]/ok");
                ASSERT_TRUE(r) << r.error().message();
                EXPECT_EQ(r->body().read_all().value_or(""), "ok");
            }
            {
                std::lock_guard hold(m);
                EXPECT_EQ(heads, "CONNECT [fe80::1]:443 HTTP/1.1\r\nHost: [fe80::1]:443\r\n\r\n");
            }
            answers("407 Who are you");
            EXPECT_EQ(c.get(s.url("/ok")).error(), std::errc::connection_refused);
            answers("200 Yes\r\n\r\nand more");
            EXPECT_EQ(c.get(s.url("/ok")).error(), std::errc::bad_message);
        }
        l.close();
        proxy.wait();
    });
}

TEST_P(tls_peers, https_is_not_held_up_by_who_says_nothing) {
    run([] {
        https_server s({}, {.read_header_timeout = 500ms}); // time enough for a handshake
        s.start();
        auto silent = net::tcp_stream::connect(s.address());
        ASSERT_TRUE(silent);
        http::client c({.tls = tls::for_http(client_config())});
        EXPECT_TRUE(c.get(s.url("/ok")));
        std::byte b[1];
        EXPECT_EQ(silent->read(b).value_or(0), 0u); // the server has closed it
    });
}

} // namespace
