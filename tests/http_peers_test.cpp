// HTTP and sockets with programs that are not ours: curl, ab, wrk, nginx on either side, Go's net/http, socat.
//
// ctest: needs:curl curl
// ctest: needs:ab apache2-utils
// ctest: needs:wrk wrk
// ctest: needs:nginx nginx-light
// ctest: needs:go golang-go
// ctest: needs:socat socat
#include "http_support.hpp"

#include <array>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <spawn.h>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

using namespace mpg::test;
using namespace std::chrono_literals;
using mpg::http::request;
using mpg::http::response;

extern char** environ;

namespace {

/// A program that runs beside us; killed when this goes.
class program {
  public:
    explicit program(std::vector<std::string> args) {
        int in[2], out[2];
        if (::pipe2(in, O_CLOEXEC) != 0 || ::pipe2(out, O_CLOEXEC) != 0) std::abort();
        ::posix_spawn_file_actions_t actions;
        ::posix_spawn_file_actions_init(&actions);
        ::posix_spawn_file_actions_adddup2(&actions, in[0], 0);
        for (int fd : {1, 2}) ::posix_spawn_file_actions_adddup2(&actions, out[1], fd);
        std::vector<char*> argv;
        for (std::string& a : args) argv.push_back(a.data());
        argv.push_back(nullptr);
        if (::posix_spawnp(&pid_, argv[0], &actions, nullptr, argv.data(), environ) != 0) pid_ = -1;
        ::posix_spawn_file_actions_destroy(&actions);
        ::close(in[0]);
        ::close(out[1]);
        in_ = in[1];
        out_ = out[0];
    }
    program(const program&) = delete;
    program& operator=(const program&) = delete;
    ~program() {
        if (pid_ > 0) ::kill(pid_, SIGKILL);
        (void)wait();
        end_input();
        ::close(out_);
    }
    void end_input() {
        if (in_ >= 0) ::close(std::exchange(in_, -1));
    }
    /// Blocks.
    std::string line() {
        std::string s;
        for (char c; ::read(out_, &c, 1) == 1 && c != '\n';) s += c;
        return s;
    }
    /// Gives it the input, and returns all of its output when it has ended. Blocks.
    std::string talk(const std::string& input) {
        std::thread writer([&] {
            ::sigset_t broken;
            ::sigemptyset(&broken);
            ::sigaddset(&broken, SIGPIPE);
            ::pthread_sigmask(SIG_BLOCK, &broken, nullptr);
            for (std::size_t at = 0; at != input.size();) {
                const ::ssize_t n = ::write(in_, input.data() + at, input.size() - at);
                if (n < 0) break;
                at += static_cast<std::size_t>(n);
            }
            end_input();
        });
        std::string all;
        std::array<char, 4096> part;
        for (::ssize_t n; (n = ::read(out_, part.data(), part.size())) > 0;)
            all.append(part.data(), static_cast<std::size_t>(n));
        writer.join();
        return all;
    }
    /// Its exit status.
    int wait() {
        int status = -1;
        if (pid_ > 0) ::waitpid(std::exchange(pid_, -1), &status, 0);
        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    }
    bool runs() { return pid_ > 0 && ::waitpid(pid_, nullptr, WNOHANG) == 0 ? true : (pid_ = -1, false); }

  private:
    ::pid_t pid_ = -1;
    int in_ = -1, out_ = -1;
};

/// What it says, in a task.
std::string output(std::vector<std::string> args, const std::string& input = "") {
    return mpg::blocking([&] {
        program p(std::move(args));
        return p.talk(input);
    });
}

struct folder {
    std::filesystem::path path;
    explicit folder(const char* name = "")
        : path(std::filesystem::temp_directory_path() / ("mpg_peers_" + std::to_string(::getpid()) + name)) {
        std::filesystem::create_directories(path);
    }
    folder(const folder&) = delete;
    folder& operator=(const folder&) = delete;
    ~folder() { std::filesystem::remove_all(path); }
    std::string operator/(const char* name) const { return (path / name).string(); }
};

void add_handlers(live_server& s) {
    s->handle("GET /ok", [](request&, response& res) { (void)res.write("ok"); });
    s->handle("POST /echo", [](request& req, response& res) {
        std::array<std::byte, 8192> buffer;
        while (auto n = req.body().read(buffer))
            if (*n == 0 || !res.write(std::span(buffer).first(*n))) break;
    });
    s->handle("GET /trailer", [](request&, response& res) {
        res.header("Trailer", "X-Sum");
        (void)res.write("body");
        res.trailer("X-Sum", "42");
    });
    s->handle("GET /never", [](request& req, response&) { req.ctx().done().recv(); });
}

/// On both pollers, with two processors.
template <class F> void with_each_poller(F f) {
    for (mpg::netpoll backend : {mpg::netpoll::io_uring, mpg::netpoll::epoll}) {
        mpg::options o;
        o.procs = 2;
        o.backend = backend;
        mpg::run(o, f);
    }
}

std::string fetched(mpg::http::client& c, std::string url, std::string body = "") {
    mpg::http::client_request r;
    r.method = body.empty() ? "GET" : "POST";
    r.url = std::move(url);
    r.body = std::move(body);
    auto got = c.fetch(std::move(r));
    if (!got) return got.error().message();
    auto all = got->body().read_all();
    return all ? *all : all.error().message();
}

/// nginx with a configuration in which PORT stands for its port; `base`: where it serves.
struct nginx {
    std::string base;
    std::unique_ptr<program> process;

    nginx(const folder& dir, const std::string& server) {
        for (int attempt = 0; attempt != 10; ++attempt) { // somebody else may take the port meanwhile
            const std::string at = listen_local().local_endpoint().to_string();
            std::string temporary;
            for (const char* what : {"client_body", "proxy", "fastcgi", "uwsgi", "scgi"})
                temporary += std::string(what) + "_temp_path " + (dir / what) + ";";
            std::ofstream(dir / "nginx.conf")
                << "daemon off; worker_processes 1; pid " << (dir / "pid") << "; error_log stderr crit;"
                << (::getuid() == 0 ? "user root;" : "") << "events { worker_connections 256; } http { access_log off;"
                << temporary << "client_max_body_size 10m; server { listen " << at << ";" << server << "} }";
            process = std::make_unique<program>(
                std::vector<std::string>{"nginx", "-e", "stderr", "-p", dir.path.string(), "-c", dir / "nginx.conf"});
            const auto to = *mpg::net::endpoint::parse(at);
            if (eventually([&] { return !process->runs() || mpg::net::tcp_stream::connect(to).has_value(); }) &&
                process->runs()) {
                base = "http://" + at;
                return;
            }
        }
        ADD_FAILURE() << "nginx does not start: " << process->talk("");
    }
    ~nginx() = default;
};

} // namespace

TEST(http_peers, curl) {
    with_each_poller([] {
        live_server s;
        add_handlers(s);
        s.start();
        const std::string url = "http://" + s.address().to_string();
        EXPECT_EQ(output({"curl", "-sS", "-w", "%{http_code} %{num_connects}\n", url + "/ok", url + "/ok"}),
                  "ok200 1\nok200 0\n");
        EXPECT_EQ(output({"curl", "-sS", "--http1.0", url + "/ok"}), "ok");
        EXPECT_NE(output({"curl", "-sS", "-I", url + "/ok"}).find("Content-Length: 2\r\n"), std::string::npos);
        EXPECT_EQ(output({"curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", url + "/nothing"}), "404");
        const std::string big(3'000'000, 'b');
        for (const char* how : {"Expect: 100-continue", "Transfer-Encoding: chunked"})
            EXPECT_TRUE(output({"curl", "-sS", "-H", how, "-X", "POST", "--data-binary", "@-", url + "/echo"}, big) == big)
                << how;
        EXPECT_EQ(output({"curl", "-sS", "-m", "0.05", "-o", "/dev/null", "-w", "%{exitcode}", url + "/never"})
                      .substr(0, 8),
                  "curl: (2");
    });
}

TEST(http_peers, ab) {
    with_each_poller([] {
        live_server s;
        add_handlers(s);
        s.start();
        const std::string url = "http://" + s.address().to_string() + "/ok";
        for (const bool keep : {true, false}) {
            std::vector<std::string> args = {"ab", "-q", "-n", "1000", "-c", "20", url};
            if (keep) args.insert(args.begin() + 1, "-k");
            const std::string said = output(args);
            EXPECT_NE(said.find("Complete requests:      1000\n"), std::string::npos) << said;
            EXPECT_NE(said.find("Failed requests:        0\n"), std::string::npos) << said;
            if (keep) {
                EXPECT_NE(said.find("Keep-Alive requests:    1000\n"), std::string::npos) << said;
            }
        }
    });
}

TEST(http_peers, wrk) {
    folder dir;
    std::ofstream(dir / "pipelined.lua") << "init = function() local one = wrk.format('GET', '/ok'); batch = one:rep(16) end\n"
                                            "request = function() return batch end\n";
    with_each_poller([&] {
        live_server s;
        add_handlers(s);
        s.start();
        std::vector<std::string> args = {"wrk", "-t2", "-c50", "-d1s", "--timeout", "60s", "http://" + s.address().to_string() + "/ok"};
        for (const bool pipelined : {false, true}) {
            if (pipelined) args.insert(args.begin() + 1, {"-s", dir / "pipelined.lua"});
            const auto before = s->stats().requests_started;
            const std::string said = output(args);
            EXPECT_NE(said.find(" requests in "), std::string::npos) << said;
            EXPECT_EQ(said.find("Socket errors"), std::string::npos) << said;
            EXPECT_EQ(said.find("Non-2xx"), std::string::npos) << said;
            EXPECT_GT(s->stats().requests_started - before, 50u) << said;
        }
    });
}

TEST(http_peers, nginx_before_us_and_behind_us) {
    folder dir;
    const std::string big(1'000'000, 'n');
    std::ofstream(dir / "file") << big;
    with_each_poller([&] {
        live_server s;
        add_handlers(s);
        mpg::http::client client;
        nginx behind(dir, "location = /ok { return 200 ok; } location /files/ { alias " + dir.path.string() +
                              "/; } location = /moved { return 302 /ok; }");
        EXPECT_EQ(fetched(client, behind.base + "/ok"), "ok");
        EXPECT_EQ(fetched(client, behind.base + "/moved"), "ok");
        EXPECT_TRUE(fetched(client, behind.base + "/files/file") == big);
        s->handle("GET /proxy/{rest...}", [&](request& req, response& res) {
            auto r = client.get(behind.base + "/" + std::string(req.path_value("rest")), req.ctx());
            if (!r) return void(res.status(502));
            res.status(r->status());
            std::array<std::byte, 8192> buffer;
            while (auto n = r->body().read(buffer))
                if (*n == 0 || !res.write(std::span(buffer).first(*n))) break;
        });
        s.start();
        EXPECT_TRUE(fetched(client, "http://" + s.address().to_string() + "/proxy/files/file") == big);

        folder front("_front");
        nginx before(front, "location / { proxy_pass http://" + s.address().to_string() +
                                "; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_request_buffering off; }");
        EXPECT_EQ(fetched(client, before.base + "/ok"), "ok");
        EXPECT_TRUE(fetched(client, before.base + "/echo", big) == big);
        EXPECT_EQ(fetched(client, before.base + "/trailer"), "body");
        const std::string said = output({"ab", "-q", "-k", "-n", "300", "-c", "10", before.base + "/ok"});
        EXPECT_NE(said.find("Failed requests:        0\n"), std::string::npos) << said;
        EXPECT_EQ(said.find("Non-2xx"), std::string::npos) << said;
    });
}

TEST(http_peers, go) {
    folder dir;
    ASSERT_EQ(std::system(("cd " MPG_SOURCE_DIR "/tests/peers && GOFLAGS=-mod=mod GO111MODULE=off go build -o " +
                           (dir / "peer") + " main.go")
                              .c_str()),
              0);
    with_each_poller([&] {
        live_server s;
        add_handlers(s);
        s.start();
        EXPECT_EQ(output({dir / "peer", "ask", "http://" + s.address().to_string()}), "ok\n");

        program go_server({dir / "peer", "serve"});
        const std::string url = "http://" + mpg::blocking([&] { return go_server.line(); });
        mpg::http::client client;
        for (int i = 0; i != 50; ++i) ASSERT_EQ(fetched(client, url + "/ok"), "ok");
        EXPECT_EQ(fetched(client, url + "/moved"), "ok");
        const std::string big(1'000'000, 'g');
        EXPECT_TRUE(fetched(client, url + "/echo", big) == big);
        EXPECT_FALSE(client.get(url + "/gone"));
        mpg::http::client_request r;
        r.method = "POST";
        r.url = url + "/echo";
        r.stream = [left = 10](std::span<std::byte> to) mutable -> mpg::result<std::size_t> {
            if (left-- == 0) return std::size_t{0};
            to[0] = std::byte{'s'};
            return std::size_t{1};
        };
        auto got = client.fetch(std::move(r));
        ASSERT_TRUE(got) << got.error().message();
        EXPECT_EQ(*got->body().read_all(), "ssssssssss");
        std::vector<mpg::task<void>> many;
        for (int i = 0; i != 20; ++i)
            many.push_back(mpg::spawn([&] {
                for (int j = 0; j != 20; ++j) EXPECT_EQ(fetched(client, url + "/ok"), "ok");
            }));
        for (auto& t : many) t.join();
    });
}

TEST(http_peers, socat) {
    folder dir;
    with_each_poller([&] {
        live_server s;
        add_handlers(s);
        s.start();
        const std::string tcp = "TCP:" + s.address().to_string();
        const std::string said =
            output({"socat", "-t5", "-", tcp}, "GET /ok HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        EXPECT_TRUE(said.ends_with("\r\n\r\nok")) << said;

        const std::string path = dir / "socket";
        {
            auto l = mpg::net::unix_listener::bind(path);
            ASSERT_TRUE(l);
            auto server = mpg::spawn([&] {
                auto c = l->accept();
                (void)mpg::copy(*c, *c);
            });
            EXPECT_EQ(output({"socat", "-t5", "-", "UNIX-CONNECT:" + path}, "over a path"), "over a path");
            server.join();
        }
        {
            auto l = mpg::net::unix_seqpacket_listener::bind(path);
            ASSERT_TRUE(l);
            auto server = mpg::spawn([&] {
                auto c = l->accept();
                std::array<std::byte, 100> buffer;
                const auto n = c->recv(buffer);
                EXPECT_TRUE(c->send(std::span(buffer).first(*n)));
            });
            EXPECT_EQ(output({"socat", "-t5", "-", "UNIX-CONNECT:" + path + ",type=5"}, "a packet"), "a packet");
            server.join();
        }
        auto udp = mpg::net::udp_socket::bind("127.0.0.1:0");
        ASSERT_TRUE(udp);
        auto server = mpg::spawn([&] {
            std::array<std::byte, 100> buffer;
            mpg::net::endpoint from;
            const auto n = udp->recv_from(buffer, from);
            EXPECT_TRUE(udp->send_to(std::span(buffer).first(*n), from));
        });
        EXPECT_EQ(output({"socat", "-t0.2", "-", "UDP:" + udp->local_endpoint().to_string()}, "a datagram"),
                  "a datagram");
        server.join();
    });
}
