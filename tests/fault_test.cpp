// What the system can refuse: out of descriptors, memory or ports, interrupted calls, short transfers, resets at each
// byte. Nothing leaks (the fixture looks), nothing hangs, and a server goes on.
// ctest: own-macros
#define MPG_IO_SYSCALLS "faults.hpp"
#include "http_support.hpp"

#include <mpg/context.hpp>
#include <mpg/io.hpp>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <string>
#include <system_error>
#include <vector>

using namespace mpg::test;
using namespace std::chrono_literals;
using mpg::http::request;
using mpg::http::response;

struct faults : with_pollers {};
MPG_TEST_IO(faults);

namespace {

constexpr std::string_view post = "POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n0123456789";

void add_echo(live_server& s) {
    s->handle("GET /ok", [](request&, response& res) { (void)res.write("ok"); });
    s->handle("POST /echo", [](request& req, response& res) {
        auto body = req.body().read_all();
        if (body) (void)res.write(*body);
    });
}

/// A client that the faults do not meet: plain system calls.
class outsider {
  public:
    explicit outsider(const mpg::net::endpoint& to)
        : fd_(::socket(to.family(), SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        connected_ = mpg::blocking([&] { return ::connect(fd_, to.data(), to.size()) == 0; });
    }
    outsider(const outsider&) = delete;
    outsider& operator=(const outsider&) = delete;
    ~outsider() { ::close(fd_); }

    bool connected() const { return connected_; }
    bool send(std::string_view bytes) {
        return ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<::ssize_t>(bytes.size());
    }
    void end() { ::shutdown(fd_, SHUT_WR); }
    /// n bytes, or less at the end of the stream.
    std::string read(std::size_t n) {
        std::string all(n, '\0');
        return mpg::blocking([&] {
            std::size_t at = 0;
            for (::ssize_t r; at != n && (r = ::recv(fd_, all.data() + at, n - at, 0)) > 0;)
                at += static_cast<std::size_t>(r);
            all.resize(at);
            return all;
        });
    }
    std::string get() {
        send("GET /ok HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        return read(4096);
    }
    void reset_connection() {
        const ::linger now{1, 0};
        ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    }

  private:
    int fd_;
    bool connected_ = false;
};

bool serves(live_server& s) { return outsider(s.address()).get().ends_with("\r\n\r\nok"); }
bool no_connection_is_left(live_server& s) {
    return eventually([&] {
        const auto n = s->connections();
        return n.active + n.idle == 0;
    });
}

} // namespace

TEST_P(faults, accepting_goes_on_when_the_system_has_nothing_left) {
    run([] {
        live_server s;
        add_echo(s);
        s.start();
        for (int error : {EMFILE, ENFILE, ENOBUFS, ENOMEM, ECONNABORTED, EPROTO, EINTR}) {
            fault f(call::accept4, error, 3);
            EXPECT_TRUE(serves(s)) << std::strerror(error);
            EXPECT_EQ(f.hits(), 3) << std::strerror(error);
        }
        EXPECT_TRUE(no_connection_is_left(s));
    });
}

/// Each call that can be interrupted is, every second time.
TEST_P(faults, interrupted_calls_are_repeated) {
    run([] {
        live_server s;
        add_echo(s);
        s.start();
        frequent a(call::accept4, EINTR, 2), b(call::recv, EINTR, 2), c(call::send, EINTR, 2),
            d(call::sendmsg, EINTR, 2), e(call::recvmsg, EINTR, 2), f(call::epoll_pwait2, EINTR, 2),
            g(call::io_uring_enter2, EINTR, 2), h(call::ppoll, EINTR, 2), i(call::read, EINTR, 2),
            j(call::write, EINTR, 2), k(call::splice, EINTR, 2), l(call::connect, EINTR, 2);
        for (int n = 0; n != 5; ++n) {
            http_peer p = s.connect();
            EXPECT_EQ(p.get("/ok").body, "ok");
            ASSERT_TRUE(p.send(post));
            EXPECT_EQ(p.read().body, "0123456789");
        }
        auto from = connect_local(), to = connect_local();
        const std::string data(300'000, 'd');
        auto sender = mpg::spawn([&] {
            EXPECT_TRUE(from.client.write(bytes(data)));
            from.client.close();
        });
        auto proxy = mpg::spawn([&] {
            EXPECT_EQ(*mpg::copy(to.client, from.server), data.size());
            to.client.close();
        });
        EXPECT_EQ(read_all(to.server), data);
        sender.join();
        proxy.join();
        EXPECT_GT(a.hits() + c.hits() + k.hits(), 3);
        EXPECT_GE(l.hits(), 2);
    });
}

/// Batches of datagrams, too: an error is that of one call, an interruption of none.
TEST_P(faults, datagrams_that_are_refused_are_lost_alone) {
    run([] {
        auto a = mpg::net::udp_socket::bind("127.0.0.1:0"), b = mpg::net::udp_socket::bind("127.0.0.1:0");
        ASSERT_TRUE(a && b);
        const auto to = b->local_endpoint();
        const std::vector<mpg::net::outgoing_datagram> two{{bytes("batch"), to}, {bytes("batch"), to}};
        std::byte rooms[2][16];
        std::vector<mpg::net::datagram> in(2);
        for (std::size_t i = 0; i != 2; ++i) in[i].buffer = rooms[i];
        mpg::net::endpoint from;
        auto all_arrive = [&] {
            ASSERT_EQ(*a->send_to(bytes("one"), to), 3u);
            ASSERT_EQ(*b->recv_from(rooms[0], from), 3u);
            ASSERT_EQ(*a->send_batch(two), 2u);
            for (std::size_t n = 0; n != 2;) n += b->recv_batch(std::span(in).subspan(n)).value_or(2);
            EXPECT_EQ(in[0].size + in[1].size, 10u);
        };
        for (int error : {ENOBUFS, ENOMEM, EPERM}) {
            const std::error_code expected(error, std::system_category());
            fault f(call::sendmsg, error), g(call::sendmmsg, error), h(call::recvmmsg, error);
            EXPECT_EQ(a->send_to(bytes("x"), to).error(), expected);
            EXPECT_EQ(a->send_batch(two).error(), expected);
            EXPECT_EQ(b->recv_batch(in).error(), expected);
            all_arrive();
        }
        frequent f(call::sendmsg, EINTR, 2), g(call::recvmsg, EINTR, 2), h(call::sendmmsg, EINTR, 2), i(call::recvmmsg, EINTR, 2);
        for (int n = 0; n != 4; ++n) all_arrive();
        EXPECT_GE(f.hits(), 3);
        EXPECT_GE(h.hits(), 3);
        EXPECT_GE(i.hits(), 3);
    });
}

TEST_P(faults, short_transfers_lose_nothing) {
    run([] {
        for (std::size_t most : {1u, 3u}) {
            live_server s;
            add_echo(s);
            s.start();
            http_peer p = s.connect();
            short_transfers few(most);
            std::string body;
            for (int i = 0; i != 400; ++i) body += std::to_string(i);
            ASSERT_TRUE(p.send("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: " +
                               std::to_string(body.size()) + "\r\n\r\n" + body));
            EXPECT_EQ(p.read().body, body);
            const ::iovec pieces[] = {{const_cast<char*>("GET /ok HTTP/1.1\r\n"), 18},
                                      {const_cast<char*>("Host: test\r\n\r\n"), 14}};
            ASSERT_EQ(*p.stream().writev(pieces), 32u);
            EXPECT_EQ(p.read().body, "ok");
        }
    });
}

TEST_P(faults, a_connection_whose_transfers_fail_ends_alone) {
    run([] {
        live_server s;
        add_echo(s);
        s.start();
        for (call c : {call::recv, call::send, call::sendmsg, call::ring_completion, call::epoll_ctl})
            for (int error : {ENOBUFS, ENOMEM, ECONNRESET, EPIPE, ETIMEDOUT})
                for (long skip : {0, 1, 2}) {
                    // Those of the poller may be the listener's, which no peer's error can reach.
                    const bool of_poller = c == call::ring_completion || c == call::epoll_ctl;
                    if (of_poller && error != ENOBUFS && error != ENOMEM) continue;
                    fault f(c, error, 1, skip);
                    outsider o(s.address());
                    ASSERT_TRUE(o.connected());
                    (void)o.send(post);
                    (void)o.send(post);
                    o.end();
                    const std::string got = o.read(1 << 16); // up to the end of the connection: it is not forgotten
                    EXPECT_TRUE(got.empty() || got.starts_with("HTTP/1.1 200 OK\r\n")) << got;
                }
        EXPECT_TRUE(no_connection_is_left(s));
        EXPECT_TRUE(serves(s));
    });
}

/// Wherever the operations wait: the one who cancels does not make a call for each one of another processor.
TEST_P(faults, one_context_ends_many_operations_with_few_calls) {
    run([] {
        constexpr int streams = 200, rounds = 9;
        std::vector<tcp_pair> pairs;
        auto l = listen_local();
        for (int i = 0; i != streams; ++i) pairs.push_back(connect_local(l));
        std::vector<long> calls;
        for (int round = 0; round != rounds; ++round) {
            auto ctx = mpg::with_cancel(mpg::context::background());
            std::atomic<int> cancelled{0};
            mpg::wait_group all;
            for (auto& p : pairs)
                for (auto* s : {&p.client, &p.server})
                    all.go([&, s] {
                        std::byte one;
                        cancelled += s->read(std::span(&one, 1), ctx).error() == mpg::errc::cancelled;
                    });
            EXPECT_TRUE(eventually([&] { return mpg::runtime::current()->stats().tasks_waiting >= 2 * streams; }));
            fault counter(call::io_uring_enter2, EIO, 0);
            ctx.cancel();
            all.wait();
            calls.push_back(counter.calls());
            EXPECT_EQ(cancelled, 2 * streams);
        }
        std::sort(calls.begin(), calls.end());
        EXPECT_LT(calls[rounds / 2], streams);
    });
}

/// It is written down; the timer that is armed for the old one finds it.
TEST_P(faults, moving_a_deadline_makes_no_call) {
    run([] {
        auto p = connect_local();
        auto reads = mpg::spawn([&] {
            std::byte one;
            return p.server.read(std::span(&one, 1)).error();
        });
        EXPECT_TRUE(eventually([&] { return mpg::runtime::current()->stats().tasks_waiting >= 1; }));
        constexpr int moves = 10'000;
        auto at = mpg::clock::now() + 1h;
        {
            fault entered(call::io_uring_enter2, EIO, 0), changed(call::epoll_ctl, EIO, 0), told(call::write, EIO, 0);
            for (int i = 0; i != moves; ++i) p.server.set_read_deadline(at += 1us);
            EXPECT_LT(entered.calls() + changed.calls() + told.calls(), moves / 100); // other processors look around
        }
        p.server.set_read_deadline(mpg::clock::now());
        EXPECT_EQ(reads.join(), mpg::errc::deadline_exceeded);
    });
}

TEST_P(faults, the_poller_goes_on_when_it_is_refused) {
    run([] {
        live_server s;
        add_echo(s);
        s.start();
        for (int error : {EAGAIN, EBUSY, ENOMEM, EINTR, EBADR}) {
            fault a(call::io_uring_enter2, error, 5), b(call::epoll_pwait2, error == EBADR ? EINTR : error, 5);
            EXPECT_TRUE(serves(s)) << std::strerror(error);
        }
    });
}

TEST_P(faults, what_cannot_be_made_is_said_and_leaves_nothing) {
    run([] {
        auto l = listen_local();
        const auto at = l.local_endpoint();
        for (int error : {EMFILE, ENFILE, ENOBUFS, ENOMEM}) {
            const std::error_code expected(error, std::system_category());
            fault a(call::socket, error, 7);
            EXPECT_EQ(mpg::net::tcp_stream::connect(at).error(), expected);
            EXPECT_EQ(mpg::net::tcp_listener::bind("127.0.0.1:0").error(), expected);
            EXPECT_EQ(mpg::net::udp_socket::bind("127.0.0.1:0").error(), expected);
            EXPECT_EQ(mpg::net::udp_socket::connect(at).error(), expected);
            EXPECT_EQ(mpg::net::unix_stream::connect("@nobody").error(), expected);
            EXPECT_EQ(mpg::net::unix_listener::bind("@x").error(), expected);
            EXPECT_EQ(mpg::net::unix_datagram::bind("@x").error(), expected);
            fault b(call::pipe2, error), c(call::socketpair, error), d(call::open, error);
            EXPECT_EQ(mpg::pipe().error(), expected);
            EXPECT_EQ(mpg::net::unix_stream::pair().error(), expected);
            EXPECT_EQ(mpg::file::open("/dev/null").error(), expected);
        }
        for (call c : {call::bind, call::listen, call::setsockopt}) {
            fault f(c, ENOBUFS);
            EXPECT_EQ(mpg::net::tcp_listener::bind("127.0.0.1:0").error(), std::errc::no_buffer_space);
        }
        fault f(call::bind, EADDRINUSE);
        EXPECT_EQ(mpg::net::unix_listener::bind("@x").error(), std::errc::address_in_use);
    });
}

TEST_P(faults, out_of_ports_is_an_error_that_passes) {
    run([] {
        live_server s;
        add_echo(s);
        s.start();
        mpg::http::client client;
        const std::string url = "http://" + s.address().to_string() + "/ok";
        {
            fault f(call::connect, EADDRNOTAVAIL, 2);
            EXPECT_EQ(mpg::net::tcp_stream::connect(s.address()).error(), std::errc::address_not_available);
            const auto r = client.get(url);
            EXPECT_FALSE(r);
            EXPECT_EQ(f.hits(), 2);
        }
        const auto r = client.get(url);
        ASSERT_TRUE(r) << r.error().message();
        EXPECT_EQ(r->status(), 200);
    });
}

/// At each byte of a request, and of its response, the client resets the connection or ends it.
TEST_P(faults, clients_that_leave_at_any_byte) {
    run([] {
        live_server s;
        add_echo(s);
        s.start();
        std::size_t reply_size = 0;
        {
            outsider o(s.address());
            ASSERT_TRUE(o.send(post));
            o.end();
            const std::string whole = o.read(4096);
            ASSERT_TRUE(whole.ends_with("0123456789"));
            reply_size = whole.size();
        }
        for (std::size_t n = 0; n <= post.size(); ++n) {
            outsider reset(s.address()), ends(s.address());
            ASSERT_TRUE(reset.send(post.substr(0, n)));
            ASSERT_TRUE(ends.send(post.substr(0, n)));
            reset.reset_connection();
            ends.end();
            const std::string got = ends.read(4096);
            EXPECT_TRUE(n == post.size() ? got.size() == reply_size : got.size() < reply_size + 200) << n;
        }
        for (std::size_t n = 0; n <= reply_size; ++n) {
            outsider reset(s.address());
            ASSERT_TRUE(reset.send(post));
            EXPECT_EQ(reset.read(n).size(), n);
            reset.reset_connection();
        }
        EXPECT_TRUE(no_connection_is_left(s));
        EXPECT_TRUE(serves(s));
    });
}

/// A server that leaves at any byte of its response: the client says so, or has all of it.
TEST_P(faults, servers_that_leave_at_any_byte) {
    run([] {
        constexpr std::string_view whole = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello";
        auto l = listen_local();
        std::atomic<std::size_t> n{0}; // the client has all of a response before its server looks at what is next
        std::atomic<bool> reset{false};
        auto serving = mpg::spawn([&] {
            while (auto c = l.accept()) {
                std::byte buffer[1024];
                if (!c->read(buffer)) continue;
                if (n != 0 && !c->write(bytes(whole.substr(0, n)))) continue;
                if (reset) (void)c->set_linger(0s);
                c->close();
            }
        });
        mpg::http::client client;
        const std::string url = "http://" + l.local_endpoint().to_string() + "/";
        for (bool r : {false, true})
            for (std::size_t i = 0; i <= whole.size(); ++i) {
                n = i;
                reset = r;
                auto got = client.get(url);
                bool all = false;
                if (got) {
                    auto body = got->body().read_all();
                    all = body && *body == "hello";
                }
                if (!reset) {
                    EXPECT_EQ(all, n == whole.size()) << n;
                } else {
                    EXPECT_TRUE(!all || n == whole.size()) << n; // a reset may overtake what was sent
                }
            }
        l.close();
        serving.join();
    });
}

TEST_P(faults, copies_are_right_at_every_short_count_and_error) {
    run([] {
        const auto path = std::filesystem::temp_directory_path() / ("mpg_fault_" + std::to_string(::getpid()));
        struct remover {
            const std::filesystem::path& p;
            ~remover() {
                std::filesystem::remove(p);
                std::filesystem::remove(p.string() + "2");
            }
        } remove_later{path};
        std::string data;
        for (int i = 0; i != 30'000; ++i) data += std::to_string(i);
        {
            auto f = mpg::file::open(path.string(), O_WRONLY | O_CREAT | O_TRUNC);
            ASSERT_TRUE(f && f->write(bytes(data)));
        }
        enum class kind { sockets, from_file, to_file };
        // What has come out, and what copy has said.
        auto copied = [&](kind k, mpg::copy_info& info) {
            auto from = connect_local(), to = connect_local();
            auto file = mpg::file::open(path.string());
            auto into = mpg::file::open(path.string() + "2", O_RDWR | O_CREAT | O_TRUNC);
            auto sender = mpg::spawn([&] {
                if (k == kind::sockets) (void)from.client.write(bytes(data));
                from.client.close();
            });
            auto receiver = mpg::spawn([&] { return read_all(to.server); });
            const auto r = k == kind::sockets     ? mpg::copy(to.client, from.server, info)
                           : k == kind::from_file ? mpg::copy(to.client, *file, info)
                                                  : mpg::copy(*into, *file, info);
            from.server.close();
            to.client.close();
            sender.join();
            std::string got = receiver.join();
            if (k == kind::to_file) {
                got.resize(static_cast<std::size_t>(*into->size()));
                EXPECT_EQ(into->read_at({reinterpret_cast<std::byte*>(got.data()), got.size()}, 0), got.size());
            }
            return std::pair(r, got);
        };
        const std::pair<kind, call> kinds[] = {{kind::sockets, call::splice},
                                               {kind::from_file, call::sendfile},
                                               {kind::to_file, call::copy_file_range}};
        for (const auto& [k, c] : kinds) {
            mpg::copy_info info;
            {
                short_transfers few(777);
                const auto [r, got] = copied(k, info);
                EXPECT_TRUE(r && got == data);
            }
            for (int error : {EINTR, ENOMEM, EIO, EINVAL, ENOSYS, EXDEV})
                for (long skip : {0, 1, 2, 5}) {
                    const std::string when = std::string(std::strerror(error)) + " after " + std::to_string(skip);
                    short_transfers few(100'000);
                    fault f(c, error, 1, skip);
                    const auto [r, got] = copied(k, info);
                    EXPECT_EQ(info.bytes, got.size()) << when;
                    EXPECT_TRUE(got == data.substr(0, got.size())) << when;
                    if (f.hits() == 0 || error == EINTR) {
                        EXPECT_TRUE(r && got == data) << when;
                    } else if (error == ENOMEM || error == EIO) {
                        EXPECT_EQ(r.error(), std::error_code(error, std::system_category())) << when;
                    } else if (c != call::splice) { // what is refused is done in another way
                        EXPECT_TRUE(r && got == data) << when;
                        EXPECT_NE(info.method, mpg::copy_method::none);
                    }
                }
        }
        fault f(call::pipe2, EMFILE);
        mpg::copy_info info;
        EXPECT_EQ(copied(kind::sockets, info).first.error(), std::errc::too_many_files_open);
    });
}

/// What was written is not on the disk: that must be heard, and only once. Where fsync is called; what a ring has said of its
/// own: file_test.
TEST_P(faults, a_sync_that_fails_is_said) {
    run([] {
        const auto path = std::filesystem::temp_directory_path() / ("mpg_fault_sync_" + std::to_string(::getpid()));
        auto file = mpg::file::open(path.string(), O_RDWR | O_CREAT | O_TRUNC);
        std::filesystem::remove(path);
        ASSERT_TRUE(file && file->write(bytes("x")));
        for (int error : {EIO, ENOSPC, EDQUOT}) {
            fault f(call::fsync, error);
            const bool calls = GetParam().backend == mpg::netpoll::epoll;
            EXPECT_EQ(file->sync(), std::error_code(calls ? error : 0, std::system_category()));
            EXPECT_EQ(f.hits(), calls);
            EXPECT_FALSE(file->sync());
        }
    });
}

TEST_P(faults, a_connection_that_is_closed_while_it_is_looked_at_is_not_taken_for_another) {
    run([] {
        using mpg::http::detail::link;
        for (bool (*looks)(link&) : {+[](link& l) { return l.has_input(); }, +[](link& l) { return !l.is_quiet(); }}) {
            auto quiet = connect_local(), has_bytes = connect_local();
            ASSERT_TRUE(has_bytes.server.write(bytes("x")));
            std::byte one;
            ASSERT_EQ(mpg::blocking([&] { return ::recv(has_bytes.client.native_handle(), &one, 1, MSG_PEEK); }), 1);
            auto l = mpg::http::detail::make_link(std::move(quiet.client));
            const closed_in_recv closes([&] { l->close(); }, has_bytes.client.native_handle());
            EXPECT_FALSE(looks(*l));
            EXPECT_FALSE(l->is_open());
            EXPECT_LT(::fcntl(closes.number(), F_GETFD), 0); // closed, once nobody looked any more
            EXPECT_FALSE(l->has_input());
            EXPECT_FALSE(l->is_quiet());
        }
    });
}

TEST(faults_of_plain_threads, no_descriptor_to_wait_with_is_an_error) {
    auto p = connect_local();
    std::byte one;
    {
        fault f(call::eventfd, EMFILE);
        EXPECT_EQ(p.client.read(std::span(&one, 1)).error(), std::errc::too_many_files_open);
    }
    ASSERT_TRUE(p.server.write(bytes("x")));
    EXPECT_EQ(*p.client.read(std::span(&one, 1)), 1u);
}
